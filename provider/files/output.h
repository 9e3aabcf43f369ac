/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A new file that is there whole or not at all: it has no name before it is complete, so that a
 * kill at any moment leaves nothing behind. Never in the place of another file.
 */
#ifndef P11K_FILES_OUTPUT_H
#define P11K_FILES_OUTPUT_H

#include <stdbool.h>

#include "base/status.h"

struct kr_output {
    int fd;
    int folder;
    char *path;
    char *temporary; /* its name where the file system has no files without one; or NULL */
};

/* For reading and writing, mode 0600. KR_REFUSED when `path` exists, KR_IO. */
KR_MUST_USE enum kr_status kr_output_open(const char *path, struct kr_output *ret,
                                          struct kr_error *err);
/* Puts it on the disk and gives it its name. KR_REFUSED when that is taken by now, KR_IO. */
KR_MUST_USE enum kr_status kr_output_commit(struct kr_output *output, struct kr_error *err);
/* Without a commit before, nothing is left. A zeroed one with fd -1 is accepted. */
void kr_output_close(struct kr_output *output);
#define KR_OUTPUT __attribute__((cleanup(kr_output_close))) struct kr_output

#endif
