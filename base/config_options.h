/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The table of options behind base/config.h; for config.c alone. */
#ifndef P11K_BASE_CONFIG_OPTIONS_H
#define P11K_BASE_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/config.h"

enum { KR_OPTION_COUNT = 33 };

/* Index of an option, or -1 after filling the record: KR_CONFIG with a hint that lists the valid
 * names. `section` is "token" for every [token:NAME]. */
int kr_option_find(const char *section, const char *name, struct kr_error *err);

/* Checks and stores a value, in `token` for an option of [token:NAME]; on failure the old one
 * stays. KR_CONFIG; no error quotes the value, which may be a secret in the wrong place. */
KR_MUST_USE enum kr_status kr_option_set(struct kr_config *config, struct kr_token_config *token,
                                         int option, const char *value, struct kr_error *err);

/* Stores the default of every option that has one, but for those of tokens: theirs are zero. */
KR_MUST_USE enum kr_status kr_option_set_defaults(struct kr_config *config, struct kr_error *err);

/* Replaces *field by a copy of `value`. */
KR_MUST_USE enum kr_status kr_option_replace(char **field, const char *value, struct kr_error *err);

/* KR_CONFIG with a hint unless `section` is one of ours; "token" itself is not. */
KR_MUST_USE enum kr_status kr_option_check_section(const char *section, struct kr_error *err);

/* 1 to `max` letters, digits, '.', '_' and '-'. */
bool kr_option_is_name(const char *text, size_t max);

#endif
