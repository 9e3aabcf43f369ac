/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The server's side of the MySQL component. */
#include "mysql_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct mysql_host host = {.is_server = false, .has_error_log = true};

/* --- what the server offers ------------------------------------------------------------------- */

static int emit(const char *component, const char *file, unsigned long line, int severity,
                int error_id, ...)
{
    (void)file;
    (void)line;
    va_list args;
    va_start(args, error_id);
    const char *message = va_arg(args, const char *);
    va_end(args);
    assert_string_equal(component, "component_keyring_pkcs11");
    assert_int_equal(error_id, 11071);
    assert_int_equal(strncmp(message, "component_keyring_pkcs11: ", 26), 0);
    size_t used = strlen(host.log);
    snprintf(host.log + used, sizeof(host.log) - used, "%d %s\n", severity, message);
    return 0;
}

static struct mysql_simple_error_log error_log = {emit};

static int acquire(const char *name, mysql_handle *ret)
{
    static int some_service;
    if (host.has_error_log && strcmp(name, "mysql_simple_error_log") == 0)
        *ret = &error_log;
    else if (host.is_server && strcmp(name, "component_sys_variable_register.mysql_server") == 0)
        *ret = &some_service;
    else
        return 1;
    return 0;
}

static int acquire_related(const char *name, mysql_handle service, mysql_handle *ret)
{
    (void)service;
    return acquire(name, ret);
}

static int release(mysql_handle service)
{
    (void)service;
    return 0;
}

static struct mysql_registry registry = {acquire, acquire_related, release};

/* --- loading ---------------------------------------------------------------------------------- */

static void *service(const char *name)
{
    char full[128];
    snprintf(full, sizeof(full), "%s.component_keyring_pkcs11", name);
    for (const struct mysql_service_ref *ref = host.component->provides; ref->name; ref++)
        if (strcmp(ref->name, full) == 0)
            return ref->implementation;
    fail_msg("no service %s", full);
    return NULL;
}

static void find_services(void)
{
    host.load = service("keyring_load");
    host.reader = service("keyring_reader_with_status");
    host.writer = service("keyring_writer");
    host.generator = service("keyring_generator");
    host.aes = service("keyring_aes");
    host.keys = service("keyring_keys_metadata_iterator");
    host.status = service("keyring_component_status");
    host.metadata = service("keyring_component_metadata_query");
}

int mysql_host_up(void **state)
{
    (void)state;
    keyring_fixture_up(&host.keyring);
    unsetenv("P11KEYRING_CONF");
    snprintf(host.plugins, sizeof(host.plugins), "%s/plugins", host.keyring.token.dir);
    snprintf(host.data, sizeof(host.data), "%s/data", host.keyring.token.dir);
    assert_int_equal(mkdir(host.plugins, 0700) | mkdir(host.data, 0700), 0);
    void *library = dlopen(P11K_TEST_COMPONENT, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        fail_msg("%s", dlerror());
    assert_null(dlsym(library, "kr_keyring_open"));
    struct mysql_component *(*list)(void) =
        (struct mysql_component * (*)(void)) dlsym(library, "list_components");
    assert_non_null(list);
    host.component = list();
    find_services();
    assert_string_equal(host.component->requires[0].name, "registry");
    assert_null(host.component->requires[1].name);
    *(const struct mysql_registry **)host.component->requires[0].implementation = &registry;
    return host.component->init();
}

int mysql_host_down(void **state)
{
    (void)state;
    int failed = host.component->deinit();
    keyring_fixture_down(&host.keyring);
    return failed;
}

void mysql_host_cnf(const char *folder, const char *fmt, ...)
{
    char path[512];
    va_list args;
    snprintf(path, sizeof(path), "%s/component_keyring_pkcs11.cnf", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    va_start(args, fmt);
    vfprintf(file, fmt, args);
    va_end(args);
    assert_int_equal(fclose(file), 0);
}

void mysql_host_load(const char *mode, const char *more)
{
    host.log[0] = '\0';
    mysql_host_cnf(host.plugins, "{\"config\": \"%s\", \"mysql\": {\"master-keys\": \"%s\"%s}}",
                   host.keyring.config_path, mode, more);
    if (host.load->load(host.plugins, host.data) != 0)
        fail_msg("load: %s", host.log);
}

/* --- asking ----------------------------------------------------------------------------------- */

const char *mysql_host_row(const char *wanted)
{
    static char value[2048];
    mysql_handle it;
    bool found = false;
    assert_int_equal(host.metadata->init(&it), 0);
    for (; !found && host.metadata->is_valid(it); host.metadata->next(it)) {
        char key[256];
        size_t key_size, value_size;
        assert_int_equal(host.metadata->get_length(it, &key_size, &value_size), 0);
        assert_true(key_size <= sizeof(key) && value_size <= sizeof(value));
        assert_int_equal(host.metadata->get(it, key, key_size, value, value_size), 0);
        assert_int_equal(strlen(key) + 1, key_size);
        assert_int_equal(strlen(value) + 1, value_size);
        found = strcmp(key, wanted) == 0;
    }
    host.metadata->deinit(it);
    if (!found)
        fail_msg("no row %s", wanted);
    return value;
}

int mysql_host_read(const char *id, const char *owner, unsigned char *ret, size_t *ret_len)
{
    mysql_handle object = &object;
    size_t len, type_len, got;
    char type[8];
    if (host.reader->init(id, owner, &object) != 0) {
        assert_null(object);
        return -1;
    }
    if (!object)
        return 0;
    assert_int_equal(host.reader->fetch_length(object, &len, &type_len), 0);
    assert_true(type_len <= sizeof(type));
    /* As mysqld does: no room for a NUL behind the type. */
    memset(type, '#', sizeof(type));
    assert_int_equal(host.reader->fetch(object, ret, 64, &got, type, type_len, &type_len), 0);
    assert_int_equal(got, len);
    assert_int_equal(type[type_len], '#');
    assert_int_equal(host.reader->deinit(object), 0);
    *ret_len = got;
    return 1;
}

void mysql_host_logged(const char *text)
{
    if (!strstr(host.log, text))
        fail_msg("'%s' is not in the log: %s", text, host.log);
}
