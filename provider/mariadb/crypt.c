/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The server's encryption contexts: each holds a pointer to a pooled page operation. */
#include "plugin.h"

#include "hwaccel/page_cipher.h"

/* What the server knows from its own my_crypt.h. */
enum { MY_OK = 0, MY_BAD_DATA = -100, MY_OPENSSL_ERROR = -101, MY_BAD_KEYSIZE = -102 };

static int server_status(enum kr_status status)
{
    switch (status) {
    case KR_OK:
        return MY_OK;
    case KR_INTEGRITY:
        return MY_BAD_DATA;
    case KR_USAGE:
        return MY_BAD_KEYSIZE;
    default:
        return MY_OPENSSL_ERROR;
    }
}

/* The key bytes that a context gets are not the data key (pages have derived keys, temporary files
 * random ones), but the version says which cipher, and what it may derive from. */
static const struct kr_data_key *find(unsigned id, unsigned version)
{
    return plugin.keyring ? kr_keyring_find(plugin.keyring, id, version) : NULL;
}

static enum kr_cipher cipher_of(const struct kr_data_key *found)
{
    return found ? found->cipher : plugin.cipher;
}

unsigned plugin_ctx_size(unsigned id, unsigned version)
{
    (void)id;
    (void)version;
    return sizeof(struct kr_page_op *);
}

int plugin_ctx_init(void *ctx, const unsigned char *key, unsigned key_len, const unsigned char *iv,
                    unsigned iv_len, int flags, unsigned id, unsigned version)
{
    struct kr_page_op **op = ctx;
    int ours = flags & ENCRYPTION_FLAG_ENCRYPT ? KR_PAGE_ENCRYPT : KR_PAGE_DECRYPT;
    if (!(flags & ENCRYPTION_FLAG_NOPAD))
        ours |= KR_PAGE_PADDED;
    const struct kr_data_key *found = find(id, version);
    const struct kr_page_key page_key = {.bytes = key,
                                         .len = key_len,
                                         .data_key = found ? found->bytes : NULL,
                                         .id = id,
                                         .version = version};
    return server_status(kr_page_begin(cipher_of(found), ours, &page_key, iv, iv_len, op));
}

int plugin_ctx_update(void *ctx, const unsigned char *src, unsigned len, unsigned char *dst,
                      unsigned *ret_len)
{
    struct kr_page_op **op = ctx;
    size_t out;
    enum kr_status status = kr_page_update(*op, src, len, dst, &out);
    *ret_len = (unsigned)out; /* 0 on failure: the server calls finish at dst + *ret_len */
    return server_status(status);
}

int plugin_ctx_finish(void *ctx, unsigned char *dst, unsigned *ret_len)
{
    struct kr_page_op **op = ctx;
    size_t out;
    enum kr_status status = kr_page_finish(*op, dst, &out);
    *ret_len = (unsigned)out;
    return server_status(status);
}

/* The server asks without flags, and for room: only padded messages grow. */
unsigned plugin_encrypted_length(unsigned len, unsigned id, unsigned version)
{
    return (unsigned)kr_page_encrypted_length(cipher_of(find(id, version)), KR_PAGE_PADDED, len);
}
