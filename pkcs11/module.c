/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The registry of modules. Its lock is never held during a call into a module: whoever loads,
 * initialises or finalises one marks it busy, and others wait for that with a bound of their own.
 */
#include "pkcs11/module.h"

#include "base/clock.h"
#include "base/log.h"
#include "pkcs11/ckr.h"
#include "pkcs11/worker.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HANGING_NAMES = 8 };

struct kr_module {
    struct kr_module *next;
    char *path;      /* canonical */
    char *init_args; /* set once; NULL: none */
    CK_FUNCTION_LIST *p11;
    bool busy;            /* somebody loads, initialises or finalises it */
    bool ours;            /* our C_Initialize returned CKR_OK, and nothing has undone it */
    bool suspect;         /* somebody else in this process may be using it */
    unsigned epoch;       /* how often it was initialised */
    unsigned connections; /* attached */
    unsigned users;       /* of those: connected to their token, or about to be */
    unsigned hung;        /* calls into it that have not returned */
    const char *hanging[HANGING_NAMES]; /* names of the first of them */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t idle; /* a module is no longer busy */
static struct kr_module *modules;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork_parent(void)
{
    pthread_mutex_unlock(&lock);
}

/* The child has none of the parent's threads, so nothing is busy or hangs there; that the parent
 * initialised a module is no business of the child's (Cryptoki: the child calls C_Initialize). */
static void after_fork_child(void)
{
    for (struct kr_module *m = modules; m; m = m->next) {
        m->busy = m->ours = m->suspect = false;
        m->connections = m->users = m->hung = 0;
        memset(m->hanging, 0, sizeof(m->hanging));
    }
    kr_cond_init(&idle);
    pthread_mutex_unlock(&lock);
}

static void init_registry(void)
{
    kr_cond_init(&idle);
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static struct kr_module *find_or_add(char *path)
{
    struct kr_module *m;

    for (m = modules; m; m = m->next)
        if (strcmp(m->path, path) == 0)
            return m;
    m = calloc(1, sizeof(*m));
    if (!m)
        return NULL;
    m->path = strdup(path);
    if (!m->path) {
        free(m);
        return NULL;
    }
    m->next = modules;
    modules = m;
    return m;
}

enum kr_status kr_module_get(const char *path, struct kr_module **ret, struct kr_error *err)
{
    char *canonical = realpath(path, NULL);
    struct kr_module *m;

    if (!canonical) {
        kr_fail(err, KR_CONFIG, "no PKCS#11 module at %s: %s", path, strerror(errno));
        kr_hint(err, "install the token's PKCS#11 module, or give its path with option module");
        return KR_CONFIG;
    }
    pthread_once(&once, init_registry);
    pthread_mutex_lock(&lock);
    m = find_or_add(canonical);
    pthread_mutex_unlock(&lock);
    free(canonical);
    if (!m)
        return kr_fail_memory(err);
    *ret = m;
    return KR_OK;
}

enum kr_status kr_module_set_init_args(struct kr_module *m, const char *text, struct kr_error *err)
{
    char *copy = text ? strdup(text) : NULL;
    bool differs;

    if (!text)
        return KR_OK;
    if (!copy)
        return kr_fail_memory(err);
    pthread_mutex_lock(&lock);
    differs = m->init_args && strcmp(m->init_args, text) != 0;
    if (!m->init_args) {
        m->init_args = copy;
        copy = NULL;
    }
    pthread_mutex_unlock(&lock);
    free(copy);
    if (differs)
        kr_log(KR_LOG_WARNING, "%s keeps the init-args that it got first: '%s' is not used",
               m->path, text);
    return KR_OK;
}

const char *kr_module_path(const struct kr_module *module)
{
    return module->path;
}

/* --- being the one who acts on the module ----------------------------------------------------- */

static bool enter(struct kr_module *m, const struct kr_worker *worker)
{
    struct timespec deadline = kr_deadline(kr_worker_timeout(worker));
    bool entered;

    pthread_mutex_lock(&lock);
    while (m->busy && pthread_cond_timedwait(&idle, &lock, &deadline) == 0)
        ;
    entered = !m->busy;
    if (entered)
        m->busy = true;
    pthread_mutex_unlock(&lock);
    return entered;
}

static void leave(struct kr_module *m)
{
    pthread_mutex_lock(&lock);
    m->busy = false;
    pthread_cond_broadcast(&idle);
    pthread_mutex_unlock(&lock);
}

static enum kr_status fail_busy(const struct kr_module *m, struct kr_error *err)
{
    kr_fail(err, KR_TOKEN_UNAVAILABLE, "another thread still waits for %s to load or initialise",
            m->path);
    kr_hint(err, "check that the token is connected and its service runs");
    return KR_TOKEN_UNAVAILABLE;
}

static enum kr_status fail_no_module(const struct kr_module *m, const char *why,
                                     struct kr_error *err)
{
    kr_fail(err, KR_CONFIG, "%s is no PKCS#11 module: %s", m->path, why);
    kr_hint(err, "give the path of the token's PKCS#11 module with option module");
    return KR_CONFIG;
}

static void set_ours(struct kr_module *m, bool ours)
{
    pthread_mutex_lock(&lock);
    m->ours = ours;
    pthread_mutex_unlock(&lock);
}

static void start_epoch(struct kr_module *m, bool ours)
{
    pthread_mutex_lock(&lock);
    m->ours = ours;
    m->epoch++;
    pthread_mutex_unlock(&lock);
}

/* While busy. Constructors of the module run in dlopen(), so that may hang as well. */
static enum kr_status load(struct kr_module *m, struct kr_worker *worker, struct kr_error *err)
{
    CK_C_GetFunctionList get_list = NULL;
    CK_FUNCTION_LIST *p11 = NULL;
    void *handle = NULL;
    CK_RV rv = CKR_FUNCTION_CANCELED;

    if (m->p11)
        return KR_OK;
    if (kr_call_begin(worker, "dlopen")) {
        handle = dlopen(m->path, RTLD_NOW | RTLD_LOCAL);
        kr_call_end(worker);
    }
    if (!handle) {
        const char *why = dlerror();
        return fail_no_module(m, why ? why : "it was not loaded", err);
    }
    *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    if (!get_list)
        return fail_no_module(m, "it has no function C_GetFunctionList", err);
    if (kr_call_begin(worker, "C_GetFunctionList")) {
        rv = get_list(&p11);
        kr_call_end(worker);
    }
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GetFunctionList", rv);
    if (!p11 || p11->version.major < 2)
        return fail_no_module(m, "its function list is not that of Cryptoki 2 or 3", err);
    m->p11 = p11;
    return KR_OK;
}

/* While busy. The first initialiser decides about locking for the whole process. */
static enum kr_status fail_initialise(const struct kr_module *m, CK_RV rv, struct kr_error *err)
{
    kr_ckr_fail(err, "C_Initialize", rv);
    if (rv != CKR_ARGUMENTS_BAD)
        return err->status;
    kr_hint(err, m->init_args ? "this module does not take these init-args: correct the option, or "
                                "leave it out"
                              : "this module may want init-args: see p11keyring.conf(5)");
    return err->status = KR_CONFIG;
}

static enum kr_status initialise(struct kr_module *m, struct kr_worker *worker,
                                 struct kr_error *err)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_RV rv = CKR_FUNCTION_CANCELED;

    pthread_mutex_lock(&lock);
    args.pReserved = m->init_args;
    pthread_mutex_unlock(&lock);
    if (kr_call_begin(worker, "C_Initialize")) {
        rv = m->p11->C_Initialize(&args);
        if (rv == CKR_OK)
            start_epoch(m, true);
        if (!kr_call_end(worker))
            rv = CKR_FUNCTION_CANCELED;
    }
    if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED)
        return fail_initialise(m, rv, err);
    return KR_OK;
}

