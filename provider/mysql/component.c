/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The MySQL component: declaration, start and end. */
#include "component.h"

const struct mysql_registry *component_registry;

#define SERVICE(service, table)                                                                    \
    {                                                                                              \
        service "." COMPONENT_NAME, &(table)                                                       \
    }

static struct mysql_service_ref provides[] = {
    SERVICE("keyring_load", component_load),
    SERVICE("keyring_reader_with_status", component_reader),
    SERVICE("keyring_writer", component_writer),
    SERVICE("keyring_generator", component_generator),
    SERVICE("keyring_aes", component_aes),
    SERVICE("keyring_keys_metadata_iterator", component_keys),
    SERVICE("keyring_component_status", component_status),
    SERVICE("keyring_component_metadata_query", component_metadata),
    {NULL, NULL},
};

/* No more than this: mysql_migrate_keyring offers nothing else. */
static struct mysql_service_placeholder requirements[] = {
    {"registry", &component_registry},
    {NULL, NULL},
};

static struct mysql_metadata_ref metadata[] = {
    {"mysql.author", "p11keyring"},
    {"mysql.license", "GPL"},
    {"mysql.version", P11K_VERSION},
    {NULL, NULL},
};

/* Nothing of the token yet: load() comes next. */
static int init(void)
{
    kr_log_set_sink(component_log_sink, NULL);
    return 0;
}

/* Comes in every process that came from the one of init(). */
static int deinit(void)
{
    component_close();
    kr_log_set_sink(NULL, NULL);
    return 0;
}

static struct mysql_component component = {
    .name = COMPONENT_NAME,
    .provides = provides,
    .requires = requirements,
    .metadata = metadata,
    .init = init,
    .deinit = deinit,
};

struct mysql_component *list_components(void);

__attribute__((visibility("default"))) struct mysql_component *list_components(void)
{
    return &component;
}
