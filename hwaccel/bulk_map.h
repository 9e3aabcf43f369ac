/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The input of a bulk run in memory, so that what is in the page cache is not copied; for hwaccel
 * only. A file that becomes shorter, or a disk that fails, raises SIGBUS where it is mapped: while
 * there is a map a handler is installed that puts zeros there and marks the map as broken. It
 * passes on what is not ours.
 */
#ifndef P11K_HWACCEL_BULK_MAP_H
#define P11K_HWACCEL_BULK_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is mapped and dropped at once: a huge page of Linux. */
enum { KR_BULK_MAP_UNIT = 2 * 1024 * 1024 };

struct kr_bulk_map;

/* `size` bytes from `offset` on; NULL where that is not possible. */
struct kr_bulk_map *kr_bulk_map_open(int fd, uint64_t offset, uint64_t size);
/* NULL is accepted. */
void kr_bulk_map_close(struct kr_bulk_map *map);

/* `len` bytes from byte `at` on, fetched into memory; NULL where they must be read instead. */
const uint8_t *kr_bulk_map_fetch(struct kr_bulk_map *map, uint64_t at, size_t len);

/* They are not needed any more. */
void kr_bulk_map_drop(struct kr_bulk_map *map, uint64_t at, size_t len);

/* Somewhere zeros were seen that are not in the file. */
bool kr_bulk_map_is_broken(const struct kr_bulk_map *map);

#endif
