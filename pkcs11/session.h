/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What a worker knows of its token: module, slot, session. Owned by the worker thread; everything
 * here runs on it. The handles of keys are lent to it for each job.
 */
#ifndef P11K_PKCS11_SESSION_H
#define P11K_PKCS11_SESSION_H

#include "pkcs11/token.h"
#include "pkcs11/worker.h"

struct kr_rsa_public;

struct kr_key_entry {
    CK_OBJECT_HANDLE handle;
    struct kr_object_id id; /* empty when the key has none, or one that is too long for us */
    enum kr_key_kind kind;
    bool checked;               /* atomic: it may serve as a master key, its attributes were read */
    bool imported;              /* atomic: the same, but for having been outside */
    struct kr_rsa_public *half; /* atomic: of an RSA key that was used, see rsa.c */
};

/* The keys of a token, sorted by id. Found by one session, used by all of them (handles of token
 * objects are the application's, PKCS#11 v3.0 section 2.4), and never changed. */
struct kr_keys {
    int refs;
    size_t count;
    struct kr_key_entry entries[];
};

struct kr_keys *kr_keys_ref(struct kr_keys *keys); /* NULL is accepted */
void kr_keys_unref(struct kr_keys *keys);

struct kr_session {
    struct kr_worker *worker;
    struct kr_module *module;
    char *uri; /* what the token must match */
    struct kr_quirks quirks;
    CK_FUNCTION_LIST *p11; /* NULL: not attached to the module */
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE handle; /* CK_INVALID_HANDLE: none */
    unsigned epoch;           /* the module's when the session was opened */
    CK_ULONG session_max;     /* what the token said; 0: no limit known */
    bool silent;              /* a token gave no information about itself at the last search */
    bool needs_initialise;    /* the module was finalised by somebody else */
    unsigned unwrap_template; /* that the token took last (aes.c) */

    /* of the job that runs, see struct kr_job */
    enum kr_loss lost;
    uint64_t searches;
    struct kr_keys *keys; /* NULL: not searched yet */
    bool keys_fresh, wants_keys, forget_keys;
};

struct kr_session *kr_session_new(struct kr_worker *worker, struct kr_module *module,
                                  const char *uri);
/* Frees memory only: no call is made. */
void kr_session_free(struct kr_session *session);

/* Takes note of what a Cryptoki call returned; a written-off worker gets CKR_FUNCTION_CANCELED. */
CK_RV kr_session_result(struct kr_session *session, CK_RV rv);

/* The worst loss of a job is what counts. */
void kr_session_note_loss(struct kr_session *session, enum kr_loss loss);

