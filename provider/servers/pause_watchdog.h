/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The watchdog process, and what it is told and tells. Private to pause. */
#ifndef P11K_SERVERS_PAUSE_WATCHDOG_H
#define P11K_SERVERS_PAUSE_WATCHDOG_H

#include "pause_record.h"

enum kr_pause_command { KR_PAUSE_COMMAND_PAUSE, KR_PAUSE_COMMAND_CHECK, KR_PAUSE_COMMAND_RESUME };

/* The answer to each command, and one before the first. Both sides are the same program. */
struct kr_pause_answer {
    struct kr_error error; /* of status KR_OK when it was done */
    struct kr_paused_server servers[KR_PAUSE_SERVERS_MAX];
};

struct kr_pause_job {
    struct kr_pause_target targets[KR_PAUSE_SERVERS_MAX];
    size_t count;
    struct kr_server_options options;
    const char *record_path;
};

/* Serves `control`, a socket that keeps messages apart, until it ends, and then resumes what is
 * paused. In the child of a fork; does not return. */
void kr_pause_watchdog(int control, const struct kr_pause_job *job) __attribute__((noreturn));

/* Puts one server back, by a new connection where `conn` is none or is lost; *conn is then that.
 * `server` gets its name and is ON or ENDED afterwards. */
KR_MUST_USE enum kr_status kr_pause_resume_one(const struct kr_pause_target *target,
                                               const struct kr_server_options *options,
                                               struct kr_server_conn **conn,
                                               struct kr_paused_server *server,
                                               struct kr_error *err);

#endif
