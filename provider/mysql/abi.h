/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The binary interface between mysqld and a keyring component, as far as we use it. MySQL ships no
 * headers for components, so these are declarations of our own, after the server's sources:
 * include/mysql/components/component_implementation.h and, in include/mysql/components/services/,
 * registry.h, mysql_simple_error_log.h, keyring_reader_with_status.h, keyring_writer.h,
 * keyring_generator.h, keyring_load.h, keyring_aes.h, keyring_keys_metadata_iterator.h,
 * keyring_metadata_query.h (MySQL 8.0.37 and later, 8.4, 9.x).
 *
 * Methods return 0 on success and 1 on failure, in a full int; is_valid() and is_initialized()
 * return 1 for yes. Services are tables of functions in the order given here.
 */
#ifndef P11K_PROVIDER_MYSQL_ABI_H
#define P11K_PROVIDER_MYSQL_ABI_H

#include <stdbool.h>
#include <stddef.h>

typedef void *mysql_handle; /* my_h_service and the objects and iterators of services */

/* --- what list_components() returns ----------------------------------------------------------- */

struct mysql_service_ref {
    const char *name; /* "service.component" */
    void *implementation;
};

struct mysql_service_placeholder {
    const char *name;     /* "service" */
    void *implementation; /* where the server puts the table's address */
};

struct mysql_metadata_ref {
    const char *key, *value;
};

/* Each array ends with an entry of NULLs. */
struct mysql_component {
    const char *name;
    struct mysql_service_ref *provides;
    struct mysql_service_placeholder *requires;
    struct mysql_metadata_ref *metadata;
    int (*init)(void);
    int (*deinit)(void);
};

/* --- services of the server ------------------------------------------------------------------- */

struct mysql_registry {
    int (*acquire)(const char *name, mysql_handle *ret);
    int (*acquire_related)(const char *name, mysql_handle service, mysql_handle *ret);
    int (*release)(mysql_handle service);
};

enum mysql_severity { MYSQL_SYSTEM, MYSQL_ERROR, MYSQL_WARNING, MYSQL_INFORMATION };

struct mysql_simple_error_log {
    int (*emit)(const char *component, const char *file, unsigned long line, int severity,
                int error_id, ...);
};
enum { MYSQL_ER_LOG_PRINTF_MSG = 11071 }; /* "%s" */

/* --- services of a keyring -------------------------------------------------------------------- */

struct mysql_keyring_reader {
    int (*init)(const char *data_id, const char *auth_id, mysql_handle *ret_object);
    int (*deinit)(mysql_handle object);
    int (*fetch_length)(mysql_handle object, size_t *ret_data_len, size_t *ret_type_len);
    int (*fetch)(mysql_handle object, unsigned char *data, size_t data_room, size_t *ret_data_len,
                 char *type, size_t type_room, size_t *ret_type_len);
};

struct mysql_keyring_writer {
    int (*store)(const char *data_id, const char *auth_id, const unsigned char *data, size_t len,
                 const char *type);
    int (*remove)(const char *data_id, const char *auth_id);
};

struct mysql_keyring_generator {
    int (*generate)(const char *data_id, const char *auth_id, const char *type, size_t len);
};

struct mysql_keyring_load {
    int (*load)(const char *component_path, const char *instance_path);
};

struct mysql_keyring_aes {
    int (*get_size)(size_t len, const char *mode, size_t block_size, size_t *ret);
    int (*encrypt)(const char *data_id, const char *auth_id, const char *mode, size_t block_size,
                   const unsigned char *iv, bool padding, const unsigned char *data, size_t len,
                   unsigned char *out, size_t room, size_t *ret_len);
    int (*decrypt)(const char *data_id, const char *auth_id, const char *mode, size_t block_size,
                   const unsigned char *iv, bool padding, const unsigned char *data, size_t len,
                   unsigned char *out, size_t room, size_t *ret_len);
};

struct mysql_keyring_keys_iterator {
    int (*init)(mysql_handle *ret);
    int (*deinit)(mysql_handle iterator);
    int (*is_valid)(mysql_handle iterator);
    int (*next)(mysql_handle iterator);
    int (*get_length)(mysql_handle iterator, size_t *ret_data_id_len, size_t *ret_auth_id_len);
    int (*get)(mysql_handle iterator, char *data_id, size_t data_id_room, char *auth_id,
               size_t auth_id_room);
};

struct mysql_keyring_status {
    int (*is_initialized)(void);
};

struct mysql_keyring_metadata_query {
    int (*init)(mysql_handle *ret);
    int (*deinit)(mysql_handle iterator);
    int (*is_valid)(mysql_handle iterator);
    int (*next)(mysql_handle iterator);
    int (*get_length)(mysql_handle iterator, size_t *ret_key_size, size_t *ret_value_size);
    int (*get)(mysql_handle iterator, char *key, size_t key_room, char *value, size_t value_room);
};

#endif
