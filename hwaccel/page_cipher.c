/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The page ciphers: what each mode holds back, and how its messages end. */
#include "hwaccel/page_cipher.h"

#include <string.h>

#include <openssl/err.h>

#include "base/secret.h"
#include "hwaccel/block.h"
#include "hwaccel/page_pool.h"

enum { GCM_NONCE = 12, EVP_PIECE = 1 << 30, SHORT_MESSAGE = 512 };

static const struct form {
    uint8_t mode, padded_mode; /* enum kr_mode */
    uint8_t key_use;           /* enum kr_key_use; 0: there is no such cipher */
} forms[] = {
    [KR_CIPHER_AES_CBC] = {KR_MODE_CBC, KR_MODE_CBC_PADDED, KR_KEY_ITSELF},
    [KR_CIPHER_AES_CTR] = {KR_MODE_CTR, KR_MODE_GCM, KR_KEY_ITSELF},
    [KR_CIPHER_AES256_CBC] = {KR_MODE_CBC, KR_MODE_CBC_PADDED, KR_KEY_DERIVED},
    [KR_CIPHER_AES256_CTR] = {KR_MODE_CTR, KR_MODE_GCM, KR_KEY_DERIVED},
};
enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

static enum kr_mode mode_of(enum kr_cipher cipher, int flags)
{
    return flags & KR_PAGE_PADDED ? forms[cipher].padded_mode : forms[cipher].mode;
}

size_t kr_page_encrypted_length(enum kr_cipher cipher, int flags, size_t len)
{
    switch (mode_of(cipher, flags)) {
    case KR_MODE_CBC_PADDED:
        return (len / KR_AES_BLOCK + 1) * KR_AES_BLOCK;
    case KR_MODE_GCM:
        return len + KR_AES_BLOCK;
    default:
        return len;
    }
}

/* EVP left its reasons in the thread's queue, where the server's TLS code would trip over them. */
static enum kr_status failed(struct kr_page_op *op, enum kr_status status)
{
    ERR_clear_error();
    return op->failure = status;
}

/* --- EVP in size_t ---------------------------------------------------------------------------- */

static bool evp_update(struct kr_page_op *op, const uint8_t *src, size_t len, uint8_t *dst,
                       size_t *ret_len)
{
    size_t done = 0;
    while (len > 0) {
        int piece = len < EVP_PIECE ? (int)len : EVP_PIECE, out = 0;
        if (!EVP_CipherUpdate(op->evp, dst + done, &out, src, piece))
            return false;
        src += piece;
        len -= (size_t)piece;
        done += (size_t)out;
    }
    *ret_len = done;
    return true;
}

/* --- CBC without padding: EVP sees whole blocks only ------------------------------------------ */

/* Fills the held block up from the input; returns how much was taken. */
static size_t fill_held(struct kr_page_op *op, const uint8_t *src, size_t len)
{
    size_t taken = KR_AES_BLOCK - (size_t)op->held_len;
    if (taken > len)
        taken = len;
    memcpy(op->held + op->held_len, src, taken);
    op->held_len = (uint8_t)(op->held_len + taken);
    return taken;
}

/* What EVP will XOR into the block, and what it should. */
static void correct_block(struct kr_page_op *op, uint8_t *block)
{
    kr_xor_block(block, op->chain);
    kr_xor_block(block, op->iv);
    op->first_block_due = false;
}

/* Short messages in one call of EVP, for which the calls count more than the copy. */
static bool cbc_encrypt_first(struct kr_page_op *op, const uint8_t *src, size_t len, uint8_t *dst,
                              size_t *ret_len)
{
    uint8_t start[SHORT_MESSAGE];
    size_t head = len <= sizeof(start) ? len : KR_AES_BLOCK, first = 0, rest = 0;
    memcpy(start, src, head);
    correct_block(op, start);
    if (!evp_update(op, start, head, dst, &first) ||
        !evp_update(op, src + head, len - head, dst + first, &rest))
        return false;
    *ret_len = first + rest;
    return true;
}

