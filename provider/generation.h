/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What the tokens remember of the keystore: its identity and its generation, in an anchor of each
 * token that keeps data objects (docs/FORMAT.md). An older file that was put back, another keystore
 * of the same keyring's name, and a copy that was changed elsewhere are told by it, also by a
 * process that never saw the newer file. Private to the keyring core; not locked.
 *
 * The order makes it safe against honest writers and kills: read the anchors, then look at the
 * file, commit the file, then raise the anchors. So an anchor is never newer than the file.
 */
#ifndef P11K_PROVIDER_GENERATION_H
#define P11K_PROVIDER_GENERATION_H

#include "pkcs11/anchor.h"
#include "provider/keyring.h"
#include "provider/tokens.h"

struct kr_anchor {
    enum kr_anchor_state state;
    uint32_t epoch; /* raised when an admin accepts another keystore or an older one */
    uint8_t uuid[KR_KEYSTORE_UUID_BYTES];
    struct kr_generation generation;
    int64_t written;
    bool complained; /* that it could not be raised: said once */
};

struct kr_anchors {
    const struct kr_tokens *tokens;
    char label[128];
    struct kr_anchor at[KR_TOKENS_MAX];
};

void kr_anchors_init(struct kr_anchors *anchors, const struct kr_tokens *tokens,
                     const char *keyring);

/* Asks each token that is up; the others when none of those answers. KR_INTEGRITY for an anchor
 * that makes no sense; what the first token said when none answers. */
KR_MUST_USE enum kr_status kr_anchors_read(struct kr_anchors *anchors, struct kr_error *err);

/* KR_INTEGRITY when one of the anchors read is of another keystore, or newer than what `keystore`
 * has verified since. */
KR_MUST_USE enum kr_status kr_anchors_check(const struct kr_anchors *anchors,
                                            const struct kr_keystore *keystore,
                                            struct kr_error *err);

/* Tells the tokens that were read of what `keystore` has committed or verified. A token that
 * cannot be told is logged: the file is durable already, and the next change tells it again. */
void kr_anchors_raise(struct kr_anchors *anchors, const struct kr_keystore *keystore);

/* The same for a keystore that an admin has made or accepted: in place of whatever a token
 * remembers. A new one may have no generation yet. */
void kr_anchors_replace(struct kr_anchors *anchors, const struct kr_keystore *keystore);

/* Whether a token that is up has not been told of what `keystore` has verified. */
bool kr_anchors_behind(const struct kr_anchors *anchors, const struct kr_keystore *keystore);

#endif
