/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The services that load the keyring and read, store, remove and make secrets. */
#include "component.h"

#include <string.h>

#include "base/secret.h"
#include "provider/secrets_import.h"

#define INNODB_PREFIX "INNODBKey-"
enum { MASTER_KEY_BYTES = 32 };

static const char *owner_of(const char *auth_id)
{
    return auth_id ? auth_id : "";
}

/* --- keyring_load ----------------------------------------------------------------------------- */

static int load(const char *component_path, const char *instance_path)
{
    struct kr_error err = KR_ERROR_INIT;
    KR_CONFIG_OWNED struct kr_config *config = NULL;
    if (component_read_config(component_path, instance_path, &config, &err) != KR_OK ||
        component_open(config, &err) != KR_OK)
        return component_failed(&err);
    component_warn(config);
    config = NULL; /* the keyring's now */
    component_forget_error();
    return 0;
}

struct mysql_keyring_load component_load = {.load = load};

/* --- which form a master key gets ------------------------------------------------------------- */

/* What master-keys = token does not get is said each time; wrapped is what was asked for. */
static enum kr_secret_form wrap_instead(const struct kr_config *config, const char *id)
{
    if (strcmp(config->mysql.master_keys, "token") == 0)
        kr_log(KR_LOG_WARNING,
               "the master key '%s' is wrapped and not in the token: this mysqld has not been "
               "verified, and [mysql] unverified-server = wrapped",
               id);
    return KR_SECRET_WRAPPED;
}

/* --- keyring_reader_with_status --------------------------------------------------------------- */

/* InnoDB reads 32 bytes whatever the length is said to be. */
static enum kr_status check_length(const char *id, size_t len, struct kr_error *err)
{
    if (strncmp(id, INNODB_PREFIX, strlen(INNODB_PREFIX)) != 0 || len == MASTER_KEY_BYTES)
        return KR_OK;
    return kr_fail(err, KR_USAGE, "an InnoDB master key has %d bytes, not %zu", MASTER_KEY_BYTES,
                   len);
}

static enum kr_status fetch_secret(const char *id, const char *owner, struct kr_secret *ret,
                                   struct kr_error *err)
{
    struct component_keyring use;
    KR_TRY(component_begin(&use, err));
    enum kr_status status = kr_secrets_fetch(use.secrets, id, owner, ret, err);
    component_end();
    if (status != KR_OK)
        return status;
    status = check_length(id, ret->len, err);
    if (status != KR_OK)
        kr_secret_free(ret->bytes);
    return status;
}

static void free_secret(struct kr_secret *secret)
{
    kr_secret_free(secret->bytes);
    kr_secret_free(secret);
}

static int reader_init(const char *data_id, const char *auth_id, mysql_handle *ret_object)
{
    struct kr_error err = KR_ERROR_INIT;
    *ret_object = NULL;
    if (!data_id || !*data_id)
        return 1;
    struct kr_secret *secret = kr_secret_alloc(sizeof(*secret));
    enum kr_status status =
        secret ? fetch_secret(data_id, owner_of(auth_id), secret, &err) : kr_fail_secret(&err);
    if (status == KR_OK) {
        *ret_object = secret;
        return 0;
    }
    kr_secret_free(secret);
    return status == KR_NOT_FOUND ? 0 : component_failed(&err);
}

static int reader_deinit(mysql_handle object)
{
    if (object)
        free_secret(object);
    return 0;
}

static int reader_fetch_length(mysql_handle object, size_t *ret_data_len, size_t *ret_type_len)
{
    const struct kr_secret *secret = object;
    if (!secret || !ret_data_len || !ret_type_len)
        return 1;
    *ret_data_len = secret->len;
    *ret_type_len = strlen(secret->type);
    return 0;
}

/* mysqld gives the type exactly its length, without room for a NUL; other callers give one more. */
static int reader_fetch(mysql_handle object, unsigned char *data, size_t data_room,
                        size_t *ret_data_len, char *type, size_t type_room, size_t *ret_type_len)
{
    const struct kr_secret *secret = object;
    if (!secret || !data || !ret_data_len || !type || !ret_type_len)
        return 1;
    size_t type_len = strlen(secret->type);
    if (data_room < secret->len || type_room < type_len)
        return 1;
    memcpy(data, secret->bytes, secret->len);
    memcpy(type, secret->type, type_len + (type_room > type_len));
    *ret_data_len = secret->len;
    *ret_type_len = type_len;
    return 0;
}

struct mysql_keyring_reader component_reader = {
    .init = reader_init,
    .deinit = reader_deinit,
    .fetch_length = reader_fetch_length,
    .fetch = reader_fetch,
};

/* --- keyring_writer --------------------------------------------------------------------------- */

/* The server's own master keys come from mysql_migrate_keyring alone, which needs no handle. */
static enum kr_status store_secret(const struct component_keyring *use,
                                   const struct kr_secret_item *item, struct kr_error *err)
{
    if (kr_secret_resident_form(item->id, item->owner, item->type, item->len) !=
        KR_SECRET_WRAPPED) {
        if (component_token_mode(use->config))
            return kr_secrets_import(use->secrets, item, 1, true, err);
        wrap_instead(use->config, item->id);
    }
    return kr_secrets_store(use->secrets, item->id, item->owner, item->type, item->bytes, item->len,
                            err);
}

static int writer_store(const char *data_id, const char *auth_id, const unsigned char *data,
                        size_t len, const char *type)
{
    struct kr_error err = KR_ERROR_INIT;
    struct component_keyring use;
    if (!data_id || !data || !type)
        return 1;
    if (check_length(data_id, len, &err) != KR_OK || component_begin(&use, &err) != KR_OK)
        return component_failed(&err);
    const struct kr_secret_item item = {data_id, owner_of(auth_id), type, data, len};
    enum kr_status status = store_secret(&use, &item, &err);
    component_end();
    return status == KR_OK ? 0 : component_failed(&err);
}

/* An absent one is an answer and no failure to keep for an operator. */
static int writer_remove(const char *data_id, const char *auth_id)
{
    struct kr_error err = KR_ERROR_INIT;
    struct component_keyring use;
    if (!data_id)
        return 1;
    if (component_begin(&use, &err) != KR_OK)
        return component_failed(&err);
    enum kr_status status = kr_secrets_remove(use.secrets, data_id, owner_of(auth_id), &err);
    component_end();
    if (status == KR_OK)
        return 0;
    return status == KR_NOT_FOUND ? 1 : component_failed(&err);
}

struct mysql_keyring_writer component_writer = {.store = writer_store, .remove = writer_remove};

/* --- keyring_generator ------------------------------------------------------------------------ */

static int generate(const char *data_id, const char *auth_id, const char *type, size_t len)
{
    struct kr_error err = KR_ERROR_INIT;
    struct component_keyring use;
    if (!data_id || !type)
        return 1;
    const char *owner = owner_of(auth_id);
    if (check_length(data_id, len, &err) != KR_OK || component_begin(&use, &err) != KR_OK)
        return component_failed(&err);
    enum kr_secret_form form = kr_secret_resident_form(data_id, owner, type, len);
    if (form != KR_SECRET_WRAPPED && !component_token_mode(use.config))
        form = wrap_instead(use.config, data_id);
    enum kr_status status = kr_secrets_generate(use.secrets, data_id, owner, type, form, len, &err);
    component_end();
    return status == KR_OK ? 0 : component_failed(&err);
}

struct mysql_keyring_generator component_generator = {.generate = generate};
