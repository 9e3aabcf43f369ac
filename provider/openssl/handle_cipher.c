/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* AES-256-ECB and AES-256-CBC, the two ciphers in which a handle has a meaning. */
#include "handle_cipher.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include "guard.h"
#include "handle.h"
#include "refuse.h"
#include "registration.h"

/* What the inner provider does for a cipher; all of it is there. */
struct inner_cipher {
    OSSL_FUNC_cipher_newctx_fn *newctx;
    OSSL_FUNC_cipher_encrypt_init_fn *encrypt_init;
    OSSL_FUNC_cipher_decrypt_init_fn *decrypt_init;
    OSSL_FUNC_cipher_update_fn *update;
    OSSL_FUNC_cipher_final_fn *final;
    OSSL_FUNC_cipher_cipher_fn *cipher;
    OSSL_FUNC_cipher_freectx_fn *freectx;
    OSSL_FUNC_cipher_dupctx_fn *dupctx;
    OSSL_FUNC_cipher_get_ctx_params_fn *get_ctx_params;
    OSSL_FUNC_cipher_set_ctx_params_fn *set_ctx_params;
    OSSL_FUNC_cipher_gettable_ctx_params_fn *gettable_ctx_params;
    OSSL_FUNC_cipher_settable_ctx_params_fn *settable_ctx_params;
};

static struct inner_cipher inner_ciphers[KR_HANDLE_CIPHERS];

/* The exact form of the server's calls. */
static const struct form {
    size_t len, iv_len;
    enum kr_handle_op encrypt, decrypt;
} forms[KR_HANDLE_CIPHERS] = {
    {KR_HANDLE_ECB_BYTES, 0, KR_HANDLE_ECB_ENCRYPT, KR_HANDLE_ECB_DECRYPT},
    {KR_HANDLE_CBC_BYTES, 16, KR_HANDLE_CBC_ENCRYPT, KR_HANDLE_CBC_DECRYPT},
};
enum { LONGEST = KR_HANDLE_ECB_BYTES };

enum life {
    KEYED,  /* the inner context does everything, also before there is a key */
    READY,  /* a handle is set; the data may come */
    DONE,   /* the data was processed; final may come */
    REFUSED /* until the next init with a key or a handle */
};

struct context {
    enum life life;
    enum kr_handle_cipher kind;
    const struct inner_cipher *functions;
    void *inner;
    enum kr_handle_op op;
    uint8_t handle[KR_HANDLE_BYTES], iv[16];
};

static void forget_handle(struct context *ctx)
{
    OPENSSL_cleanse(ctx->handle, sizeof(ctx->handle));
    OPENSSL_cleanse(ctx->iv, sizeof(ctx->iv));
}

/* --- with a handle -------------------------------------------------------------------------- */

static int refuse(struct context *ctx, enum kr_refusal reason)
{
    forget_handle(ctx);
    ctx->life = REFUSED;
    return kr_refuse(reason);
}

/* Padding alone, in any life: libcrypto repeats it by itself when a context is used again. */
static int set_params_with_handle(struct context *ctx, const OSSL_PARAM params[])
{
    for (const OSSL_PARAM *param = params; param && param->key; param++) {
        if (strcmp(param->key, OSSL_CIPHER_PARAM_PADDING) != 0)
            return refuse(ctx, KR_REFUSAL_PARAMETER);
    }
    return ctx->functions->set_ctx_params(ctx->inner, params);
}

static int init_with_handle(struct context *ctx, bool encrypts, const uint8_t *handle, size_t len,
                            const uint8_t *iv, size_t iv_len, const OSSL_PARAM params[])
{
    const struct form *form = &forms[ctx->kind];
    if (len != KR_HANDLE_BYTES)
        return refuse(ctx, KR_REFUSAL_KEY_LENGTH);
    if ((iv ? iv_len : 0) != form->iv_len)
        return refuse(ctx, KR_REFUSAL_IV);
    memcpy(ctx->handle, handle, KR_HANDLE_BYTES);
    if (form->iv_len > 0)
        memcpy(ctx->iv, iv, form->iv_len);
    ctx->op = encrypts ? form->encrypt : form->decrypt;
    ctx->life = READY;
    return set_params_with_handle(ctx, params);
}

#ifndef P11K_TEST_NO_GUARD
/* Asks the inner context, which alone knows what was set before and after the handle came. */
static bool padding_is_off(struct context *ctx)
{
    unsigned padding = 1;
    OSSL_PARAM params[] = {OSSL_PARAM_uint(OSSL_CIPHER_PARAM_PADDING, &padding), OSSL_PARAM_END};
    return ctx->functions->get_ctx_params(ctx->inner, params) && padding == 0;
}
#endif

