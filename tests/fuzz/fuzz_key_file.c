/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Any bytes as a key file of file_key_management, encrypted or not. */
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/secret.h"
#include "formats/key_list.h"
#include "formats/openssl_enc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool sound)
{
    if (!sound)
        abort();
}

static void open_key(uint32_t id, const char *digits, unsigned bits, void *context)
{
    uint8_t key[32];
    (void)context;
    insist(id > 0 && kr_hex_decode(digits, bits / 4, key));
}

/* A wrong line is found exactly where the list as a whole is wrong. */
static void read_lines(const char *text, size_t len)
{
    unsigned wrong = kr_key_list_wrong_line(text, len);
    bool list = kr_key_list_parse(text, len, true, open_key, NULL);
    insist(!list || wrong == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kr_error err = KR_ERROR_INIT;
    char *text = NULL;
    size_t len = 0;
    read_lines((const char *)data, size);
    if (size > 1024 * 1024 || kr_openssl_enc_open(data, size, "secret", &text, &len, &err) != KR_OK)
        return 0;
    insist(len < size && strlen(text) <= len);
    read_lines(text, len);
    kr_secret_free(text);
    return 0;
}