static bool cbc_encrypt(struct kr_page_op *op, const uint8_t *src, size_t len, uint8_t *dst,
                        size_t *ret_len)
{
    if (!(op->first_block_due ? cbc_encrypt_first : evp_update)(op, src, len, dst, ret_len))
        return false;
    memcpy(op->chain, dst + len - KR_AES_BLOCK, KR_AES_BLOCK);
    return true;
}

static bool cbc_decrypt(struct kr_page_op *op, const uint8_t *src, size_t len, uint8_t *dst,
                        size_t *ret_len)
{
    uint8_t last[KR_AES_BLOCK];
    memcpy(last, src + len - KR_AES_BLOCK, KR_AES_BLOCK); /* dst may be src */
    if (!evp_update(op, src, len, dst, ret_len))
        return false;
    if (op->first_block_due)
        correct_block(op, dst);
    memcpy(op->chain, last, KR_AES_BLOCK);
    return true;
}

/* `len` is a multiple of the block. See kr_page_pool_take() for the first block. */
static bool cbc_blocks(struct kr_page_op *op, const uint8_t *src, size_t len, uint8_t *dst,
                       size_t *ret_len)
{
    if (len == 0)
        return true;
    return (op->shape.encrypt ? cbc_encrypt : cbc_decrypt)(op, src, len, dst, ret_len);
}

static bool cbc_update(struct kr_page_op *op, const uint8_t *src, size_t len, uint8_t *dst,
                       size_t *ret_len)
{
    size_t first = 0, rest = 0;
    if (op->held_len > 0) {
        size_t taken = fill_held(op, src, len);
        src += taken;
        len -= taken;
        if (op->held_len < KR_AES_BLOCK)
            return true;
        if (!cbc_blocks(op, op->held, KR_AES_BLOCK, dst, &first))
            return false;
        op->held_len = 0;
    }
    if (!cbc_blocks(op, src, len - len % KR_AES_BLOCK, dst + first, &rest))
        return false;
    fill_held(op, src + rest, len - rest);
    *ret_len = first + rest;
    return true;
}

static enum kr_status cbc_finish(struct kr_page_op *op, uint8_t *dst, size_t *ret_len)
{
    uint8_t mask[KR_AES_BLOCK];
    int out = 0;
    if (op->held_len == 0)
        return KR_OK;
    if (!EVP_EncryptUpdate(op->mask, mask, &out, op->iv, sizeof(mask)))
        return KR_INTERNAL;
    for (size_t i = 0; i < op->held_len; i++)
        dst[i] = op->held[i] ^ mask[i];
    *ret_len = op->held_len;
    kr_wipe_block(mask);
    return KR_OK;
}

/* --- GCM: the last 16 bytes of a ciphertext are its tag --------------------------------------- */

static bool gcm_decrypt_update(struct kr_page_op *op, const uint8_t *src, size_t len, uint8_t *dst,
                               size_t *ret_len)
{
    size_t total = op->held_len + len, first = 0, rest = 0;
    if (total <= KR_AES_BLOCK) {
        fill_held(op, src, len);
        return true;
    }
    size_t ready = total - KR_AES_BLOCK;
    size_t from_held = ready < op->held_len ? ready : op->held_len;
    size_t from_src = ready - from_held;
    if (!evp_update(op, op->held, from_held, dst, &first))
        return false;
    op->held_len = (uint8_t)(op->held_len - from_held);
    memmove(op->held, op->held + from_held, op->held_len);
    if (!evp_update(op, src, from_src, dst + first, &rest))
        return false;
    fill_held(op, src + from_src, len - from_src);
    *ret_len = first + rest;
    return true;
}

static enum kr_status gcm_finish(struct kr_page_op *op, uint8_t *dst, size_t *ret_len)
{
    uint8_t none[KR_AES_BLOCK];
    int out = 0;
    if (op->shape.encrypt) {
        if (!EVP_CipherFinal_ex(op->evp, none, &out) ||
            !EVP_CIPHER_CTX_ctrl(op->evp, EVP_CTRL_AEAD_GET_TAG, KR_AES_BLOCK, dst))
            return KR_INTERNAL;
        *ret_len = KR_AES_BLOCK;
        return KR_OK;
    }
    if (op->held_len < KR_AES_BLOCK)
        return KR_INTEGRITY;
    if (!EVP_CIPHER_CTX_ctrl(op->evp, EVP_CTRL_AEAD_SET_TAG, KR_AES_BLOCK, op->held))
        return KR_INTERNAL;
    return EVP_CipherFinal_ex(op->evp, none, &out) ? KR_OK : KR_INTEGRITY;
}

