/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Which program this is, and so what it may do with token-resident keys. A handle may only get to a
 * mysqld that is known to use it as the OpenSSL provider expects; anything else would take it for a
 * key. Whatever is not certain is a refusal.
 */
#include "component.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/guards.h"
#include "base/versions.h"
#include "provider/handle_route.h"

/* --- the program ------------------------------------------------------------------------------ */

static bool is_named_mysqld(void)
{
    char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (len <= 0)
        return false;
    path[len] = '\0';
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    return strcmp(name, "mysqld") == 0 || strcmp(name, "mysqld-debug") == 0;
}

/* A service that mysqld's own component provides, and no tool. */
static bool offers_server_service(void)
{
    mysql_handle handle = NULL;
    if (!component_registry ||
        component_registry->acquire("component_sys_variable_register.mysql_server", &handle) != 0)
        return false;
    component_registry->release(handle);
    return true;
}

/* mysqld exports its variable; NULL, or empty before mysqld has filled it in. */
static const char *server_version(void)
{
    return dlsym(RTLD_DEFAULT, "server_version");
}

/* Whether the program itself was linked with libcrypto as a shared library. */
static bool needs_libcrypto(void)
{
    const struct link_map *map = NULL;
    void *program = dlopen(NULL, RTLD_LAZY);
    bool found = false;
    if (!program)
        return false;
    if (dlinfo(program, RTLD_DI_LINKMAP, &map) == 0) {
        const char *strings = NULL;
        for (const ElfW(Dyn) *dyn = map->l_ld; dyn->d_tag != DT_NULL; dyn++)
            if (dyn->d_tag == DT_STRTAB)
                strings = (const char *)dyn->d_un.d_ptr;
        for (const ElfW(Dyn) *dyn = map->l_ld; strings && dyn->d_tag != DT_NULL; dyn++)
            found = found || (dyn->d_tag == DT_NEEDED &&
                              strncmp(strings + dyn->d_un.d_val, "libcrypto.so.", 13) == 0);
    }
    dlclose(program);
    return found;
}

/* What we see of OpenSSL is what the server uses. */
static bool shares_openssl(void)
{
    return needs_libcrypto() &&
           dlsym(RTLD_DEFAULT, "EVP_EncryptUpdate") == (void *)(uintptr_t)EVP_EncryptUpdate;
}

static enum kr_status check_program(struct kr_error *err)
{
    if (!is_named_mysqld() || !offers_server_service()) {
        kr_fail(err, KR_REFUSED, "only mysqld itself can use it");
        kr_hint(err, "a key that lives in the token cannot be migrated: set [mysql] master-keys = "
                     "wrapped, restart mysqld, rotate both master keys, end the old ones by "
                     "p11keyring key destroy, and try again (docs/USAGE-mysql.md, 12)");
        return err->status;
    }
    if (!shares_openssl()) {
        kr_fail(err, KR_REFUSED, "this mysqld does not use the system's libcrypto");
        kr_hint(err,
                "run a mysqld that is linked with OpenSSL 3 as a shared library, or set [mysql] "
                "master-keys = wrapped");
        return err->status;
    }
    return KR_OK;
}

static bool is_verified(const struct kr_config *config)
{
    const char *version = server_version();
    return version && kr_versions_include(config->mysql.server_versions, version);
}

static enum kr_status check_version(const struct kr_config *config, struct kr_error *err)
{
    if (is_verified(config))
        return KR_OK;
    const char *version = server_version();
    kr_fail(err, KR_REFUSED, "mysqld %.40s has not been verified for master-keys = token",
            version && *version ? version : "of unknown version");
    kr_hint(err,
            "verified are [mysql] server-versions = %s; see docs/USAGE-mysql.md, or set "
            "master-keys = wrapped or unverified-server = wrapped for new keys",
            config->mysql.server_versions);
    return err->status;
}

/* --- modes ------------------------------------------------------------------------------------ */

bool component_token_mode(const struct kr_config *config)
{
    if (strcmp(config->mysql.master_keys, "token") != 0)
        return false;
    return strcmp(config->mysql.unverified_server, "wrapped") != 0 || is_verified(config);
}

void component_warn(const struct kr_config *config)
{
    struct kr_error err = KR_ERROR_INIT;
    if (component_token_mode(config) && check_program(&err) == KR_OK &&
        kr_handle_route_check(&err) != KR_OK) {
        kr_error_context(&err, "master keys cannot be made or used in the token");
        kr_log_error(KR_LOG_WARNING, &err);
    }
}

/* --- the gate --------------------------------------------------------------------------------- */

/* Called by the OpenSSL provider. The server's own message will not say why; a handle that names no
 * key is no failure of ours. */
static int run_in_token(void *context, const uint8_t handle[KR_HANDLE_BYTES], enum kr_handle_op op,
                        const uint8_t *iv, const uint8_t *in, size_t len, uint8_t *out)
{
    struct kr_error err = KR_ERROR_INIT;
    struct component_keyring use;
    (void)context;
    if (component_begin(&use, &err) == KR_OK) {
        enum kr_status status = kr_secrets_crypt(use.secrets, handle, op, iv, in, len, out, &err);
        component_end();
        if (status == KR_OK)
            return 1;
    }
    if (err.status != KR_USAGE) {
        kr_error_context(&err, "a master key could not be used");
        component_failed(&err);
    }
    return 0;
}

/* Forms whose way was proven in this process, as bits; zero in a child. */
static struct {
    _Atomic pid_t pid;
    atomic_uint forms;
} proven;

static bool is_proven(enum kr_secret_form form)
{
    return proven.pid == getpid() && (proven.forms & 1U << form);
}

static void set_proven(enum kr_secret_form form)
{
    if (proven.pid != getpid()) {
        proven.forms = 0;
        proven.pid = getpid();
    }
    proven.forms |= 1U << form;
}

/* Whether or not the handle finds its way. */
static enum kr_status open_unguarded(void)
{
    struct kr_error err = KR_ERROR_INIT;
    if (kr_handle_route_open(run_in_token, NULL, &err) != KR_OK)
        kr_log_error(KR_LOG_NOTE, &err);
    return KR_OK;
}

enum kr_status component_gate(void *context, struct kr_secrets *secrets, enum kr_secret_form form,
                              const uint8_t *handle, struct kr_error *err)
{
    if (!KR_GUARDED)
        return open_unguarded();
    KR_TRY(check_program(err));
    KR_TRY(check_version(context, err));
    KR_TRY(kr_handle_route_open(run_in_token, NULL, err));
    if (!handle || is_proven(form))
        return KR_OK;
    KR_TRY(kr_handle_route_prove(secrets, form, handle, err));
    set_proven(form);
    return KR_OK;
}