/* While busy. */
static void finalise(struct kr_module *m, struct kr_worker *worker)
{
    if (kr_call_begin(worker, "C_Finalize")) {
        m->p11->C_Finalize(NULL);
        start_epoch(m, false);
        kr_call_end(worker);
    }
}

/* Counts connections under the lock, for the child of a fork reads them there. */
static void add_connections(struct kr_module *m, int change)
{
    pthread_mutex_lock(&lock);
    m->connections += (unsigned)change;
    pthread_mutex_unlock(&lock);
}

static bool may_finalise(struct kr_module *m)
{
    bool may;

    pthread_mutex_lock(&lock);
    may = m->ours && m->hung == 0 && m->connections == 0 && !m->suspect;
    pthread_mutex_unlock(&lock);
    return may;
}

/* While busy: so nobody becomes a user meanwhile. */
static bool may_restart(struct kr_module *m)
{
    bool may;

    pthread_mutex_lock(&lock);
    may = m->ours && m->hung == 0 && m->users <= 1;
    pthread_mutex_unlock(&lock);
    return may;
}

enum kr_status kr_module_attach(struct kr_module *m, struct kr_worker *worker,
                                CK_FUNCTION_LIST **ret_functions, struct kr_error *err)
{
    enum kr_status status;

    if (!enter(m, worker))
        return fail_busy(m, err);
    status = load(m, worker, err);
    if (status == KR_OK)
        status = initialise(m, worker, err);
    if (status == KR_OK) {
        add_connections(m, 1);
        *ret_functions = m->p11;
    }
    leave(m);
    return status;
}

