/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The options that a MariaDB server would read from its option files. */
#ifndef P11K_CLI_SERVER_OPTIONS_H
#define P11K_CLI_SERVER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

struct server_options {
    char **lines; /* "plugin-load-add=x": without "--" and "loose-", '_' in names as '-' */
    size_t count;
};

/* Asks my_print_defaults (of the option file `file`, or of the default ones with NULL). False when
 * it is not installed or fails; *ret is then empty. */
bool server_options_read(const char *file, struct server_options *ret);
void server_options_free(struct server_options *options);

/* The value of the last line with this name; "" for a bare option, NULL when there is none. */
const char *server_option(const struct server_options *options, const char *name);

#endif
