/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Work on several threads. */
#include "provider/crew.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"

enum { LOOK_MS = 100 };

struct shift {
    const struct kr_crew *crew;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t ended;
    size_t begun, done;
    unsigned running;
    bool stop;
    struct kr_error error; /* the first failure */
};

static bool take_piece(struct shift *shift, size_t *ret)
{
    if (shift->stop || shift->begun == shift->crew->count)
        return false;
    *ret = shift->begun++;
    return true;
}

static void *work(void *arg)
{
    struct shift *shift = arg;
    size_t piece;
    pthread_mutex_lock(&shift->lock);
    while (take_piece(shift, &piece)) {
        struct kr_error err = KR_ERROR_INIT;
        pthread_mutex_unlock(&shift->lock);
        enum kr_status status = shift->crew->work(shift->crew->context, piece, &err);
        pthread_mutex_lock(&shift->lock);
        shift->done++;
        if (status == KR_OK)
            continue;
        if (shift->error.status == KR_OK)
            shift->error = err;
        shift->stop = true;
    }
    shift->running--;
    pthread_cond_signal(&shift->ended);
    pthread_mutex_unlock(&shift->lock);
    return NULL;
}

static void look_after(struct shift *shift)
{
    const struct kr_crew *crew = shift->crew;
    pthread_mutex_lock(&shift->lock);
    while (shift->running > 0) {
        struct timespec soon = kr_deadline(LOOK_MS);
        pthread_cond_timedwait(&shift->ended, &shift->lock, &soon);
        size_t begun = shift->begun, done = shift->done;
        pthread_mutex_unlock(&shift->lock);
        bool go_on = !crew->go_on || crew->go_on(crew->context, begun, done);
        pthread_mutex_lock(&shift->lock);
        shift->stop = shift->stop || !go_on;
    }
    pthread_mutex_unlock(&shift->lock);
}

static enum kr_status run(struct shift *shift, struct kr_error *err)
{
    const struct kr_crew *crew = shift->crew;
    size_t wanted = crew->threads < crew->count ? crew->threads : crew->count, started = 0;
    pthread_t *threads = calloc(wanted + 1, sizeof(*threads));
    if (!threads)
        return kr_fail_memory(err);
    pthread_mutex_lock(&shift->lock);
    while (started < wanted && pthread_create(&threads[started], NULL, work, shift) == 0)
        started++;
    shift->running = (unsigned)started;
    pthread_mutex_unlock(&shift->lock);
    look_after(shift);
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    return started > 0 || crew->count == 0
               ? KR_OK
               : kr_fail(err, KR_INTERNAL, "no thread could be started");
}

enum kr_status kr_crew_run(const struct kr_crew *crew, struct kr_error *err)
{
    struct shift shift = {.crew = crew, .error = KR_ERROR_INIT};
    pthread_mutex_init(&shift.lock, NULL);
    kr_cond_init(&shift.ended);
    enum kr_status status = run(&shift, err);
    pthread_cond_destroy(&shift.ended);
    pthread_mutex_destroy(&shift.lock);
    if (status == KR_OK && shift.error.status != KR_OK)
        *err = shift.error;
    return status == KR_OK ? shift.error.status : status;
}
