/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Bringing a running MariaDB server to a goal, by its own background threads. */
#ifndef P11K_SERVERS_MARIADB_CHANGE_H
#define P11K_SERVERS_MARIADB_CHANGE_H

#include "servers/mariadb_state.h"

/* The lock of the server (kr_server_lock) that whoever changes its state holds. */
#define KR_MARIADB_LOCK "p11keyring.state"

/* KR_REFUSED when the server has no plugin to encrypt with. */
KR_MUST_USE enum kr_status kr_mariadb_check_goal(struct kr_server_conn *conn,
                                                 const struct kr_mariadb_settings *settings,
                                                 enum kr_state_goal goal, struct kr_error *err);

/* Sets innodb_encrypt_tables and what else can be set at run time. */
KR_MUST_USE enum kr_status kr_mariadb_set_goal(struct kr_server_conn *conn,
                                               const struct kr_mariadb_settings *settings,
                                               enum kr_state_goal goal, struct kr_error *err);

/* What is waited for. */
struct kr_mariadb_wait {
    bool (*behind)(const struct kr_mariadb_space *space, const void *subject);
    const void *subject;
    uint64_t pages; /* known to be behind before; the background threads may have begun */
    /* Called once a second at least with pages, and tablespaces behind; false ends the wait. */
    bool (*progress)(uint64_t done, uint64_t total, size_t spaces, void *context);
    void *context;
};

struct kr_mariadb_waited {
    uint64_t pages; /* of what was behind */
    bool interrupted;
    bool stuck; /* some are behind, and the server has not worked on any for a while */
};

/* Reads the tablespaces again and again until none is behind. */
KR_MUST_USE enum kr_status kr_mariadb_wait(struct kr_server_conn *conn,
                                           struct kr_mariadb_state *state,
                                           const struct kr_mariadb_wait *wait,
                                           struct kr_mariadb_waited *ret, struct kr_error *err);

/* --- new versions of keys --------------------------------------------------------------------- */

struct kr_key_target {
    uint32_t id;
    uint32_t version;
};
struct kr_key_targets {
    const struct kr_key_target *keys;
    size_t count;
};

/* Functions for kr_mariadb_wait; the subject is a struct kr_key_targets, or an enum kr_state_goal.
 * Whether the server has not heard of a version yet; has not carried it everywhere; has not reached
 * the goal. */
bool kr_mariadb_has_not_heard(const struct kr_mariadb_space *space, const void *targets);
bool kr_mariadb_has_old_pages(const struct kr_mariadb_space *space, const void *targets);
bool kr_mariadb_short_of_goal(const struct kr_mariadb_space *space, const void *goal);

#endif
