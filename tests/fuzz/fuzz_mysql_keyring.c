/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Any bytes as one of the files in which MySQL keeps keys. */
#include <stdlib.h>
#include <string.h>

#include "formats/mysql_keyring.h"
#include "formats/mysql_transfer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool sound)
{
    if (!sound)
        abort();
}

static void visit(const struct kr_mysql_keyring_key *key, void *context)
{
    uint8_t *bytes = malloc(key->bits / 8 + 1);
    insist(strlen(key->id) < sizeof(key->id) && key->bits / 8 <= key->data.len && bytes);
    insist(kr_mysql_keyring_open(key, bytes) || !key->obfuscated);
    free(bytes);
    ++*(size_t *)context;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t keys = 0;
    bool digest = false;
    const char *problem = kr_mysql_keyring_json((const char *)data, size, visit, &keys);
    insist(keys <= size && (!problem || problem[0]));
    problem = kr_mysql_keyring_plugin(data, size, visit, &keys, &digest);
    insist(!problem || !digest);
    insist(kr_mysql_transfer_check(data, size) || size == KR_MYSQL_TRANSFER_BYTES);
    return 0;
}
