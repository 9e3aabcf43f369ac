/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A MySQL component with one system variable, sensitive_variable.secret, that is marked SENSITIVE:
 * a stock server has none, and the server encrypts such values in mysqld-auto.cnf with a key from
 * the keyring.
 */
#include <stddef.h>

/* plugin.h and component.h of the server, as far as they are needed here. */
enum { VAR_STR = 0x0005, VAR_MEMALLOC = 0x8000, VAR_SENSITIVE = 0x80000 };

struct service_register {
    int (*add)(const char *component, const char *name, int flags, const char *comment, void *check,
               void *update, void *check_arg, void *value);
};

struct service_unregister {
    int (*remove)(const char *component, const char *name);
};

struct service_reference {
    const char *name;
    void *place;
};

struct text_pair {
    const char *key, *value;
};

struct component {
    const char *name;
    const struct service_reference *provides;
    const struct service_reference *requires;
    const struct text_pair *metadata;
    int (*init)(void);
    int (*deinit)(void);
};

static struct service_register *variable_register;
static struct service_unregister *variable_unregister;
static char *secret;

static int component_init(void)
{
    struct {
        const char *default_value;
    } check = {""};
    return variable_register->add("sensitive_variable", "secret",
                                  VAR_STR | VAR_MEMALLOC | VAR_SENSITIVE, "A secret.", NULL, NULL,
                                  &check, &secret);
}

static int component_deinit(void)
{
    return variable_unregister->remove("sensitive_variable", "secret");
}

static const struct service_reference provides[] = {{NULL, NULL}};
static const struct service_reference requires[] = {
    {"component_sys_variable_register", &variable_register},
    {"component_sys_variable_unregister", &variable_unregister},
    {NULL, NULL},
};
static const struct text_pair metadata[] = {{NULL, NULL}};
static const struct component self = {
    "sensitive_variable", provides, requires, metadata, component_init, component_deinit,
};

const struct component *list_components(void);

const struct component *list_components(void)
{
    return &self;
}
