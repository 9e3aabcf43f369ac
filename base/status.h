/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Status classes and the error record.
 *
 * Every function that can fail returns `enum kr_status` and takes a `struct kr_error *` (never
 * NULL) that it fills on failure and leaves alone on success. Callers switch on the class; people
 * read the text (what failed and why) and the hint (what to do next). Nothing below a face prints.
 * An error record belongs to its caller and holds no pointers to free; use one per thread.
 */
#ifndef P11K_BASE_STATUS_H
#define P11K_BASE_STATUS_H

#define KR_MUST_USE __attribute__((warn_unused_result))
#define KR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

enum kr_status {
    KR_OK = 0,
    KR_USAGE,             /* the caller asked for something that makes no sense */
    KR_CONFIG,            /* configuration, permissions of configured files */
    KR_TOKEN_UNAVAILABLE, /* module, token or session missing, hung or failing: may pass */
    KR_AUTH,              /* PIN refused, locked or guarded: never retried by itself */
    KR_INTEGRITY,         /* a keystore, envelope or key is not what it should be */
    KR_NOT_FOUND,
    KR_REFUSED, /* would be unsafe: in use, exists already, extractable, unconfirmed */
    KR_IO,      /* file system, disk full, lock wait exceeded */
    KR_INTERNAL /* out of memory, a library failed, a bug */
};

struct kr_error {
    enum kr_status status;
    unsigned long ckr;    /* Cryptoki return value that caused this; 0 for none */
    const char *ckr_name; /* static name of `ckr`; NULL for none */
    char text[768];
    char hint[512]; /* empty when there is nothing to advise */
};

#define KR_ERROR_INIT                                                                              \
    {                                                                                              \
        .status = KR_OK                                                                            \
    }

/* Fills the record (clearing hint and ckr) and returns `status`, so that callers can return it. */
enum kr_status kr_fail(struct kr_error *err, enum kr_status status, const char *fmt, ...)
    KR_PRINTF(3, 4);

/* Sets the hint of a record that holds a failure. */
void kr_hint(struct kr_error *err, const char *fmt, ...) KR_PRINTF(2, 3);

/* Puts "<what>: " in front of the text: used where a caller knows what the failure was part of. */
void kr_error_context(struct kr_error *err, const char *fmt, ...) KR_PRINTF(2, 3);

/* KR_INTERNAL with "out of memory"; a function so that no caller words it differently. */
enum kr_status kr_fail_memory(struct kr_error *err);

/* Lower-case name of a class, for JSON and logs ("token-unavailable"). Static storage. */
const char *kr_status_name(enum kr_status status);

/* The one control-flow macro: leaves the function when `expr` fails. For functions whose owned
 * locals carry cleanup attributes. */
#define KR_TRY(expr)                                                                               \
    do {                                                                                           \
        enum kr_status kr_try_ = (expr);                                                           \
        if (kr_try_ != KR_OK)                                                                      \
            return kr_try_;                                                                        \
    } while (0)

#endif
