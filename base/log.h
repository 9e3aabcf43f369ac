/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The log callback. Libraries say what an operator should see and never print; a face sets one
 * sink per process. Without a sink messages are dropped. No secret is ever passed to it.
 */
#ifndef P11K_BASE_LOG_H
#define P11K_BASE_LOG_H

#include "base/status.h"

enum kr_log_level { KR_LOG_ERROR, KR_LOG_WARNING, KR_LOG_NOTE, KR_LOG_DEBUG };

/* `message` is one line without control characters (each was replaced by '?'), valid during the
 * call. Called from any thread; it may log, but not set the sink. */
typedef void (*kr_log_sink)(enum kr_log_level level, const char *message, void *context);

/* NULL drops messages. When this returns the old sink is no longer running. */
void kr_log_set_sink(kr_log_sink sink, void *context);

void kr_log(enum kr_log_level level, const char *fmt, ...) KR_PRINTF(2, 3);

/* One message from an error record: text, then its hint. */
void kr_log_error(enum kr_log_level level, const struct kr_error *err);

#endif
