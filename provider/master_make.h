/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Making master keys, for a new keyring and for one that has some. Private to the keyring core. */
#ifndef P11K_PROVIDER_MASTER_MAKE_H
#define P11K_PROVIDER_MASTER_MAKE_H

#include "wrap/keystore.h"

/* Number of a label "p11keyring:<keyring>:<n>", 0 for any other label. */
unsigned long kr_master_label_number(const char *label, const char *keyring);

/* The highest such number on the token, and how many usable master keys have one. */
KR_MUST_USE enum kr_status kr_master_survey(struct kr_token *token, const char *keyring,
                                            unsigned long *ret_highest, unsigned *ret_usable,
                                            struct kr_error *err);

/* Generates a master key, checks and proves it: *ret is a current one. A key that fails is
 * destroyed. */
KR_MUST_USE enum kr_status kr_master_make(struct kr_token *token, const char *keyring,
                                          unsigned long number, enum kr_wrap_mechanism wish,
                                          struct kr_master_row *ret, struct kr_error *err);

/* Proves a key that the token has: *ret is a current one. */
KR_MUST_USE enum kr_status kr_master_describe(struct kr_token *token,
                                              const struct kr_master_info *info,
                                              enum kr_wrap_mechanism wish,
                                              struct kr_master_row *ret, struct kr_error *err);

/* Destroys a key that was made for nothing; when its token does not answer, the hint of `err`
 * says that it is left. */
void kr_master_take_back(struct kr_token *token, const struct kr_master_row *made,
                         struct kr_error *err);

#endif
