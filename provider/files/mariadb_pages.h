/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Pages of MariaDB's tablespaces one by one, wherever they are kept. */
#ifndef P11K_FILES_MARIADB_PAGES_H
#define P11K_FILES_MARIADB_PAGES_H

#include "files/mariadb_keys.h"
#include "formats/mariadb_page.h"

/* The page, in the clear when it returns KR_OK, and what is wrong with it. `keys` NULL: there are
 * none; `room` is of logical_size bytes, secret memory. KR_NOT_FOUND: its key is not here. */
KR_MUST_USE enum kr_status kr_mariadb_page_examine(const struct kr_mariadb_space *space,
                                                   const struct kr_mariadb_keys *keys,
                                                   uint64_t number, uint8_t *page, uint8_t *room,
                                                   struct kr_mariadb_page *ret_what,
                                                   enum kr_mariadb_page_fault *ret);

#endif