/* 0 if the server itself could have made this call. */
static int fault_in_form(struct context *ctx, size_t room, const uint8_t *in, size_t len)
{
    if (ctx->life != READY)
        return KR_REFUSAL_ORDER;
    if (!in || len != forms[ctx->kind].len || room < len)
        return KR_REFUSAL_LENGTH;
#ifndef P11K_TEST_NO_GUARD
    if (!padding_is_off(ctx))
        return KR_REFUSAL_PADDING;
#endif
    return 0;
}

/* In case of failure the output is zeroed: it may be the input, too, and a caller that looks away
 * must not take plaintext for ciphertext. */
static int update_with_handle(struct context *ctx, uint8_t *out, size_t *ret_len, size_t room,
                              const uint8_t *in, size_t len)
{
    uint8_t result[LONGEST];
    int fault = fault_in_form(ctx, room, in, len);
    bool ok = fault == 0 ? kr_registration_perform(ctx->handle, ctx->op,
                                                   forms[ctx->kind].iv_len > 0 ? ctx->iv : NULL, in,
                                                   len, result)
                         : kr_refuse((enum kr_refusal)fault);
    forget_handle(ctx);
    ctx->life = ok ? DONE : REFUSED;
    if (ok)
        memcpy(out, result, len);
    else if (out)
        OPENSSL_cleanse(out, len < room ? len : room);
    OPENSSL_cleanse(result, sizeof(result));
    *ret_len = ok ? len : 0;
    return ok;
}

static int final_with_handle(struct context *ctx, size_t *ret_len)
{
    *ret_len = 0;
    if (ctx->life != DONE)
        return refuse(ctx, KR_REFUSAL_ORDER);
    ctx->life = REFUSED;
    return 1;
}

/* --- the provider's functions ---------------------------------------------------------------- */

static void *new_context(void *provctx, enum kr_handle_cipher kind)
{
    struct context *ctx = OPENSSL_zalloc(sizeof(*ctx));
    if (!ctx)
        return NULL;
    ctx->kind = kind;
    ctx->functions = &inner_ciphers[kind];
    ctx->inner = ctx->functions->newctx(provctx);
    if (!ctx->inner) {
        OPENSSL_free(ctx);
        return NULL;
    }
    return ctx;
}

static void freectx(void *vctx)
{
    struct context *ctx = vctx;
    ctx->functions->freectx(ctx->inner);
    OPENSSL_clear_free(ctx, sizeof(*ctx));
}

static void *dupctx(void *vctx)
{
    struct context *from = vctx;
    if (from->life != KEYED) {
        kr_refuse(KR_REFUSAL_COPY);
        return NULL;
    }
    struct context *ctx = OPENSSL_memdup(from, sizeof(*from));
    if (!ctx)
        return NULL;
    ctx->inner = from->functions->dupctx(from->inner);
    if (!ctx->inner) {
        OPENSSL_free(ctx);
        return NULL;
    }
    return ctx;
}

static int init(struct context *ctx, bool encrypts, const unsigned char *key, size_t keylen,
                const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
    if (key && kr_begins_as_handle(key, keylen))
        return init_with_handle(ctx, encrypts, key, keylen, iv, ivlen, params);
    if (ctx->life != KEYED) {
        if (!key)
            return refuse(ctx, KR_REFUSAL_ORDER);
        forget_handle(ctx);
        ctx->life = KEYED;
    }
    return (encrypts ? ctx->functions->encrypt_init
                     : ctx->functions->decrypt_init)(ctx->inner, key, keylen, iv, ivlen, params);
}

static int encrypt_init(void *ctx, const unsigned char *key, size_t keylen, const unsigned char *iv,
                        size_t ivlen, const OSSL_PARAM params[])
{
    return init(ctx, true, key, keylen, iv, ivlen, params);
}

static int decrypt_init(void *ctx, const unsigned char *key, size_t keylen, const unsigned char *iv,
                        size_t ivlen, const OSSL_PARAM params[])
{
    return init(ctx, false, key, keylen, iv, ivlen, params);
}

static int update(void *vctx, unsigned char *out, size_t *outl, size_t outsize,
                  const unsigned char *in, size_t inl)
{
    struct context *ctx = vctx;
    if (ctx->life != KEYED)
        return update_with_handle(ctx, out, outl, outsize, in, inl);
    return ctx->functions->update(ctx->inner, out, outl, outsize, in, inl);
}

static int final(void *vctx, unsigned char *out, size_t *outl, size_t outsize)
{
    struct context *ctx = vctx;
    if (ctx->life != KEYED)
        return final_with_handle(ctx, outl);
    return ctx->functions->final(ctx->inner, out, outl, outsize);
}

static int cipher(void *vctx, unsigned char *out, size_t *outl, size_t outsize,
                  const unsigned char *in, size_t inl)
{
    struct context *ctx = vctx;
    if (ctx->life != KEYED)
        return update_with_handle(ctx, out, outl, outsize, in, inl);
    return ctx->functions->cipher(ctx->inner, out, outl, outsize, in, inl);
}

