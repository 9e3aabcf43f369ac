/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The keystore: one SQLite file of envelopes and metadata, worthless without the token
 * (docs/FORMAT.md has the schema). Rollback journal, synchronous=EXTRA, so that a process may be
 * killed at any instruction and a committed change is there. Several processes share it; writers
 * take turns and wait at most the lock timeout (then KR_IO).
 *
 * Version numbers of a key are never used twice: each key row keeps the highest number ever given,
 * and key rows are never deleted. A manifest row holds an HMAC-SHA-256 over all other rows under a
 * manifest key that is itself sealed in an envelope; each commit renews it and kr_keystore_verify()
 * checks it, so that any edit of rows by other hands is seen.
 *
 * A handle is used by one thread at a time. After a fork the child opens its own. While a handle is
 * open, nothing else in the process opens and closes the file itself: that would drop the handle's
 * locks (POSIX record locks).
 */
#ifndef P11K_WRAP_KEYSTORE_H
#define P11K_WRAP_KEYSTORE_H

#include "pkcs11/token.h"
#include "wrap/audit_head.h"

struct kr_keystore;

#define KR_KEYSTORE_FORMAT 1
#define KR_KEYSTORE_UUID_BYTES 16
#define KR_MANIFEST_KEY_BYTES 32
#define KR_KEY_VERSION_MAX 0xfffffffeu

struct kr_keystore_options {
    const char *path;
    const char
        *keyring;  /* expected name; a keystore of another keyring is KR_INTEGRITY. NULL: any */
    bool writable; /* false: opened read-only where that is enough (see open) */
    unsigned lock_timeout_ms;
};

/* One is current for each token: new envelopes are sealed for all current ones. */
enum kr_master_state { KR_MASTER_CURRENT = 1, KR_MASTER_OLD = 2 };

struct kr_master_row {
    struct kr_object_id id;
    char label[128];
    char token[33]; /* NAME of the [token:NAME] section it was made with */
    enum kr_master_state state;
    enum kr_wrap_mechanism mechanism; /* proven when it was added */
    int64_t created;                  /* unix seconds */
    uint64_t wraps;                   /* how many sealing keys it has wrapped */
};

/* A data key; text fields of a row are valid until the next row or call. */
struct kr_key_row {
    const char *ns, *id, *owner;
    bool disabled;
    uint32_t high_water; /* the highest version ever given, also of versions that are gone */
    int64_t created;
};

struct kr_version_row {
    const char *ns, *id, *owner;
    uint32_t version;
    const char *cipher;
    int64_t created;
    int64_t bundled; /* when the newest bundle was made that has it; 0: none has */
    const uint8_t *envelope;
    size_t envelope_len;
    bool key_disabled; /* of its key */
};

typedef enum kr_status (*kr_key_visitor)(const struct kr_key_row *row, void *context,
                                         struct kr_error *err);
typedef enum kr_status (*kr_version_visitor)(const struct kr_version_row *row, void *context,
                                             struct kr_error *err);

/* --- life ---------------------------------------------------------------------------------- */

/* Makes a new keystore, whole or not at all: it is built under a temporary name in the same
 * directory, fsynced, and linked to `path` only by kr_keystore_commit_new(). KR_REFUSED when `path`
 * exists. The returned handle is inside a transaction. `uuid` is chosen by the caller, since
 * envelopes carry it. Made as root, the file gets the directory's owner and group; mode 0600. */
KR_MUST_USE enum kr_status kr_keystore_create(const struct kr_keystore_options *options,
                                              const uint8_t uuid[KR_KEYSTORE_UUID_BYTES],
                                              struct kr_keystore **ret, struct kr_error *err);
/* After a failure the handle can only be closed. */
KR_MUST_USE enum kr_status kr_keystore_commit_new(struct kr_keystore *keystore,
                                                  struct kr_error *err);

/* KR_NOT_FOUND (hint: master create, or restore the backup), KR_INTEGRITY (not a keystore,
 * truncated, damaged, another keyring's, newer format), KR_CONFIG (permissions), KR_IO.
 * A hot journal left by a killed writer is rolled back, for which write permission is needed: a
 * file that we may write is opened so that SQLite can do it also with writable = false. */
KR_MUST_USE enum kr_status kr_keystore_open(const struct kr_keystore_options *options,
                                            struct kr_keystore **ret, struct kr_error *err);

