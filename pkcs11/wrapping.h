/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Wrapping a sealing key by each mechanism (docs/FORMAT.md): mechanism.c has the choice and the
 * proof, aes.c and rsa.c the mechanisms. Everything runs on a worker.
 */
#ifndef P11K_PKCS11_WRAPPING_H
#define P11K_PKCS11_WRAPPING_H

#include "pkcs11/session.h"

/* NSS answers a length query with too little: every output buffer is larger than any answer. */
enum { KR_WRAP_BUFFER = 1024 };

KR_MUST_USE enum kr_status kr_wrap_with(struct kr_session *session, CK_OBJECT_HANDLE master,
                                        const struct kr_object_id *id,
                                        enum kr_wrap_mechanism mechanism, const uint8_t *key,
                                        uint8_t *ret_wrapped, size_t *ret_len,
                                        struct kr_error *err);
/* Before a wrap is called damaged the token must show that it unwraps what it wraps now, and refuse
 * this one again. `*doubted`, false at first, lasts over the runs of a job. */
KR_MUST_USE enum kr_status kr_unwrap_with(struct kr_session *session, CK_OBJECT_HANDLE master,
                                          const struct kr_object_id *id,
                                          enum kr_wrap_mechanism mechanism, const uint8_t *wrapped,
                                          size_t wrapped_len, uint8_t *ret_key, bool *doubted,
                                          struct kr_error *err);

/* A round trip with a random key, and a damaged wrap that must be refused. */
KR_MUST_USE enum kr_status kr_prove_with(struct kr_session *session, CK_OBJECT_HANDLE master,
                                         const struct kr_object_id *id,
                                         enum kr_wrap_mechanism mechanism, struct kr_error *err);

/* Their numbers with this token. */
CK_MECHANISM_TYPE kr_gcm_code(const struct kr_session *session);
CK_MECHANISM_TYPE kr_kwp_code(const struct kr_session *session);

/* --- the mechanisms --------------------------------------------------------------------------- */

KR_MUST_USE enum kr_status kr_gcm_wrap(struct kr_session *session, CK_OBJECT_HANDLE master,
                                       const struct kr_object_id *id, const uint8_t *key,
                                       uint8_t *ret_wrapped, size_t *ret_len, struct kr_error *err);
KR_MUST_USE enum kr_status kr_gcm_unwrap(struct kr_session *session, CK_OBJECT_HANDLE master,
                                         const struct kr_object_id *id, const uint8_t *wrapped,
                                         size_t wrapped_len, uint8_t *ret_key,
                                         struct kr_error *err);

KR_MUST_USE enum kr_status kr_kwp_wrap(struct kr_session *session, CK_OBJECT_HANDLE master,
                                       const uint8_t *key, uint8_t *ret_wrapped, size_t *ret_len,
                                       struct kr_error *err);
KR_MUST_USE enum kr_status kr_kwp_unwrap(struct kr_session *session, CK_OBJECT_HANDLE master,
                                         const uint8_t *wrapped, size_t wrapped_len,
                                         uint8_t *ret_key, struct kr_error *err);

/* `mechanism` is one of the two of RSA. */
KR_MUST_USE enum kr_status kr_rsa_wrap(struct kr_session *session, CK_OBJECT_HANDLE master,
                                       const struct kr_object_id *id,
                                       enum kr_wrap_mechanism mechanism, const uint8_t *key,
                                       uint8_t *ret_wrapped, size_t *ret_len, struct kr_error *err);
KR_MUST_USE enum kr_status kr_rsa_unwrap(struct kr_session *session, CK_OBJECT_HANDLE master,
                                         const struct kr_object_id *id,
                                         enum kr_wrap_mechanism mechanism, const uint8_t *wrapped,
                                         size_t wrapped_len, uint8_t *ret_key,
                                         struct kr_error *err);

/* The numbers of an RSA key object; *ret_found is false where the token does not tell them. */
KR_MUST_USE enum kr_status kr_rsa_read_public(struct kr_session *session, CK_OBJECT_HANDLE object,
                                              struct kr_rsa_public *ret, bool *ret_found,
                                              struct kr_error *err);
/* The parameters of OAEP with the hash of `mechanism`, and no label. */
CK_RSA_PKCS_OAEP_PARAMS kr_rsa_oaep(enum kr_wrap_mechanism mechanism);
/* RSAES-OAEP alone, which proves no origin. */
KR_MUST_USE enum kr_status kr_rsa_decrypt(struct kr_session *session, CK_OBJECT_HANDLE private,
                                          enum kr_wrap_mechanism mechanism,
                                          const uint8_t *ciphertext, size_t len, uint8_t *ret_key,
                                          struct kr_error *err);

/* --- what they share -------------------------------------------------------------------------- */

/* The failure of a call that unwraps: KR_INTEGRITY for the values by which modules say that a wrap
 * is not genuine. A lost token is told apart afterwards, when the failed job asks whether the token
 * still answers (kr_session_run). */
enum kr_status kr_fail_unwrap(const char *function, CK_RV rv, struct kr_error *err);

/* A wrap of a length that its mechanism cannot have made: KR_INTEGRITY. */
enum kr_status kr_fail_wrapped_length(size_t len, size_t right, struct kr_error *err);

/* A token that gave something else than the standard says: KR_REFUSED. */
enum kr_status kr_fail_format(const char *function, CK_ULONG len, struct kr_error *err);

#endif
