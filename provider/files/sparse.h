/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Files with holes: MySQL's compressed pages leave the rest of their room to the file system. What
 * is written in the place of such a file, or from it, is to take no more room than it.
 */
#ifndef P11K_FILES_SPARSE_H
#define P11K_FILES_SPARSE_H

#include "files/file.h"

bool kr_file_is_sparse(const struct kr_file *file);

/* Gives blocks of zeros back to the file system, where it takes them; the contents stay. */
void kr_file_dig_holes(int fd);

#endif