/* Rolls back an open transaction; a keystore that was never committed is removed. NULL accepted. */
void kr_keystore_close(struct kr_keystore *keystore);

const uint8_t *kr_keystore_uuid(const struct kr_keystore *keystore);
const char *kr_keystore_path(const struct kr_keystore *keystore);

/* Changes when any process has committed since; cheap enough to ask every second. KR_IO when the
 * file was replaced or removed: this handle then reads and writes what nobody else sees. */
KR_MUST_USE enum kr_status kr_keystore_change_counter(struct kr_keystore *keystore, uint64_t *ret,
                                                      struct kr_error *err);

/* --- transactions -------------------------------------------------------------------------- */

/* A consistent view for several reads / a write transaction that has the write lock at once and has
 * checked the manifest, for which its key must have been set: an edit by other hands is not given
 * our MAC with the next commit. Transactions do not nest. */
KR_MUST_USE enum kr_status kr_keystore_begin_read(struct kr_keystore *keystore,
                                                  struct kr_error *err);
KR_MUST_USE enum kr_status kr_keystore_begin_write(struct kr_keystore *keystore,
                                                   struct kr_error *err);
/* Ends a read view, or renews the manifest (the manifest key must have been set) and makes a write
 * durable. On failure everything is rolled back. */
KR_MUST_USE enum kr_status kr_keystore_commit(struct kr_keystore *keystore, struct kr_error *err);
void kr_keystore_rollback(struct kr_keystore *keystore);

/* --- manifest ------------------------------------------------------------------------------ */

/* The envelope of the manifest key: stored at creation, wrapped anew when master keys change, read
 * at each open. The blob that `get` returns is malloc'ed. */
KR_MUST_USE enum kr_status kr_keystore_set_manifest_envelope(struct kr_keystore *keystore,
                                                             const uint8_t *blob, size_t len,
                                                             struct kr_error *err);
KR_MUST_USE enum kr_status kr_keystore_get_manifest_envelope(struct kr_keystore *keystore,
                                                             uint8_t **ret, size_t *ret_len,
                                                             struct kr_error *err);
/* Of a write transaction: its commit makes the next one. */
KR_MUST_USE enum kr_status kr_keystore_get_generation(struct kr_keystore *keystore, int64_t *ret,
                                                      struct kr_error *err);

/* The newest record of the audit log that is known, so that its records cannot be removed or
 * written anew unseen; `get` says what is in the file, verified or not. A new keystore has the
 * number 0. */
KR_MUST_USE enum kr_status kr_keystore_set_audit_head(struct kr_keystore *keystore,
                                                      const struct kr_audit_head *head,
                                                      struct kr_error *err);
KR_MUST_USE enum kr_status kr_keystore_get_audit_head(struct kr_keystore *keystore,
                                                      struct kr_audit_head *ret,
                                                      struct kr_error *err);
/* Copies the key into secret memory of the handle. */
KR_MUST_USE enum kr_status kr_keystore_set_manifest_key(struct kr_keystore *keystore,
                                                        const uint8_t key[KR_MANIFEST_KEY_BYTES],
                                                        struct kr_error *err);
/* KR_INTEGRITY when rows were changed by something that did not have the manifest key, or when the
 * file is older than one that this handle has seen. */
KR_MUST_USE enum kr_status kr_keystore_verify(struct kr_keystore *keystore, struct kr_error *err);

/* Counts the commits to a file; the start of the MAC tells two files of one number apart. */
#define KR_GENERATION_TAG_BYTES 16
struct kr_generation {
    uint64_t number; /* 0: none seen yet */
    uint8_t tag[KR_GENERATION_TAG_BYTES];
};

/* The newest that this handle has verified or committed. */
struct kr_generation kr_keystore_generation(const struct kr_keystore *keystore);
/* Inside a write transaction: its commit gets a number above `floor`. */
KR_MUST_USE enum kr_status kr_keystore_raise_generation(struct kr_keystore *keystore,
                                                        uint64_t floor, struct kr_error *err);

/* --- rows; writers only inside a write transaction ------------------------------------------ */

/* A current one makes those of its token before it old. */
KR_MUST_USE enum kr_status kr_keystore_add_master(struct kr_keystore *keystore,
                                                  const struct kr_master_row *row,
                                                  struct kr_error *err);
