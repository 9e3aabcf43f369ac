/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Setting a goal, and waiting for it. */
#include "mariadb_change.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

/* The whole state is read anew when the server has rested for some looks, and at the end. */
enum { LOOK_MS_MIN = 50, LOOK_MS_MAX = 1000, RESTS = 4, STUCK_MS = 60000 };

/* --- the goal --------------------------------------------------------------------------------- */

enum kr_status kr_mariadb_check_goal(struct kr_server_conn *conn,
                                     const struct kr_mariadb_settings *settings,
                                     enum kr_state_goal goal, struct kr_error *err)
{
    if (goal != KR_STATE_ENCRYPTED || *settings->plugin)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "%s has no encryption plugin", kr_server_info(conn)->name);
    kr_hint(err, "load one by the server's option file and restart it: docs/USAGE-mariadb.md");
    return err->status;
}

enum kr_status kr_mariadb_set_goal(struct kr_server_conn *conn,
                                   const struct kr_mariadb_settings *settings,
                                   enum kr_state_goal goal, struct kr_error *err)
{
    bool encrypt = goal == KR_STATE_ENCRYPTED;
    const char *wanted = encrypt ? "ON" : "OFF";

    if ((strcmp(settings->encrypt_tables, "OFF") != 0) != encrypt)
        KR_TRY(kr_server_run(conn, err, "SET GLOBAL innodb_encrypt_tables = %s", wanted));
    if (settings->aria_encrypt_tables != encrypt)
        KR_TRY(kr_server_run(conn, err, "SET GLOBAL aria_encrypt_tables = %s", wanted));
    if (settings->encrypt_tmp_disk_tables != encrypt)
        KR_TRY(kr_server_run(conn, err, "SET GLOBAL encrypt_tmp_disk_tables = %s", wanted));
    return KR_OK;
}

/* --- what is behind --------------------------------------------------------------------------- */

bool kr_mariadb_short_of_goal(const struct kr_mariadb_space *space, const void *goal)
{
    return kr_mariadb_is_behind(space, *(const enum kr_state_goal *)goal);
}

static uint32_t target_of(const struct kr_mariadb_space *space, const void *subject)
{
    const struct kr_key_targets *targets = subject;

    for (size_t i = 0; i < targets->count; i++)
        if (targets->keys[i].id == space->key_id)
            return targets->keys[i].version;
    return 0;
}

bool kr_mariadb_has_not_heard(const struct kr_mariadb_space *space, const void *targets)
{
    return space->encrypted && space->latest_version < target_of(space, targets);
}

bool kr_mariadb_has_old_pages(const struct kr_mariadb_space *space, const void *targets)
{
    uint32_t version = target_of(space, targets);

    return space->encrypted && version != 0 && (space->moving || space->min_version < version);
}

/* --- waiting ---------------------------------------------------------------------------------- */

struct look {
    uint64_t pages; /* left to do */
    size_t spaces;  /* behind */
    bool moving;    /* one of them is worked on */
};

static struct look look_at(const struct kr_mariadb_state *state, const struct kr_mariadb_wait *wait)
{
    struct look look = {.pages = 0};

    for (size_t i = 0; i < state->space_count; i++) {
        const struct kr_mariadb_space *space = &state->spaces[i];
        if (!wait->behind(space, wait->subject))
            continue;
        look.spaces++;
        look.moving |= space->moving;
        look.pages +=
            space->pages - (space->moving && space->page < space->pages ? space->page : 0);
    }
    return look;
}

/* Longer each time, so that small work is seen to end soon and large work costs little to watch. A
 * signal ends it early. */
static void rest(unsigned *ms)
{
    const struct timespec time = {.tv_sec = *ms / 1000, .tv_nsec = *ms % 1000 * 1000000L};

    nanosleep(&time, NULL);
    *ms = 2 * *ms < LOOK_MS_MAX ? 2 * *ms : LOOK_MS_MAX;
}

enum kr_status kr_mariadb_wait(struct kr_server_conn *conn, struct kr_mariadb_state *state,
                               const struct kr_mariadb_wait *wait, struct kr_mariadb_waited *ret,
                               struct kr_error *err)
{
    struct kr_mariadb_waited waited = {.pages = wait->pages};
    struct look before = {.pages = UINT64_MAX};
    uint64_t since = kr_now_ms();
    unsigned rests = 0, look_ms = LOOK_MS_MIN;

    for (;;) {
        bool whole = rests > RESTS;
        KR_TRY(whole ? kr_mariadb_read_state(conn, state, err)
                     : kr_mariadb_read_progress(conn, state, err));
        const struct look look = look_at(state, wait);
        if (look.spaces == 0 && whole)
            break;
        if (look.pages > waited.pages)
            waited.pages = look.pages;
        waited.interrupted =
            !wait->progress(waited.pages - look.pages, waited.pages, look.spaces, wait->context);
        if (look.moving || look.pages != before.pages || look.spaces != before.spaces)
            since = kr_now_ms();
        waited.stuck = kr_now_ms() - since > STUCK_MS;
        if (waited.interrupted || waited.stuck)
            break;
        rests = look.moving || whole ? 0 : rests + 1;
        before = look;
        if (look.spaces > 0)
            rest(&look_ms);
        else
            rests = RESTS + 1; /* what was made in the meantime */
    }
    *ret = waited;
    return KR_OK;
}
