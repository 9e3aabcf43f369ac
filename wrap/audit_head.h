/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A place in the chain of the audit log's records. */
#ifndef P11K_WRAP_AUDIT_HEAD_H
#define P11K_WRAP_AUDIT_HEAD_H

#include <stdbool.h>
#include <stdint.h>

#define KR_AUDIT_HASH_BYTES 32

/* Number 0: before the first record, with a hash of zeros. */
struct kr_audit_head {
    uint64_t seq;
    uint8_t hash[KR_AUDIT_HASH_BYTES];
};

bool kr_audit_head_equal(const struct kr_audit_head *a, const struct kr_audit_head *b);

#endif
