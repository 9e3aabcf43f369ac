/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The [client] group of a server's option file: how to connect, and perhaps the password. */
#ifndef P11K_SERVERS_OPTION_FILE_H
#define P11K_SERVERS_OPTION_FILE_H

#include "base/status.h"

/* Strings are parts of `text`, which is secret memory; NULL: not set. */
struct kr_option_file {
    char *text;
    const char *user, *password;
    const char *socket, *host, *port;
    const char *ssl_ca, *ssl_capath, *ssl_cert, *ssl_key;
};

/* Other groups, and other options of the group, are for other programs and left alone. KR_REFUSED
 * for a file that others than its owner can read; KR_CONFIG, also for !include, which would leave
 * something out; KR_IO. */
KR_MUST_USE enum kr_status kr_option_file_read(const char *path, struct kr_option_file *ret,
                                               struct kr_error *err);
void kr_option_file_cleanup(struct kr_option_file *file);
#define KR_OPTION_FILE __attribute__((cleanup(kr_option_file_cleanup))) struct kr_option_file

#endif
