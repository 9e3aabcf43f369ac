/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Derived page keys and their cache: sets of a few places, each set under a lock that it shares
 * with others. */
#include "hwaccel/page_key.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "base/bytes.h"
#include "base/secret.h"

enum { WAYS = 4, SETS = KR_PAGE_KEYS_MAX / WAYS, LOCKS = 32, GIVEN_MAX = 32 };

static const char label[] = "p11keyring page key";
enum { LABEL = sizeof(label) - 1, INFO = LABEL + 8 };

struct place {
    uint8_t given[GIVEN_MAX];
    uint32_t len; /* of what was given; 0: nothing is here */
    uint32_t id, version, epoch;
    uint8_t derived[KR_PAGE_KEY_BYTES];
};

struct set {
    struct place places[WAYS];
    uint32_t next; /* the place to give up */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_KDF *hkdf;
static pthread_mutex_t locks[LOCKS];
static struct set *sets; /* secret memory, made at first use; NULL: nothing can be kept */
static _Atomic uint32_t epoch;
static _Atomic uint64_t derived_count;

static void prepare_process(void)
{
    for (unsigned i = 0; i < LOCKS; i++)
        pthread_mutex_init(&locks[i], NULL);
    hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    sets = kr_secret_alloc(sizeof(*sets) * SETS);
}

uint32_t kr_page_keys_epoch(void)
{
    return atomic_load(&epoch);
}

/* --- derivation ------------------------------------------------------------------------------- */

static enum kr_status derive(const struct kr_page_key *key, uint8_t ret[KR_PAGE_KEY_BYTES])
{
    uint8_t info[INFO];
    memcpy(info, label, LABEL);
    kr_put_number(info + LABEL, key->id, 4);
    kr_put_number(info + LABEL + 4, key->version, 4);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key->data_key,
                                          KR_PAGE_KEY_BYTES),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)key->bytes, key->len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof(info)),
        OSSL_PARAM_construct_end()};
    EVP_KDF_CTX *ctx = hkdf ? EVP_KDF_CTX_new(hkdf) : NULL;
    bool ok = ctx && EVP_KDF_derive(ctx, ret, KR_PAGE_KEY_BYTES, params) > 0;
    EVP_KDF_CTX_free(ctx);
    atomic_fetch_add(&derived_count, 1);
    if (!ok)
        ERR_clear_error();
    return ok ? KR_OK : KR_INTERNAL;
}

/* --- the cache -------------------------------------------------------------------------------- */

/* What servers give is random or came out of AES: any of its bits will do. */
static unsigned set_of(const struct kr_page_key *key)
{
    uint64_t bits;
    memcpy(&bits, key->bytes, sizeof(bits));
    bits ^= (uint64_t)key->id << 32 ^ key->version;
    return (unsigned)((bits * 0x9e3779b97f4a7c15u) >> 32) % SETS;
}

static bool is_of(const struct place *place, const struct kr_page_key *key, uint32_t now)
{
    return place->len == key->len && place->id == key->id && place->version == key->version &&
           place->epoch == now && memcmp(place->given, key->bytes, key->len) == 0;
}

static bool find(const struct kr_page_key *key, uint32_t now, uint8_t ret[KR_PAGE_KEY_BYTES])
{
    unsigned index = set_of(key);
    bool found = false;
    pthread_mutex_lock(&locks[index % LOCKS]);
    for (unsigned i = 0; i < WAYS && !found; i++) {
        const struct place *place = &sets[index].places[i];
        if ((found = is_of(place, key, now)))
            memcpy(ret, place->derived, sizeof(place->derived));
    }
    pthread_mutex_unlock(&locks[index % LOCKS]);
    return found;
}

static void keep(const struct kr_page_key *key, uint32_t now,
                 const uint8_t derived[KR_PAGE_KEY_BYTES])
{
    unsigned index = set_of(key);
    struct set *set = &sets[index];
    pthread_mutex_lock(&locks[index % LOCKS]);
    if (now == kr_page_keys_epoch()) { /* else it was forgotten meanwhile */
        struct place *place = &set->places[set->next++ % WAYS];
        *place = (struct place){
            .len = (uint32_t)key->len, .id = key->id, .version = key->version, .epoch = now};
        memcpy(place->given, key->bytes, key->len);
        memcpy(place->derived, derived, sizeof(place->derived));
    }
    pthread_mutex_unlock(&locks[index % LOCKS]);
}

enum kr_status kr_page_key_derive(const struct kr_page_key *key, uint8_t ret[KR_PAGE_KEY_BYTES])
{
    if (!key->data_key || (key->len != 16 && key->len != 24 && key->len != 32))
        return KR_USAGE;
    pthread_once(&once, prepare_process);
    uint32_t now = kr_page_keys_epoch();
    if (sets && find(key, now, ret))
        return KR_OK;
    KR_TRY(derive(key, ret));
    if (sets)
        keep(key, now, ret);
    return KR_OK;
}

/* The new epoch comes first: who kept a key under the old one did so before the wiping. */
void kr_page_keys_forget(void)
{
    atomic_fetch_add(&epoch, 1);
    if (atomic_load(&derived_count) == 0)
        return;
    for (unsigned i = 0; sets && i < SETS; i++) {
        pthread_mutex_lock(&locks[i % LOCKS]);
        kr_wipe(&sets[i], sizeof(sets[i]));
        pthread_mutex_unlock(&locks[i % LOCKS]);
    }
}

void kr_page_keys_get_stats(struct kr_page_key_stats *ret)
{
    *ret = (struct kr_page_key_stats){.derived = atomic_load(&derived_count)};
    if (ret->derived == 0)
        return;
    for (unsigned i = 0; sets && i < SETS; i++) {
        pthread_mutex_lock(&locks[i % LOCKS]);
        for (unsigned way = 0; way < WAYS; way++)
            ret->kept += sets[i].places[way].len != 0;
        pthread_mutex_unlock(&locks[i % LOCKS]);
    }
}
