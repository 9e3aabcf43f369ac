/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A recipient's key: its public half from a file, its private half in a token. */
#include "pkcs11/recipient.h"

#include "base/secret.h"
#include "pkcs11/token_internal.h"
#include "pkcs11/wrapping.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- in a token ------------------------------------------------------------------------------- */

struct open_args {
    struct kr_rsa_public key;
    enum kr_wrap_mechanism mechanism;
    uint8_t ciphertext[KR_RSA_BYTES_MAX];
    uint8_t content[KR_SEALING_KEY_BYTES];
};

static enum kr_status find_key(struct kr_session *s, const struct kr_rsa_public *key,
                               CK_OBJECT_HANDLE *ret, struct kr_error *err)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_KEY_TYPE type = CKK_RSA;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof(class)},
                               {CKA_KEY_TYPE, &type, sizeof(type)},
                               {CKA_MODULUS, (void *)key->modulus, key->modulus_len}};
    CK_OBJECT_HANDLE *objects = NULL;
    size_t count = 0;

    KR_TRY(kr_objects_find(s, template, 3, &objects, &count, err));
    *ret = count > 0 ? objects[0] : CK_INVALID_HANDLE;
    free(objects);
    return count > 0 ? KR_OK
                     : kr_fail(err, KR_NOT_FOUND, "the token does not have the recipient's key");
}

static enum kr_status run_open(struct kr_session *s, void *data, struct kr_error *err)
{
    struct open_args *args = data;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;

    KR_TRY(find_key(s, &args->key, &key, err));
    return kr_rsa_decrypt(s, key, args->mechanism, args->ciphertext, args->key.modulus_len,
                          args->content, err);
}

static void wipe_open(void *data)
{
    kr_wipe(data, sizeof(struct open_args));
}

enum kr_status kr_recipient_open(struct kr_token *token, const struct kr_rsa_public *key,
                                 enum kr_wrap_mechanism mechanism, const uint8_t *ciphertext,
                                 uint8_t ret[KR_SEALING_KEY_BYTES], struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct open_args), run_open, wipe_open);
    struct open_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct open_args *)job->args;
    args->key = *key;
    args->mechanism = mechanism;
    memcpy(args->ciphertext, ciphertext, key->modulus_len);
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    memcpy(ret, args->content, KR_SEALING_KEY_BYTES);
    return KR_OK;
}

/* --- from a file ------------------------------------------------------------------------------ */

static void close_file(FILE **file)
{
    if (*file)
        fclose(*file);
}

/* Either form of PEM; NULL when it is neither. */
static EVP_PKEY *read_pem(FILE *file)
{
    EVP_PKEY *key = PEM_read_PUBKEY(file, NULL, NULL, NULL);
    X509 *certificate = NULL;

    if (!key) {
        rewind(file);
        certificate = PEM_read_X509(file, NULL, NULL, NULL);
        key = certificate ? X509_get_pubkey(certificate) : NULL;
    }
    X509_free(certificate);
    ERR_clear_error();
    return key;
}

/* A number of the key; 0: it has none of at most `max` bytes. */
static size_t read_number(const EVP_PKEY *key, const char *name, uint8_t *ret, size_t max)
{
    BIGNUM *number = NULL;
    size_t len = 0;

    if (EVP_PKEY_get_bn_param(key, name, &number) == 1) {
        len = (size_t)BN_num_bytes(number);
        len = len <= max ? (size_t)BN_bn2bin(number, ret) : 0;
    }
    BN_free(number);
    ERR_clear_error();
    return len;
}

enum kr_status kr_recipient_read(const char *path, struct kr_rsa_public *ret, struct kr_error *err)
{
    __attribute__((cleanup(close_file))) FILE *file = fopen(path, "re");
    struct kr_rsa_public key;

    if (!file)
        return kr_fail(err, KR_IO, "cannot open the recipient's key %s: %s", path, strerror(errno));
    EVP_PKEY *pem = read_pem(file);
    key.modulus_len =
        pem ? read_number(pem, OSSL_PKEY_PARAM_RSA_N, key.modulus, sizeof(key.modulus)) : 0;
    key.exponent_len =
        pem ? read_number(pem, OSSL_PKEY_PARAM_RSA_E, key.exponent, sizeof(key.exponent)) : 0;
    EVP_PKEY_free(pem);
    if (key.modulus_len < KR_RSA_BITS_MIN / 8 || key.exponent_len == 0) {
        kr_fail(err, KR_USAGE, "%s is no RSA public key of %d to %d bits", path, KR_RSA_BITS_MIN,
                KR_RSA_BITS_MAX);
        kr_hint(err, "have the recipient export it: pkcs11-tool --read-object --type pubkey --id "
                     "ID -o KEY.der; openssl rsa -pubin -inform DER -in KEY.der -out KEY.pem");
        return KR_USAGE;
    }
    *ret = key;
    return KR_OK;
}
