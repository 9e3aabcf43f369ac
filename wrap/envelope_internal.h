/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The part of the envelope that needs no token: its wraps, and sealing under a given key and iv. */
#ifndef P11K_WRAP_ENVELOPE_INTERNAL_H
#define P11K_WRAP_ENVELOPE_INTERNAL_H

#include "wrap/envelope.h"

#define KR_ENVELOPE_IV_BYTES 12
#define KR_ENVELOPE_TAG_BYTES 16

/* The wrap by this master key; NULL when there is none. */
const struct kr_wrap *kr_envelope_find_wrap(const struct kr_envelope_header *header,
                                            const struct kr_object_id *master);

/* `header` has the wraps and the payload's length. The iv must never be used twice with one sealing
 * key. *ret is malloc'ed. */
KR_MUST_USE enum kr_status kr_envelope_seal_with(const struct kr_envelope_header *header,
                                                 const struct kr_envelope_context *context,
                                                 const uint8_t sealing_key[KR_SEALING_KEY_BYTES],
                                                 const uint8_t iv[KR_ENVELOPE_IV_BYTES],
                                                 const uint8_t *payload, uint8_t **ret,
                                                 size_t *ret_len, struct kr_error *err);

/* *ret is secret memory of *ret_len bytes. KR_INTEGRITY. */
KR_MUST_USE enum kr_status kr_envelope_open_with(const uint8_t sealing_key[KR_SEALING_KEY_BYTES],
                                                 const struct kr_envelope_context *context,
                                                 const uint8_t *blob, size_t len, uint8_t **ret,
                                                 size_t *ret_len, struct kr_error *err);

#endif
