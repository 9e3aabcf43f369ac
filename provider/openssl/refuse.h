/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Turning a handle away: a reason on OpenSSL's error stack, and a count. */
#ifndef P11K_PROVIDER_OPENSSL_REFUSE_H
#define P11K_PROVIDER_OPENSSL_REFUSE_H

#include <stdbool.h>

enum kr_refusal {
    KR_REFUSAL_CIPHER = 1,
    KR_REFUSAL_KEY_LENGTH,
    KR_REFUSAL_IV,
    KR_REFUSAL_PADDING,
    KR_REFUSAL_LENGTH,
    KR_REFUSAL_ORDER,
    KR_REFUSAL_PARAMETER,
    KR_REFUSAL_COPY,
    KR_REFUSAL_UNREGISTERED,
    KR_REFUSAL_TOKEN /* counted as failed, not as refused */
};

/* Makes the reasons known to OpenSSL, and takes them away again. Serialised by the caller. */
bool kr_refusals_load(void);
void kr_refusals_unload(void);

/* Raises the reason, counts it, and returns 0 as OpenSSL's functions do. */
int kr_refuse(enum kr_refusal reason);

#endif
