/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Pages whose checksum the innochecksum of both servers accepts (crc32, not MariaDB's full_crc32).
 */
#ifndef P11K_TESTS_INNODB_PAGE_H
#define P11K_TESTS_INNODB_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An index page of bytes that do not compress, or one of the tablespace's own. */
void innodb_page_make(uint8_t *page, size_t len, uint64_t number);

/* Number and both checksums are right. */
bool innodb_page_ok(const uint8_t *page, size_t len, uint64_t number);

#endif
