/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Inspecting one file. */
#ifndef P11K_FILES_INSPECT_H
#define P11K_FILES_INSPECT_H

#include "files/file.h"

/* The report of an open file, and whether the keys it needs are here. The caller frees *ret. */
KR_MUST_USE enum kr_status kr_file_inspect(struct kr_file *file, struct kr_file_report *ret,
                                           struct kr_error *err);

/* The same before other work on the file. With `brief` of what the units hold only their number is
 * asked for, and what the work cannot do without. */
KR_MUST_USE enum kr_status kr_file_inspect_first(struct kr_file *file, bool brief,
                                                 struct kr_file_report *ret, struct kr_error *err);

#endif
