/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The function that the keyring registered in this process, and the count of its calls. */
#include "registration.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <unistd.h>

#include "refuse.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;

/* Under the lock. */
static struct registration {
    kr_handle_function function;
    void *context;
    pid_t pid;
    unsigned calls; /* under way */
} current;

static atomic_uint_fast64_t performed, failed, refused;

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void in_parent(void)
{
    pthread_mutex_unlock(&lock);
}

/* The calls under way belong to threads that do not exist here. */
static void in_child(void)
{
    current = (struct registration){0};
    performed = 0;
    failed = 0;
    refused = 0;
    pthread_cond_init(&idle, NULL);
    pthread_mutex_unlock(&lock);
}

bool kr_registration_start(void)
{
    return pthread_atfork(before_fork, in_parent, in_child) == 0;
}

static int withdraw(void)
{
    current.function = NULL;
    while (current.calls > 0)
        pthread_cond_wait(&idle, &lock);
    return 1;
}

static int enter(kr_handle_function function, void *context)
{
    if (current.function || current.calls > 0)
        return 0;
    current = (struct registration){.function = function, .context = context, .pid = getpid()};
    return 1;
}

int kr_registration_set(kr_handle_function function, void *context)
{
    pthread_mutex_lock(&lock);
    int ok = function ? enter(function, context) : withdraw();
    pthread_mutex_unlock(&lock);
    return ok;
}

void kr_registration_counters(struct kr_handle_counters *ret)
{
    *ret =
        (struct kr_handle_counters){.performed = performed, .failed = failed, .refused = refused};
}

void kr_registration_count_refused(void)
{
    refused++;
}

/* The pid is compared for children whose birth ran no fork handlers (_Fork, clone). */
static bool begin_call(struct registration *ret)
{
    pthread_mutex_lock(&lock);
    bool usable = current.function && current.pid == getpid();
    if (usable) {
        current.calls++;
        *ret = current;
    }
    pthread_mutex_unlock(&lock);
    return usable;
}

static void end_call(pid_t pid)
{
    pthread_mutex_lock(&lock);
    bool mine = pid == getpid();
    if (mine && --current.calls == 0)
        pthread_cond_broadcast(&idle);
    pthread_mutex_unlock(&lock);
}

int kr_registration_perform(const uint8_t handle[KR_HANDLE_BYTES], enum kr_handle_op op,
                            const uint8_t *iv, const uint8_t *in, size_t len, uint8_t *out)
{
    struct registration call;
    if (!begin_call(&call))
        return kr_refuse(KR_REFUSAL_UNREGISTERED);
    int ok = call.function(call.context, handle, op, iv, in, len, out) == 1;
    end_call(call.pid);
    if (!ok) {
        failed++;
        return kr_refuse(KR_REFUSAL_TOKEN);
    }
    performed++;
    return 1;
}
