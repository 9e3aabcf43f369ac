/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* How the functions of token.h get their jobs done: connect, log in, run, and repair once. */
#ifndef P11K_PKCS11_TOKEN_INTERNAL_H
#define P11K_PKCS11_TOKEN_INTERNAL_H

#include "pkcs11/session.h"

enum kr_need { KR_NEED_SESSION, KR_NEED_LOGIN };

/* Waits for its turn, sees that the connection is there, runs the job on the worker, and when the
 * token was lost underneath, connects again and runs it once more. */
KR_MUST_USE enum kr_status kr_token_run(struct kr_token *token, enum kr_need need,
                                        struct kr_job *job, struct kr_error *err);

/* For the counters of kr_token_get_stats(). */
void kr_token_count_wrap(struct kr_token *token);
void kr_token_count_unwrap(struct kr_token *token);
void kr_token_count_resident(struct kr_token *token);

/* C_Login with the connection's PIN, through the guard (login.c). `run` runs a job on the worker.
 * *ret_tried tells whether C_Login was called. */
typedef enum kr_status (*kr_run)(struct kr_token *token, struct kr_job *job, struct kr_error *err);
KR_MUST_USE enum kr_status kr_login(struct kr_token *token, const struct kr_token_options *options,
                                    kr_run run, bool *ret_tried, struct kr_error *err);

#endif
