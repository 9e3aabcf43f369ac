/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * How fast this machine is at what the keyring makes it do: the token's operations and page
 * ciphers. Nothing is written to the token or the keystore.
 */
#ifndef P11K_PROVIDER_BENCHMARK_H
#define P11K_PROVIDER_BENCHMARK_H

#include "pkcs11/token.h"

/* Called several times a second; false ends the measuring: what was measured up to then is the
 * result, and `interrupted` is true. */
typedef bool (*kr_benchmark_progress)(uint64_t done, uint64_t total, void *context);

struct kr_benchmark {
    double seconds; /* about as long as the token or the ciphers shall take */
    kr_benchmark_progress progress;
    void *context; /* of progress */
    bool interrupted;
};

/* --- the token -------------------------------------------------------------------------------- */

enum { KR_BENCHMARK_SESSIONS_MAX = 64, KR_BENCHMARK_ROWS_MAX = 16 };

/* The keyring's way to it: a connection with at least as many sessions as the highest number of
 * `sessions`, and the master key that wraps new envelopes. */
struct kr_benchmark_token {
    struct kr_token *token;
    struct kr_object_id master;
    enum kr_wrap_mechanism mechanism;
    unsigned sessions[KR_BENCHMARK_ROWS_MAX]; /* callers at the same time; rising */
    size_t count;
};

struct kr_token_rate {
    unsigned sessions;
    unsigned open; /* sessions: fewer where the token has no more, or needed no more */
    bool unwrap;   /* what a server does for each envelope at its start; else a wrap */
    uint64_t operations;
    double per_second;
    double p50_us, p99_us; /* of one operation, from its caller's side */
};

/* The keyring does not count these wraps: they are few, at most KR_BENCHMARK_WRAPS for each row,
 * since the wraps under one AES-GCM key have a limit (2^32). */
enum { KR_BENCHMARK_WRAPS = 1024 };

/* Two rows for each number of sessions. Random bytes are wrapped. Logs in. */
KR_MUST_USE enum kr_status kr_benchmark_token(struct kr_benchmark *benchmark,
                                              const struct kr_benchmark_token *subject,
                                              struct kr_token_rate ret[2 * KR_BENCHMARK_ROWS_MAX],
                                              size_t *ret_count, struct kr_error *err);

/* --- page ciphers ----------------------------------------------------------------------------- */

enum kr_page_engine {
    KR_ENGINE_ONE_PAGE,    /* hwaccel/page_cipher.h: the key kept */
    KR_ENGINE_MANY_PAGES,  /* hwaccel/pages.h: 16 at a time */
    KR_ENGINE_STREAMING,   /* one EVP context for ever, as `openssl speed` measures */
    KR_ENGINE_NEW_CONTEXT, /* EVP with a new context and an implicit fetch for each page */
    KR_ENGINES
};

struct kr_page_rate {
    const char *cipher; /* "aes-cbc", ..., "aes-ctr, GCM" (its padded form); static */
    bool encrypt;       /* for CTR this is decryption, too */
    size_t size;
    double gb_per_second[KR_ENGINES]; /* of CPU time, best round; 0: the engine is not for this */
};

enum { KR_PAGE_RATES_MAX = 64 };

/* Each engine's output is compared with plain EVP's first: KR_INTERNAL when it differs. The rounds
 * of the engines are interleaved. */
KR_MUST_USE enum kr_status kr_benchmark_pages(struct kr_benchmark *benchmark,
                                              struct kr_page_rate ret[KR_PAGE_RATES_MAX],
                                              size_t *ret_count, struct kr_error *err);

/* --- whole files ------------------------------------------------------------------------------ */

enum kr_file_work {
    KR_FILE_COPY,
    KR_FILE_VERIFY,    /* decrypt, and compare the CRC-32C; nothing is written */
    KR_FILE_REENCRYPT, /* the same, and encrypt and write */
    KR_FILE_ONE_PAGE,  /* the same again, by the engine for one page */
    KR_FILE_WORKS
};

/* A file of encrypted pages (aes-cbc, 16 KiB) and its copy, which have no name any more. */
struct kr_benchmark_file {
    const char *directory;
    uint64_t size;    /* bytes, in whole pages */
    unsigned threads; /* 0: as many as processors */
};

struct kr_file_rate {
    enum kr_file_work work;
    unsigned threads;
    bool direct;                  /* past the page cache */
    const char *buffered_because; /* static text: why it is not; NULL where it was not asked for */
    double gb_per_second;         /* of time that passes */
    double gb_per_cpu_second;     /* of all threads together, input and output included */
};

enum { KR_FILE_RATES_MAX = 16 };

/* In the page cache with one thread and with all, then past it with all; the best of three rounds.
 * KR_IO. */
KR_MUST_USE enum kr_status kr_benchmark_file(struct kr_benchmark *benchmark,
                                             const struct kr_benchmark_file *subject,
                                             struct kr_file_rate ret[KR_FILE_RATES_MAX],
                                             size_t *ret_count, struct kr_error *err);

#endif
