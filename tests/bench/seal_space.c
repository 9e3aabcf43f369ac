/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Makes an encrypted tablespace of MySQL out of a file of scan_pages, in its place, for
 * verify_mysql.sh: its key is sealed by MySQL's built-in key, so that no keyring is needed.
 *
 *   seal_space FILE
 */
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "formats/mysql_tablespace.h"
#include "hwaccel/bulk.h"
#include "hwaccel/crc32c.h"
#include "hwaccel/mysql_page.h"

enum { PAGE = 16384, VERSION_AT = 8, FLAGS_AT = 54, FLAGS = 0x6021 };

static const uint8_t opened[KR_MYSQL_SEALED_BYTES] = "the key of a tablespace that holds nothing";

static bool seal(struct kr_mysql_info *info)
{
    uint8_t key[KR_MYSQL_KEY_BYTES];
    int done = 0;
    EVP_CIPHER_CTX *evp = EVP_CIPHER_CTX_new();
    kr_mysql_default_master(key);
    bool sealed = evp && EVP_EncryptInit_ex(evp, EVP_aes_256_ecb(), NULL, key, NULL) &&
                  EVP_EncryptUpdate(evp, info->sealed, &done, opened, sizeof(opened)) &&
                  done == (int)sizeof(opened);
    EVP_CIPHER_CTX_free(evp);
    memset(info->server_uuid, 0, sizeof(info->server_uuid));
    info->master_id = 0;
    info->crc = kr_crc32c(0, opened, sizeof(opened));
    return sealed;
}

static bool seal_first_page(uint8_t *page)
{
    struct kr_mysql_space space;
    kr_put_number(page + VERSION_AT, 90704, 4);
    kr_put_number(page + VERSION_AT + 4, 1, 4);
    kr_put_number(page + FLAGS_AT, FLAGS, 4);
    if (!kr_mysql_space_parse(page, PAGE, &space) || !seal(&space.info))
        return false;
    kr_mysql_space_reseal(&space, &space.info, page);
    return true;
}

static enum kr_status encrypt(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    for (unsigned i = 0; i < chunk->count; i++) {
        const struct kr_mysql_page job = {.src = chunk->pages[i], .dst = chunk->pages[i]};
        if (chunk->first + i == 0) {
            if (!seal_first_page(chunk->pages[0]))
                return kr_fail(err, KR_INTERNAL, "page 0 is not that of a tablespace");
        } else if (kr_mysql_pages_encrypt(context, &job, 1, PAGE) != KR_OK) {
            return kr_fail(err, KR_INTERNAL, "OpenSSL failed");
        }
    }
    return KR_OK;
}

int main(int argc, char **argv)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    struct stat st;
    KR_MYSQL_PAGES struct kr_mysql_pages *pages = NULL;
    int fd = argc == 2 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0 || fstat(fd, &st) != 0) {
        fputs("usage: seal_space FILE\n", stderr);
        return 2;
    }
    struct kr_bulk bulk = {.in = fd,
                           .out = fd,
                           .in_name = argv[1],
                           .out_name = argv[1],
                           .size = (uint64_t)st.st_size,
                           .page_size = PAGE,
                           .threads = 1,
                           .work = encrypt};
    if (kr_mysql_pages_new(opened, opened + KR_MYSQL_KEY_BYTES, &pages, &err) == KR_OK) {
        bulk.context = pages;
        if (kr_bulk_run(&bulk, &result, &err) == KR_OK)
            return 0;
    }
    fprintf(stderr, "seal_space: error: %s\n", err.text);
    return 2;
}
