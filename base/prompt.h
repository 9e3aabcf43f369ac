/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Asking for a PIN on the controlling terminal. */
#ifndef P11K_BASE_PROMPT_H
#define P11K_BASE_PROMPT_H

#include <stddef.h>

#include "base/status.h"

/* KR_CONFIG unless this process has a terminal. */
KR_MUST_USE enum kr_status kr_prompt_check(struct kr_error *err);

/* Asks "<what>: " on /dev/tty without echo and reads one line, without its newline, into
 * `ret_line`: secret memory of `size` bytes. *ret_len may be `size` for a longer line: the rest is
 * dropped. SIGINT, SIGTERM, SIGHUP and SIGQUIT first restore the terminal and then take their usual
 * course; when the process outlives them the result is KR_REFUSED. KR_CONFIG without a terminal,
 * KR_IO. One prompt at a time in a process; others wait. */
KR_MUST_USE enum kr_status kr_prompt_line(const char *what, char *ret_line, size_t size,
                                          size_t *ret_len, struct kr_error *err);

#endif