/* One stamped Cryptoki call: P11(s, C_GetTokenInfo, slot, &info). Evaluates to its CK_RV. */
#define P11(s, function, ...)                                                                      \
    (kr_call_begin((s)->worker, #function) ? kr_session_result(s, (s)->p11->function(__VA_ARGS__)) \
                                           : CKR_FUNCTION_CANCELED)

/* Runs a job and settles what its failure means: when the token no longer answers, that is the
 * error, whatever the job made of it. */
void kr_session_run(struct kr_session *session, struct kr_job *job);

/* Finds the one token and opens a session; initialises the module again where that is needed, or
 * with `restart` where that may be done at all (kr_module_restart). */
KR_MUST_USE enum kr_status kr_session_connect(struct kr_session *session, bool restart,
                                              struct kr_error *err);
/* Opens a session with a token that was found before, in place of the one that there was. */
KR_MUST_USE enum kr_status kr_session_open(struct kr_session *session, struct kr_error *err);
/* Closes the session if there is one. */
void kr_session_drop(struct kr_session *session);
/* For who attached to the module for this session alone: closes it and leaves the module. */
void kr_session_detach(struct kr_session *session);
/* Closes the session of a written-off worker, whose call has returned after all. */
void kr_session_abandon(struct kr_session *session);

/* A moment's wait before a second try: what hindered the first may be another process's write. */
void kr_session_pause(void);

/* KR_OK while the session and its token answer. */
KR_MUST_USE enum kr_status kr_session_alive(struct kr_session *session, struct kr_error *err);

/* The same, and private objects can be seen; else they would seem not to exist. */
KR_MUST_USE enum kr_status kr_session_sees_private(struct kr_session *session,
                                                   struct kr_error *err);

/* Fresh CK_TOKEN_INFO of the connected token. */
KR_MUST_USE enum kr_status kr_session_token_info(struct kr_session *session, CK_TOKEN_INFO *ret,
                                                 struct kr_error *err);
void kr_token_info_fill(struct kr_token_info *ret, CK_SLOT_ID slot, const CK_TOKEN_INFO *info);

/* *ret is malloc'ed. */
KR_MUST_USE enum kr_status kr_session_mechanisms(struct kr_session *session, CK_ULONG **ret,
                                                 size_t *ret_count, struct kr_error *err);

/* --- objects (objects.c) ---------------------------------------------------------------------- */

/* Every object that matches; *ret is malloc'ed. */
KR_MUST_USE enum kr_status kr_objects_find(struct kr_session *session, CK_ATTRIBUTE *template,
                                           CK_ULONG attrs, CK_OBJECT_HANDLE **ret,
                                           size_t *ret_count, struct kr_error *err);

/* C_GetAttributeValue; where it only failed because the object goes away, the job is run again. */
CK_RV kr_object_read(struct kr_session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *attrs,
                     CK_ULONG count);

/* --- keys (objects.c) ------------------------------------------------------------------------- */

/* Searches the token for secret keys and RSA private keys; afterwards the handles are known. */
KR_MUST_USE enum kr_status kr_keys_load(struct kr_session *session, struct kr_error *err);
void kr_keys_forget(struct kr_session *session);

/* The key with this id, among those that are known. Where a search could still find it, the job is
 * to fail as this does: it is run again after the search, which one session makes for all.
 * KR_NOT_FOUND, KR_REFUSED when there are two. Valid until the next search. */
KR_MUST_USE enum kr_status kr_keys_find(struct kr_session *session, const struct kr_object_id *id,
                                        struct kr_key_entry **ret, struct kr_error *err);

/* Reads all that matters of a key. */
KR_MUST_USE enum kr_status kr_key_read(struct kr_session *session, const struct kr_key_entry *key,
                                       struct kr_master_info *ret, struct kr_error *err);

/* Finds a key and sees that it may serve as a master key. `ret_info` may be NULL: then a key that
 * was checked before is not read again. */
KR_MUST_USE enum kr_status kr_key_usable(struct kr_session *session, const struct kr_object_id *id,
                                         CK_OBJECT_HANDLE *ret, struct kr_master_info *ret_info,
                                         struct kr_error *err);

/* KR_OK when `info` may serve as a master key, else KR_REFUSED with the reason. */
KR_MUST_USE enum kr_status kr_key_accept(const struct kr_master_info *info, struct kr_error *err);

/* The same two for a key that was outside of the token once, and is now as closed as any other. */
KR_MUST_USE enum kr_status kr_imported_usable(struct kr_session *session,
                                              const struct kr_object_id *id, CK_OBJECT_HANDLE *ret,
                                              struct kr_error *err);
KR_MUST_USE enum kr_status kr_key_accept_imported(const struct kr_master_info *info,
                                                  struct kr_error *err);

/*
 * A key to be made in the token under an id that is chosen before: so a job that is run again after
 * a loss sees whether its first run made it. An AES-256 key has one pair of usages and one
 * mechanism, an RSA key pair decrypts and signs.
 */
enum kr_key_usage { KR_KEY_CRYPTS, KR_KEY_WRAPS };
struct kr_transport;
struct kr_key_order {
    struct kr_object_id id;
    char label[sizeof(((struct kr_master_info *)0)->label)];
    enum kr_key_kind kind;
    enum kr_key_usage usage;        /* of an AES key */
    CK_MECHANISM_TYPE mechanism;    /* of an AES key */
    const uint8_t *value;           /* of an AES key from outside: 32 bytes; NULL: generated */
    struct kr_transport *transport; /* and how it gets there */
    bool tried;                     /* there may be a key */
    bool made;                      /* there is one */
    struct kr_master_info info;     /* when it was made */
};

/* A fresh UUID. KR_USAGE when the label is too long. */
KR_MUST_USE enum kr_status kr_key_order_fill(struct kr_key_order *order, enum kr_key_kind kind,
                                             const char *label, struct kr_error *err);

/* The values by which modules say that they do not like a template; another may do. */
bool kr_template_refused(CK_RV rv);
/* The same, of a key that is made with CKA_ALLOWED_MECHANISMS: it may do without. */
bool kr_refused_when_made(CK_RV rv);

/* What an AES key of an order is to be; its first parts are what the attributes point to. */
enum { KR_KEY_ATTRS = 15 };
struct kr_key_template {
    CK_OBJECT_CLASS class;
    CK_KEY_TYPE type;
    CK_BBOOL yes, no, crypt, wrap;
    CK_MECHANISM_TYPE mechanism;
    CK_ATTRIBUTE attrs[KR_KEY_ATTRS + 2];
    CK_ULONG count;
};
void kr_key_template_fill(struct kr_key_template *t, const struct kr_key_order *order);
void kr_key_template_add(struct kr_key_template *t, CK_ATTRIBUTE_TYPE type, void *value,
                         CK_ULONG len);
/* Adds, as the last one, the mechanism that alone is allowed. */
void kr_key_template_allow(struct kr_key_template *t);

/* Makes the key, reads it, and sees that it came out as asked; else it is destroyed. */
KR_MUST_USE enum kr_status kr_key_make(struct kr_session *session, struct kr_key_order *order,
                                       struct kr_error *err);

/* Destroys a key, and the public half of a key pair. The known handles are forgotten. */
CK_RV kr_key_destroy(struct kr_session *session, CK_OBJECT_HANDLE handle, enum kr_key_kind kind,
                     const struct kr_object_id *id);

/* The id in hexadecimal, for messages. `ret` holds KR_ID_TEXT bytes. */
enum { KR_ID_TEXT = 2 * KR_OBJECT_ID_MAX + 1 };
void kr_id_text(const struct kr_object_id *id, char *ret);

/* --- random (mechanism.c) --------------------------------------------------------------------- */

/* The token's generator XOR OpenSSL's. */
KR_MUST_USE enum kr_status kr_session_random(struct kr_session *session, uint8_t *ret, size_t len,
                                             struct kr_error *err);

#endif