/* *ret is malloc'ed. */
KR_MUST_USE enum kr_status kr_keystore_list_masters(struct kr_keystore *keystore,
                                                    struct kr_master_row **ret, size_t *ret_count,
                                                    struct kr_error *err);
/* Makes a master key one that new envelopes are not sealed for. KR_NOT_FOUND. */
KR_MUST_USE enum kr_status kr_keystore_set_master_old(struct kr_keystore *keystore,
                                                      const struct kr_object_id *master_id,
                                                      struct kr_error *err);
/* Forgets a master key; that nothing is wrapped by it any more is for the caller to see. */
KR_MUST_USE enum kr_status kr_keystore_remove_master(struct kr_keystore *keystore,
                                                     const struct kr_object_id *master_id,
                                                     struct kr_error *err);
/* Counts one wrap; KR_REFUSED at the limit of random GCM nonces under one key (2^32, NIST SP
 * 800-38D section 8.3). */
KR_MUST_USE enum kr_status kr_keystore_count_wrap(struct kr_keystore *keystore,
                                                  const struct kr_object_id *master_id,
                                                  struct kr_error *err);

/* Raises the key's high-water mark by `step` and returns it as the new version's number, making
 * the key row when there is none (then the first number is 1 whatever the step). KR_REFUSED when
 * disabled, KR_USAGE when the numbers are used up. */
KR_MUST_USE enum kr_status kr_keystore_next_version(struct kr_keystore *keystore, const char *ns,
                                                    const char *id, const char *owner,
                                                    uint32_t step, uint32_t *ret,
                                                    struct kr_error *err);
/* `row->key_disabled` and `row->bundled` are ignored. KR_REFUSED unless the number came from
 * kr_keystore_next_version() and is above every number that was ever stored for this key. */
KR_MUST_USE enum kr_status kr_keystore_add_version(struct kr_keystore *keystore,
                                                   const struct kr_version_row *row,
                                                   struct kr_error *err);
/* The same version, wrapped anew: only what names the row and the envelope count. KR_NOT_FOUND when
 * the version is gone, or its envelope is no longer `old`. */
KR_MUST_USE enum kr_status kr_keystore_replace_envelope(struct kr_keystore *keystore,
                                                        const struct kr_version_row *row,
                                                        const uint8_t *old, size_t old_len,
                                                        struct kr_error *err);
/* Remembers that a bundle has this version, made at `when` (unix seconds). One that is gone is left
 * alone. */
#define KR_EVERY_VERSION 0u
KR_MUST_USE enum kr_status kr_keystore_set_bundled(struct kr_keystore *keystore, const char *ns,
                                                   const char *id, const char *owner,
                                                   uint32_t version, int64_t when,
                                                   struct kr_error *err);
/* Deletes all versions of a key; its row and high-water mark stay. */
KR_MUST_USE enum kr_status kr_keystore_destroy_key(struct kr_keystore *keystore, const char *ns,
                                                   const char *id, const char *owner,
                                                   struct kr_error *err);
/* Deletes one version; its number stays used. KR_NOT_FOUND. */
KR_MUST_USE enum kr_status kr_keystore_remove_version(struct kr_keystore *keystore, const char *ns,
                                                      const char *id, const char *owner,
                                                      uint32_t version, struct kr_error *err);
KR_MUST_USE enum kr_status kr_keystore_set_disabled(struct kr_keystore *keystore, const char *ns,
                                                    const char *id, const char *owner,
                                                    bool disabled, struct kr_error *err);

/* Ordered by namespace, id, owner (, version); ids that are numbers in numeric order. A visitor's
 * failure ends the walk and is returned. `ns` NULL = all. */
KR_MUST_USE enum kr_status kr_keystore_each_key(struct kr_keystore *keystore, const char *ns,
                                                kr_key_visitor visit, void *context,
                                                struct kr_error *err);
KR_MUST_USE enum kr_status kr_keystore_each_version(struct kr_keystore *keystore, const char *ns,
                                                    kr_version_visitor visit, void *context,
                                                    struct kr_error *err);
/* Every version of every key, the newest first. */
KR_MUST_USE enum kr_status kr_keystore_each_newest(struct kr_keystore *keystore,
                                                   kr_version_visitor visit, void *context,
                                                   struct kr_error *err);

#endif