static int set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    struct context *ctx = vctx;
    if (ctx->life != KEYED)
        return set_params_with_handle(ctx, params);
    return ctx->functions->set_ctx_params(ctx->inner, params);
}

/* The inner context never saw a handle, so there is none in what it tells. */
static int get_ctx_params(void *vctx, OSSL_PARAM params[])
{
    struct context *ctx = vctx;
    return ctx->functions->get_ctx_params(ctx->inner, params);
}

static const OSSL_PARAM *gettable(enum kr_handle_cipher kind, const struct context *ctx,
                                  void *provctx)
{
    const OSSL_PARAM *list =
        inner_ciphers[kind].gettable_ctx_params(ctx ? ctx->inner : NULL, provctx);
    return list;
}

static const OSSL_PARAM *settable(enum kr_handle_cipher kind, const struct context *ctx,
                                  void *provctx)
{
    const OSSL_PARAM *list =
        inner_ciphers[kind].settable_ctx_params(ctx ? ctx->inner : NULL, provctx);
    return list;
}

/* Called without a context at times, so each cipher has its own. */
#define FUNCTIONS_OF(name, kind)                                                                   \
    static void *name##_newctx(void *provctx)                                                      \
    {                                                                                              \
        return new_context(provctx, kind);                                                         \
    }                                                                                              \
    static const OSSL_PARAM *name##_gettable_ctx_params(void *ctx, void *provctx)                  \
    {                                                                                              \
        return gettable(kind, ctx, provctx);                                                       \
    }                                                                                              \
    static const OSSL_PARAM *name##_settable_ctx_params(void *ctx, void *provctx)                  \
    {                                                                                              \
        return settable(kind, ctx, provctx);                                                       \
    }
FUNCTIONS_OF(ecb, KR_HANDLE_CIPHER_ECB)
FUNCTIONS_OF(cbc, KR_HANDLE_CIPHER_CBC)

/* clang-format off */
#define ENTRY(id, function) {OSSL_FUNC_CIPHER_##id, (void (*)(void))(function)}
#define REPLACEMENTS(name)                                                                         \
    ENTRY(NEWCTX, name##_newctx), ENTRY(FREECTX, freectx), ENTRY(DUPCTX, dupctx),                  \
    ENTRY(ENCRYPT_INIT, encrypt_init), ENTRY(DECRYPT_INIT, decrypt_init),                          \
    ENTRY(UPDATE, update), ENTRY(FINAL, final), ENTRY(CIPHER, cipher),                             \
    ENTRY(GET_CTX_PARAMS, get_ctx_params), ENTRY(SET_CTX_PARAMS, set_ctx_params),                  \
    ENTRY(GETTABLE_CTX_PARAMS, name##_gettable_ctx_params),                                        \
    ENTRY(SETTABLE_CTX_PARAMS, name##_settable_ctx_params), {0, NULL}
/* clang-format on */

static const OSSL_DISPATCH replacements[KR_HANDLE_CIPHERS][KR_CIPHER_FUNCTIONS] = {
    {REPLACEMENTS(ecb)}, {REPLACEMENTS(cbc)}};

/* --- setting up ------------------------------------------------------------------------------ */

#define TAKE(id, field) (OSSL_FUNC_cipher_##field##_fn *)inner[OSSL_FUNC_CIPHER_##id]

const OSSL_DISPATCH *kr_handle_cipher_over(enum kr_handle_cipher kind, kr_function *const *inner)
{
    for (int id = OSSL_FUNC_CIPHER_NEWCTX; id < KR_CIPHER_FUNCTIONS; id++) {
        if (!inner[id])
            return NULL;
    }
    if (!inner_ciphers[kind].newctx) {
        inner_ciphers[kind] = (struct inner_cipher){
            .newctx = TAKE(NEWCTX, newctx),
            .encrypt_init = TAKE(ENCRYPT_INIT, encrypt_init),
            .decrypt_init = TAKE(DECRYPT_INIT, decrypt_init),
            .update = TAKE(UPDATE, update),
            .final = TAKE(FINAL, final),
            .cipher = TAKE(CIPHER, cipher),
            .freectx = TAKE(FREECTX, freectx),
            .dupctx = TAKE(DUPCTX, dupctx),
            .get_ctx_params = TAKE(GET_CTX_PARAMS, get_ctx_params),
            .set_ctx_params = TAKE(SET_CTX_PARAMS, set_ctx_params),
            .gettable_ctx_params = TAKE(GETTABLE_CTX_PARAMS, gettable_ctx_params),
            .settable_ctx_params = TAKE(SETTABLE_CTX_PARAMS, settable_ctx_params),
        };
    }
    return replacements[kind];
}
