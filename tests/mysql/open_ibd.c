/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Opens an encrypted InnoDB tablespace of 16 KiB pages without any code of the project or the
 * server:
 *
 *   open_ibd FILE.ibd PLACE...     tries as the master key every 32 bytes, and every 64 hex digits,
 *                                  that stand anywhere in the files PLACE
 *   open_ibd -t FILE.ibd PLACE...  the same with 64 bytes or 128 digits as the tablespace's key, iv
 *   open_ibd -k FILE.ibd PLACE...  as the first, but writes the tablespace's key in hex
 *   open_ibd -i FILE.ibd           writes the sealed key and iv of its header in hex
 *
 * With the right one it writes the decrypted pages to its output; otherwise it fails with 1.
 *
 * Formats: MySQL 8.0 and later, storage/innobase/include/os0enc.h and fil0fil.h.
 */
#include <ctype.h>
#include <err.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PAGE = 16384,
    INFO_AT = 10390, /* magic 3 | master key id 4 | uuid 36 | key and iv 64 | CRC-32C 4 */
    SEALED_AT = INFO_AT + 43,
    KEY = 32,
    SEALED = 64,
    LSN_LOW_AT = 20, /* its copy ends the page */
    TYPE_AT = 24,
    TYPE_ENCRYPTED = 15,
    CLEAR = 38, /* bytes of a page's head that are never encrypted */
    TAIL = 32   /* encrypted twice where the rest is no multiple of 16 */
};

struct file {
    uint8_t *bytes;
    size_t len;
};

static struct file read_file(const char *path)
{
    struct file file = {0};
    FILE *stream = fopen(path, "rbe");
    if (!stream || fseek(stream, 0, SEEK_END) != 0)
        err(2, "%s", path);
    file.len = (size_t)ftell(stream);
    rewind(stream);
    file.bytes = malloc(file.len + 1);
    if (!file.bytes || fread(file.bytes, 1, file.len, stream) != file.len)
        err(2, "%s", path);
    fclose(stream);
    return file;
}

static void decrypt(const EVP_CIPHER *cipher, const uint8_t *key, const uint8_t *iv,
                    const uint8_t *in, size_t len, uint8_t *out)
{
    static EVP_CIPHER_CTX *ctx;
    int done;
    if (!ctx)
        ctx = EVP_CIPHER_CTX_new();
    if (!ctx || !EVP_DecryptInit_ex(ctx, cipher, NULL, key, iv) ||
        !EVP_CIPHER_CTX_set_padding(ctx, 0) || !EVP_DecryptUpdate(ctx, out, &done, in, (int)len) ||
        (size_t)done != len)
        errx(2, "OpenSSL failed");
}

/* --- the header ------------------------------------------------------------------------------- */

static uint32_t crc32c(const uint8_t *bytes, size_t len)
{
    uint32_t crc = ~0U;
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0);
    }
    return ~crc;
}

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Leaves the tablespace's key and iv in `opened` if the master key is right. */
static bool open_header(const struct file *ibd, const uint8_t *master, uint8_t opened[SEALED])
{
    const uint8_t *sealed = ibd->bytes + SEALED_AT;
    decrypt(EVP_aes_256_ecb(), master, NULL, sealed, SEALED, opened);
    return crc32c(opened, SEALED) == get_u32(sealed + SEALED);
}

/* Whether these are the tablespace's own key and iv. */
static bool is_opened(const struct file *ibd, const uint8_t *bytes, uint8_t opened[SEALED])
{
    memcpy(opened, bytes, SEALED);
    return crc32c(opened, SEALED) == get_u32(ibd->bytes + SEALED_AT + SEALED);
}

static bool take_digits(const uint8_t *text, size_t len, uint8_t *ret)
{
    for (size_t i = 0; i < len; i++) {
        unsigned byte;
        if (!isxdigit(text[2 * i]) || !isxdigit(text[2 * i + 1]) ||
            sscanf((const char *)text + 2 * i, "%2x", &byte) != 1)
            return false;
        ret[i] = (uint8_t)byte;
    }
    return true;
}

typedef bool attempt(const struct file *ibd, const uint8_t *bytes, uint8_t opened[SEALED]);

static bool find_key(const struct file *ibd, const struct file *place, attempt *try, size_t len,
                     uint8_t opened[SEALED])
{
    uint8_t bytes[SEALED];
    for (size_t at = 0; at + len <= place->len; at++) {
        if (try(ibd, place->bytes + at, opened))
            return true;
        if (at + 2 * len <= place->len && take_digits(place->bytes + at, len, bytes) &&
            try(ibd, bytes, opened))
            return true;
    }
    return false;
}

/* --- the pages -------------------------------------------------------------------------------- */

static void open_page(uint8_t *page, const uint8_t opened[SEALED])
{
    const uint8_t *key = opened, *iv = opened + KEY;
    const size_t whole = (PAGE - CLEAR) / 16 * 16;
    decrypt(EVP_aes_256_cbc(), key, iv, page + PAGE - TAIL, TAIL, page + PAGE - TAIL);
    decrypt(EVP_aes_256_cbc(), key, iv, page + CLEAR, whole, page + CLEAR);
    if (memcmp(page + LSN_LOW_AT, page + PAGE - 4, 4) != 0)
        errx(3, "the master key is right, but a page did not decrypt");
}

static void write_pages(const struct file *ibd, const uint8_t opened[SEALED])
{
    for (size_t at = 0; at + PAGE <= ibd->len; at += PAGE) {
        uint8_t *page = ibd->bytes + at;
        if (page[TYPE_AT] == 0 && page[TYPE_AT + 1] == TYPE_ENCRYPTED)
            open_page(page, opened);
        fwrite(page, 1, PAGE, stdout);
    }
}

static int write_hex(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        printf("%02x", bytes[i]);
    putchar('\n');
    return 0;
}

static struct file read_ibd(const char *path)
{
    struct file ibd = read_file(path);
    if (ibd.len < PAGE || memcmp(ibd.bytes + INFO_AT, "lCC", 3) != 0)
        errx(2, "%s has no encryption header", path);
    return ibd;
}

int main(int argc, char **argv)
{
    uint8_t opened[SEALED];
    int option = getopt(argc, argv, "tki");
    if (optind >= argc || option == '?')
        errx(2, "usage: open_ibd [-t|-k|-i] FILE.ibd PLACE...");
    struct file ibd = read_ibd(argv[optind]);
    if (option == 'i')
        return write_hex(ibd.bytes + SEALED_AT, SEALED);
    for (int i = optind + 1; i < argc; i++) {
        struct file place = read_file(argv[i]);
        if (find_key(&ibd, &place, option == 't' ? is_opened : open_header,
                     option == 't' ? SEALED : KEY, opened)) {
            if (option == 'k')
                return write_hex(opened, KEY);
            write_pages(&ibd, opened);
            return 0;
        }
        free(place.bytes);
    }
    warnx("none of the keys there opens %s", argv[optind]);
    return 1;
}