void kr_module_finalise(struct kr_module *m, struct kr_worker *worker)
{
    if (!enter(m, worker))
        return;
    if (may_finalise(m))
        finalise(m, worker);
    leave(m);
}

enum kr_status kr_module_reinitialise(struct kr_module *m, struct kr_worker *worker,
                                      struct kr_error *err)
{
    enum kr_status status;

    if (!enter(m, worker))
        return fail_busy(m, err);
    set_ours(m, false);
    status = initialise(m, worker, err);
    leave(m);
    return status;
}

enum kr_status kr_module_restart(struct kr_module *m, struct kr_worker *worker, bool *ret_restarted,
                                 struct kr_error *err)
{
    enum kr_status status = KR_OK;

    if (!enter(m, worker))
        return fail_busy(m, err);
    *ret_restarted = may_restart(m);
    if (*ret_restarted) {
        finalise(m, worker);
        status = initialise(m, worker, err);
    }
    leave(m);
    return status;
}

/* --- bookkeeping ------------------------------------------------------------------------------ */

void kr_module_detach(struct kr_module *m)
{
    add_connections(m, -1);
}

bool kr_module_use(struct kr_module *m, unsigned timeout_ms)
{
    struct timespec deadline = kr_deadline(timeout_ms);
    bool used;

    pthread_mutex_lock(&lock);
    while (m->busy && pthread_cond_timedwait(&idle, &lock, &deadline) == 0)
        ;
    used = !m->busy;
    m->users += used;
    pthread_mutex_unlock(&lock);
    return used;
}

void kr_module_disuse(struct kr_module *m)
{
    pthread_mutex_lock(&lock);
    m->users--;
    pthread_mutex_unlock(&lock);
}

void kr_module_set_shared(struct kr_module *m)
{
    set_ours(m, false);
}

void kr_module_suspect_others(struct kr_module *m)
{
    pthread_mutex_lock(&lock);
    m->suspect = true;
    pthread_mutex_unlock(&lock);
}

unsigned kr_module_epoch(struct kr_module *m)
{
    unsigned epoch;

    pthread_mutex_lock(&lock);
    epoch = m->epoch;
    pthread_mutex_unlock(&lock);
    return epoch;
}

static void replace_name(struct kr_module *m, const char *from, const char *to)
{
    for (size_t i = 0; i < HANGING_NAMES; i++) {
        if (m->hanging[i] == from) {
            m->hanging[i] = to;
            return;
        }
    }
}

void kr_module_write_off(struct kr_module *m, const char *function)
{
    pthread_mutex_lock(&lock);
    m->hung++;
    replace_name(m, NULL, function);
    pthread_mutex_unlock(&lock);
}

void kr_module_write_on(struct kr_module *m, const char *function)
{
    pthread_mutex_lock(&lock);
    m->hung--;
    replace_name(m, function, NULL);
    pthread_mutex_unlock(&lock);
}

enum kr_status kr_module_check_write_offs(struct kr_module *m, unsigned max, struct kr_error *err)
{
    char names[256] = "";
    unsigned count;

    pthread_mutex_lock(&lock);
    count = m->hung;
    for (size_t i = 0, used = 0; i < HANGING_NAMES && used < sizeof(names); i++)
        if (m->hanging[i])
            used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "",
                                     m->hanging[i]);
    pthread_mutex_unlock(&lock);
    if (count < max)
        return KR_OK;
    kr_fail(err, KR_TOKEN_UNAVAILABLE, "%u calls of %s have not returned: %s%s", count, m->path,
            names, count > HANGING_NAMES ? ", ..." : "");
    kr_hint(err, "no more calls are made until one returns: check the token and its service, then "
                 "restart this program");
    return KR_TOKEN_UNAVAILABLE;
}
