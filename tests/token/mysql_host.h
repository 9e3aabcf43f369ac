/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The server's side of the MySQL component: loads it and offers it a registry and an error log. */
#ifndef P11K_TESTS_MYSQL_HOST_H
#define P11K_TESTS_MYSQL_HOST_H

#include "keyring_fixture.h"
#include "provider/mysql/abi.h"

/* The services, as found by their names. */
struct mysql_host {
    struct mysql_component *component;
    struct mysql_keyring_load *load;
    struct mysql_keyring_reader *reader;
    struct mysql_keyring_writer *writer;
    struct mysql_keyring_generator *generator;
    struct mysql_keyring_aes *aes;
    struct mysql_keyring_keys_iterator *keys;
    struct mysql_keyring_status *status;
    struct mysql_keyring_metadata_query *metadata;
    bool is_server;     /* offer the service that mysqld alone has */
    bool has_error_log; /* offer the error log */
    char log[16384];    /* what was logged since the last clearing */
    struct keyring_fixture keyring;
    char plugins[320], data[320]; /* folders, given to load() */
};
extern struct mysql_host host;

/* cmocka's group set-up: loads and initialises the component, makes token, keystore and folders. */
int mysql_host_up(void **state);
int mysql_host_down(void **state);

/* Writes component_keyring_pkcs11.cnf into a folder. */
KR_PRINTF(2, 3)
void mysql_host_cnf(const char *folder, const char *fmt, ...);
/* {"config": the fixture's INI file, "mysql": {"master-keys": mode, ...}}, and load() succeeds. */
void mysql_host_load(const char *mode, const char *more);

/* The value of a row of keyring_component_status; fails the test when there is none. */
const char *mysql_host_row(const char *key);

/* 1: there, and its bytes in `ret` (64 bytes of room); 0: absent; -1: failure. */
int mysql_host_read(const char *id, const char *owner, unsigned char *ret, size_t *ret_len);

/* Fails the test unless the log holds `text`. */
void mysql_host_logged(const char *text);

#endif
