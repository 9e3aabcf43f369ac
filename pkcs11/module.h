/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * PKCS#11 modules of this process: one record for each canonical path, kept until the process ends.
 * A module is loaded once and never unloaded (static destructors of modules crash when that comes
 * late). It is finalised only when the last connection leaves, when it was initialised here, and
 * when no call into it is still hanging. After a fork the child starts with nothing initialised.
 */
#ifndef P11K_PKCS11_MODULE_H
#define P11K_PKCS11_MODULE_H

#include <p11-kit/pkcs11.h>

#include <stdbool.h>

#include "base/status.h"

struct kr_module;
struct kr_worker;

/*
 * How many times over all sessions of a connection may hang for ever before no more are opened. A
 * black-holed network takes all of them at once, and new ones must still be possible when it comes
 * back; but a module that swallows every call must not swallow threads without end. Counted for
 * each module, so that one that hangs does not keep us from a token behind another.
 */
enum { KR_WRITE_OFFS_MAX = 4 };

/* The record for a path; nothing is loaded. KR_CONFIG when there is no such file. Borrowed: it
 * lives as long as the process. */
KR_MUST_USE enum kr_status kr_module_get(const char *path, struct kr_module **ret,
                                         struct kr_error *err);
const char *kr_module_path(const struct kr_module *module);

/* What C_Initialize gets as its reserved argument: who says it first decides for the process. NULL
 * says nothing. */
KR_MUST_USE enum kr_status kr_module_set_init_args(struct kr_module *module, const char *text,
                                                   struct kr_error *err);

/* --- on a worker thread; each call into the module is stamped on `worker` --------------------- */

/* Loads and initialises it for one more connection. Each success is undone by kr_module_detach().
 */
KR_MUST_USE enum kr_status kr_module_attach(struct kr_module *module, struct kr_worker *worker,
                                            CK_FUNCTION_LIST **ret_functions, struct kr_error *err);
/* C_Finalize when nobody is attached any more and nothing speaks against it. */
void kr_module_finalise(struct kr_module *module, struct kr_worker *worker);

/* Initialises again a module that another user of this process has finalised. */
KR_MUST_USE enum kr_status kr_module_reinitialise(struct kr_module *module,
                                                  struct kr_worker *worker, struct kr_error *err);

/* C_Finalize and C_Initialize, which some modules need before they see a token again. Not done
 * (*ret_restarted false) when others may be using the module. */
KR_MUST_USE enum kr_status kr_module_restart(struct kr_module *module, struct kr_worker *worker,
                                             bool *ret_restarted, struct kr_error *err);

/* --- bookkeeping ------------------------------------------------------------------------------ */

void kr_module_detach(struct kr_module *module);

/* A connection is about to make calls, or has made its last for now because its token is lost: the
 * module may be restarted by another one only when it is no user. False when somebody acted on the
 * module for all that time. */
bool kr_module_use(struct kr_module *module, unsigned timeout_ms);
void kr_module_disuse(struct kr_module *module);

/* Another user of this process acts on the module too: never finalise it from here. */
void kr_module_set_shared(struct kr_module *module);
/* Somebody may: it is still restarted to find a lost token, but not finalised when we leave. */
void kr_module_suspect_others(struct kr_module *module);

/* Changes whenever the module was initialised anew, which makes all handles void. */
unsigned kr_module_epoch(struct kr_module *module);

/* A call did not return in time / has returned after all. `function` is static text. */
void kr_module_write_off(struct kr_module *module, const char *function);
void kr_module_write_on(struct kr_module *module, const char *function);

/* KR_TOKEN_UNAVAILABLE when `max` calls into the module hang. */
KR_MUST_USE enum kr_status kr_module_check_write_offs(struct kr_module *module, unsigned max,
                                                      struct kr_error *err);

#endif
