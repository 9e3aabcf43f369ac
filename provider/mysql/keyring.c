/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The component's keyring: opened by load(), and anew by a child of the process that did. */
#include "component.h"

#include <pthread.h>
#include <unistd.h>

#include "provider/handle_route.h"

/* Uses hold the lock shared; whoever opens or closes holds it alone and comes first, since the uses
 * of many threads overlap without end. OpenSSL comes back to us within a use, which is counted and
 * takes the lock once. */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static _Thread_local unsigned uses;
static struct {
    struct kr_config *config; /* NULL: not loaded */
    struct kr_keyring *keyring;
    struct kr_secrets *secrets;
    pid_t pid; /* whose keyring and secrets are */
    bool watched;
} current;

/* --- for a child ------------------------------------------------------------------------------ */

/* The threads that may have held it are not here. */
static void after_fork(void)
{
    lock = (pthread_rwlock_t)PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
}

static void prepare_for_fork(void)
{
    pthread_atfork(NULL, NULL, after_fork);
}

/* Forgets what a parent opened, without a call on it: SQLite handles, sessions and threads do not
 * cross a fork. */
static void leave_to_parent(void)
{
    current.keyring = NULL;
    current.secrets = NULL;
    current.watched = false;
}

/* --- opening ---------------------------------------------------------------------------------- */

static enum kr_status open_secrets(const struct kr_config *config, struct kr_keyring **ret_keyring,
                                   struct kr_secrets **ret_secrets, struct kr_error *err)
{
    struct kr_keyring *keyring = NULL;
    KR_TRY(kr_keyring_open_server(config, &keyring, err));
    enum kr_status status = kr_secrets_open(keyring, ret_secrets, err);
    if (status == KR_OK)
        *ret_keyring = keyring;
    else
        kr_keyring_close(keyring);
    return status;
}

/* The caller holds the lock alone. `config` is current.config or is to take its place. */
static enum kr_status replace(struct kr_config *config, struct kr_error *err)
{
    struct kr_keyring *keyring = NULL;
    struct kr_secrets *secrets = NULL;
    KR_TRY(open_secrets(config, &keyring, &secrets, err));
    kr_secrets_set_gate(secrets, component_gate, config);
    if (current.secrets)
        kr_secrets_keep_handles(secrets, current.secrets);
    kr_secrets_close(current.secrets);
    kr_keyring_close(current.keyring);
    if (config != current.config)
        kr_config_free(current.config);
    current.config = config;
    current.keyring = keyring;
    current.secrets = secrets;
    current.pid = getpid();
    current.watched = false;
    return KR_OK;
}

enum kr_status component_open(struct kr_config *config, struct kr_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare_for_fork);
    pthread_rwlock_wrlock(&lock);
    if (current.pid != getpid())
        leave_to_parent();
    enum kr_status status = replace(config, err);
    pthread_rwlock_unlock(&lock);
    return status;
}

void component_close(void)
{
    kr_handle_route_close(); /* waits for operations, which hold the lock */
    pthread_rwlock_wrlock(&lock);
    if (current.pid != getpid())
        leave_to_parent();
    kr_secrets_close(current.secrets);
    kr_keyring_close(current.keyring);
    kr_config_free(current.config);
    current.config = NULL;
    leave_to_parent();
    pthread_rwlock_unlock(&lock);
}

/* --- use -------------------------------------------------------------------------------------- */

static enum kr_status open_in_child(struct kr_error *err)
{
    leave_to_parent();
    return replace(current.config, err);
}

/* Not before the first use: no thread of ours may be at work when the server forks. */
static enum kr_status watch(struct kr_error *err)
{
    KR_TRY(kr_keyring_watch(current.keyring, err));
    current.watched = true;
    return KR_OK;
}

static enum kr_status make_ready(struct kr_error *err)
{
    pthread_rwlock_wrlock(&lock);
    enum kr_status status = KR_OK;
    if (current.config && current.pid != getpid())
        status = open_in_child(err);
    if (status == KR_OK && current.config && !current.watched)
        status = watch(err);
    pthread_rwlock_unlock(&lock);
    return status;
}

static enum kr_status fail_not_loaded(struct kr_error *err)
{
    kr_fail(err, KR_CONFIG, "the keyring is not loaded");
    kr_hint(err, "the error log says why; when that is put right: ALTER INSTANCE RELOAD KEYRING");
    return err->status;
}

static void lock_shared(void)
{
    if (uses++ == 0)
        pthread_rwlock_rdlock(&lock);
}

void component_end(void)
{
    if (--uses == 0)
        pthread_rwlock_unlock(&lock);
}

enum kr_status component_begin(struct component_keyring *ret, struct kr_error *err)
{
    lock_shared();
    if (current.config && (current.pid != getpid() || !current.watched)) {
        component_end();
        KR_TRY(make_ready(err));
        lock_shared();
    }
    if (current.config && current.pid == getpid()) {
        *ret = (struct component_keyring){current.config, current.keyring, current.secrets};
        return KR_OK;
    }
    component_end();
    return fail_not_loaded(err);
}

bool component_is_loaded(void)
{
    lock_shared();
    bool loaded = current.config != NULL;
    component_end();
    return loaded;
}
