/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Pages of MariaDB's tablespaces one by one, wherever they are kept. */
#ifndef P11K_FILES_MARIADB_PAGES_H
#define P11K_FILES_MARIADB_PAGES_H

#include "files/mariadb_keys.h"
#include "formats/mariadb_page.h"

/* A page as it is in the file, perhaps in a map of it, and where it is to be in the clear: `dst`
 * may be `src`. `room` is of logical_size bytes, secret memory. */
struct kr_mariadb_page_way {
    uint64_t number;
    const uint8_t *src;
    uint8_t *dst, *room;
};

/* What is wrong with a page, which is at `dst` when nothing is and it returns KR_OK. `keys` NULL:
 * there are none. KR_NOT_FOUND: its key is not here. */
KR_MUST_USE enum kr_status kr_mariadb_page_examine(const struct kr_mariadb_space *space,
                                                   const struct kr_mariadb_keys *keys,
                                                   const struct kr_mariadb_page_way *page,
                                                   struct kr_mariadb_page *ret_what,
                                                   enum kr_mariadb_page_fault *ret);

#endif
