/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A private SoftHSM2 token for one test: random PINs, own folder, own SOFTHSM2_CONF. */
#ifndef P11K_TESTS_FIXTURE_H
#define P11K_TESTS_FIXTURE_H

#include "pkcs11/token.h"

struct fixture {
    char dir[256];      /* 0700; holds everything below; removed by fixture_down() */
    char module[256];   /* SoftHSM2's module */
    char uri[128];      /* pkcs11:token=LABEL */
    char label[33];
    char pin[33];       /* random, made at run time */
    char so_pin[33];
    char pin_file[320]; /* holds the PIN, mode 0600 */
    char guard[320];    /* path for the PIN guard file */
    char keystore[320]; /* path for a keystore; not made */
};

/* Makes folder and token, and sets SOFTHSM2_CONF for this process. Aborts the test on failure. */
void fixture_up(struct fixture *f, const char *label);
/* Another token in the same folder, with the same PINs. */
void fixture_add_token(struct fixture *f, const char *label);
void fixture_down(struct fixture *f);

/* Opens a connection to the fixture's token with its PIN file, 5 s timeouts, through `module` (NULL:
 * SoftHSM2 itself). *ret_pin must outlive the token. Aborts the test on failure. */
struct kr_token *fixture_token(struct fixture *f, const char *module,
                               struct kr_pin_source **ret_pin);

#endif
