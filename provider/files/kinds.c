/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The table of kinds. */
#include "files/kinds.h"

static const struct kr_file_kind_ops *const table[] = {
    &kr_keystore_ops,
    &kr_key_list_ops,
    &kr_key_list_encrypted_ops,
};

const struct kr_file_kind_ops *kr_file_ops(enum kr_file_kind kind)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
        if (table[i]->kind == kind)
            return table[i];
    return NULL;
}
