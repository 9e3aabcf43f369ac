/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Putting servers back: one, and those that a record names. */
#include "pause_switch.h"
#include "pause_watchdog.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static bool is_gone(const struct kr_pause_target *target)
{
    return target->is_socket && access(target->spec, F_OK) != 0 && errno == ENOENT;
}

static enum kr_status resume_anew(const struct kr_pause_target *target,
                                  const struct kr_server_options *options,
                                  struct kr_server_conn **conn, struct kr_paused_server *server,
                                  struct kr_error *err)
{
    kr_server_close(*conn);
    *conn = NULL;
    struct kr_error failure = KR_ERROR_INIT;
    enum kr_status status = kr_server_connect(target->spec, options, conn, &failure);
    if (status == KR_NOT_FOUND || (status != KR_OK && is_gone(target))) {
        server->state = KR_PAUSE_ENDED;
        return KR_OK;
    }
    if (status != KR_OK) {
        *err = failure;
        return status;
    }
    snprintf(server->name, sizeof(server->name), "%s", kr_server_info(*conn)->name);
    KR_TRY(kr_switch_set(*conn, true, err));
    server->state = KR_PAUSE_ON;
    return KR_OK;
}

enum kr_status kr_pause_resume_one(const struct kr_pause_target *target,
                                   const struct kr_server_options *options,
                                   struct kr_server_conn **conn, struct kr_paused_server *server,
                                   struct kr_error *err)
{
    struct kr_error lost = KR_ERROR_INIT;
    if (!*conn || kr_switch_set(*conn, true, &lost) != KR_OK)
        return resume_anew(target, options, conn, server, err);
    server->state = KR_PAUSE_ON;
    return KR_OK;
}

static enum kr_status repair_one(const struct kr_pause_target *target,
                                 const struct kr_server_options *options,
                                 struct kr_paused_server *server, struct kr_error *err)
{
    KR_SERVER conn = NULL;
    *server = (struct kr_paused_server){.state = KR_PAUSE_OFF};
    snprintf(server->name, sizeof(server->name), "server %s", target->spec);
    return kr_pause_resume_one(target, options, &conn, server, err);
}

enum kr_status kr_pause_repair(const char *record_path, const struct kr_server_options *options,
                               struct kr_paused_server ret[KR_PAUSE_SERVERS_MAX], size_t *ret_count,
                               struct kr_error *err)
{
    KR_PAUSE_RECORD record = {.fd = -1};
    struct kr_error failure = KR_ERROR_INIT;
    enum kr_status status = kr_pause_record_read(record_path, &record, &failure);
    *ret_count = record.count;
    if (status == KR_NOT_FOUND)
        return KR_OK;
    for (size_t i = 0; i < record.count; i++) {
        struct kr_error *first = status == KR_OK ? &failure : &(struct kr_error)KR_ERROR_INIT;
        enum kr_status one = repair_one(&record.targets[i], options, &ret[i], first);
        status = status == KR_OK ? one : status;
    }
    if (status == KR_OK)
        return kr_pause_record_remove(record_path, err);
    *err = failure;
    return status;
}
