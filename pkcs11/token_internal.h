/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* How the functions of token.h get their jobs done: connect, log in, run, and repair. */
#ifndef P11K_PKCS11_TOKEN_INTERNAL_H
#define P11K_PKCS11_TOKEN_INTERNAL_H

#include "pkcs11/pool.h"

/* Runs the job on a session of the pool, and again where its failure allows it. */
KR_MUST_USE enum kr_status kr_token_run(struct kr_token *token, enum kr_need need,
                                        struct kr_job *job, struct kr_error *err);

/* For the counters of kr_token_get_stats(). */
void kr_token_count_wrap(struct kr_token *token);
void kr_token_count_unwrap(struct kr_token *token);
void kr_token_count_resident(struct kr_token *token);

#endif
