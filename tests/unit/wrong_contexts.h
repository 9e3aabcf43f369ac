/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Contexts that differ in one thing from the one that an envelope was sealed for. */
#ifndef P11K_TESTS_WRONG_CONTEXTS_H
#define P11K_TESTS_WRONG_CONTEXTS_H

#include "wrap/envelope.h"

enum { WRONG_CONTEXTS = 10 };

/* `right` is of namespace "mariadb", id "1", no owner, version 1, cipher "aes-cbc". */
static inline void wrong_contexts(const struct kr_envelope_context *right,
                                  struct kr_envelope_context ret[WRONG_CONTEXTS])
{
    static const uint8_t other_uuid[16];
    for (int i = 0; i < WRONG_CONTEXTS; i++)
        ret[i] = *right;
    ret[0].keyring = "other";
    ret[1].uuid = other_uuid;
    ret[2].ns = "mysql";
    ret[3].id = "2";
    ret[4].owner = "root";
    ret[5].version = 2;
    ret[6].cipher = "aes-ctr";
    ret[7].cipher = "";
    ret[8].id = ""; /* the same bytes in a row, cut elsewhere */
    ret[8].owner = "1";
    ret[9].ns = "mariadb1";
    ret[9].id = "";
}

#endif