static enum kr_status padded_finish(struct kr_page_op *op, uint8_t *dst, size_t *ret_len)
{
    int out = 0;
    if (!EVP_CipherFinal_ex(op->evp, dst, &out))
        return op->shape.encrypt ? KR_INTERNAL : KR_INTEGRITY;
    *ret_len = (size_t)out;
    return KR_OK;
}

/* --- operations ------------------------------------------------------------------------------- */

static bool is_usable(enum kr_cipher cipher, const struct kr_page_key *key, size_t iv_len)
{
    bool known_length = key->len == 16 || key->len == 24 || key->len == 32;
    return known_length && iv_len == KR_AES_BLOCK && (unsigned)cipher < FORMS &&
           forms[cipher].key_use != 0 && (key->data_key || forms[cipher].key_use == KR_KEY_ITSELF);
}

enum kr_status kr_page_begin(enum kr_cipher cipher, int flags, const struct kr_page_key *key,
                             const uint8_t *iv, size_t iv_len, struct kr_page_op **ret)
{
    if (!is_usable(cipher, key, iv_len))
        return KR_USAGE;
    struct kr_shape shape = {.mode = (uint8_t)mode_of(cipher, flags),
                             .encrypt = flags & KR_PAGE_ENCRYPT,
                             .key_len = (uint8_t)key->len,
                             .key_use = forms[cipher].key_use};
    struct kr_page_op *op;
    if (kr_page_pool_take(shape, key, iv, &op) != KR_OK) {
        ERR_clear_error();
        return KR_INTERNAL;
    }
    op->failure = KR_OK;
    op->held_len = 0;
    memcpy(op->iv, iv, iv_len);
    int out;
    if (shape.mode == KR_MODE_GCM &&
        !EVP_CipherUpdate(op->evp, NULL, &out, iv + GCM_NONCE, KR_AES_BLOCK - GCM_NONCE)) {
        kr_page_pool_give_back(op);
        ERR_clear_error();
        return KR_INTERNAL;
    }
    *ret = op;
    return KR_OK;
}

enum kr_status kr_page_update(struct kr_page_op *op, const uint8_t *src, size_t len, uint8_t *dst,
                              size_t *ret_len)
{
    bool ok;
    *ret_len = 0;
    if (op->failure != KR_OK || len == 0)
        return op->failure;
    if (op->shape.mode == KR_MODE_CBC)
        ok = cbc_update(op, src, len, dst, ret_len);
    else if (op->shape.mode == KR_MODE_GCM && !op->shape.encrypt)
        ok = gcm_decrypt_update(op, src, len, dst, ret_len);
    else
        ok = evp_update(op, src, len, dst, ret_len);
    return ok ? KR_OK : failed(op, KR_INTERNAL);
}

static enum kr_status finish_mode(struct kr_page_op *op, uint8_t *dst, size_t *ret_len)
{
    switch ((enum kr_mode)op->shape.mode) {
    case KR_MODE_CBC:
        return cbc_finish(op, dst, ret_len);
    case KR_MODE_CBC_PADDED:
        return padded_finish(op, dst, ret_len);
    case KR_MODE_GCM:
        return gcm_finish(op, dst, ret_len);
    default:
        return KR_OK;
    }
}

enum kr_status kr_page_finish(struct kr_page_op *op, uint8_t *dst, size_t *ret_len)
{
    *ret_len = 0;
    enum kr_status status = op->failure;
    if (status == KR_OK && (status = finish_mode(op, dst, ret_len)) != KR_OK)
        failed(op, status);
    kr_page_pool_give_back(op);
    return status;
}
