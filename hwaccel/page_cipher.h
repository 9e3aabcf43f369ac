/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Page ciphers on OpenSSL EVP, byte-compatible with MariaDB's (server source: include/my_crypt.h,
 * mysys_ssl/my_crypt.cc, plugin/file_key_management):
 *
 *   AES-CBC padded    CBC with PKCS#7 padding
 *   AES-CBC unpadded  CBC; a last partial block is XORed with AES-ECB(key, iv)
 *   AES-CTR unpadded  CTR
 *   AES-CTR padded    GCM: 12-byte nonce iv[0..11], AAD iv[12..15], 16-byte tag appended
 *
 * Keys of 16, 24 and 32 bytes; ivs of 16. The ciphers aes256-* are the same with AES-256 under a
 * derived key (page_key.h). Contexts come from a per-thread pool that remembers the
 * key schedule, so a page under a key that this thread used lately costs only a new iv. A thread
 * may have several operations open at once (the binlog writer reads an encrypted IO_CACHE), and may
 * abandon some: beyond the pool's size each gets a context of its own. Nothing is allocated for a
 * key that is in the pool. Pools are wiped when their thread ends.
 *
 * Functions return a status without an error record: they are called for every page. KR_USAGE (key
 * or iv length, unknown cipher, no data key to derive from), KR_INTEGRITY (wrong padding or tag),
 * KR_INTERNAL.
 */
#ifndef P11K_HWACCEL_PAGE_CIPHER_H
#define P11K_HWACCEL_PAGE_CIPHER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "hwaccel/cipher.h"
#include "hwaccel/page_key.h"

struct kr_page_op; /* belongs to the thread that began it */

enum { KR_PAGE_DECRYPT = 0, KR_PAGE_ENCRYPT = 1, KR_PAGE_PADDED = 2 };

KR_MUST_USE enum kr_status kr_page_begin(enum kr_cipher cipher, int flags,
                                         const struct kr_page_key *key, const uint8_t *iv,
                                         size_t iv_len, struct kr_page_op **ret);

/* Sets *ret_len to what was written to dst, on failure to 0. All the dst of a message together need
 * kr_page_encrypted_length() bytes. A message may be processed in place: dst runs over the same
 * memory as src, and stays behind it by what is held back. Unpadded CBC holds back a partial block,
 * which comes out of finish; CTR holds back nothing; GCM decryption holds back the tag. */
KR_MUST_USE enum kr_status kr_page_update(struct kr_page_op *op, const uint8_t *src, size_t len,
                                          uint8_t *dst, size_t *ret_len);

/* Writes what is left and gives the operation back, on failure too. */
KR_MUST_USE enum kr_status kr_page_finish(struct kr_page_op *op, uint8_t *dst, size_t *ret_len);

/* Exact length of `len` bytes when encrypted. */
size_t kr_page_encrypted_length(enum kr_cipher cipher, int flags, size_t len);

/* Process-wide: operations begun, and those that found their key schedule in the pool. */
struct kr_page_stats {
    uint64_t operations, schedule_hits;
};
void kr_page_get_stats(struct kr_page_stats *ret);

#endif
