/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Logging in: never with a PIN that was refused before, never with the last try. The PIN is read
 * and the guard is held by the caller, since people and other processes take their time; only
 * C_Login itself runs on the worker.
 */
#include "pkcs11/pool_internal.h"

#include "base/clock.h"
#include "base/secret.h"
#include "base/turn.h"
#include "pkcs11/ckr.h"
#include "pkcs11/pin_guard.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* --- what the token says beforehand ----------------------------------------------------------- */

struct state_args {
    struct kr_token_info info;
    bool logged_in; /* this process is, perhaps by another user of the module */
};

static enum kr_status run_state(struct kr_session *s, void *data, struct kr_error *err)
{
    struct state_args *args = data;
    CK_SESSION_INFO session;
    CK_TOKEN_INFO info;
    CK_RV rv = P11(s, C_GetSessionInfo, s->handle, &session);

    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GetSessionInfo", rv);
    KR_TRY(kr_session_token_info(s, &info, err));
    kr_token_info_fill(&args->info, s->slot, &info);
    args->logged_in =
        session.state == CKS_RW_USER_FUNCTIONS || session.state == CKS_RO_USER_FUNCTIONS;
    return KR_OK;
}

static enum kr_status check_flags(const struct kr_token_info *info, struct kr_error *err)
{
    if (info->pin_locked) {
        kr_fail(err, KR_AUTH, "the user PIN of token '%s' is locked", info->label);
        kr_hint(err, "have the security officer set a new one: pkcs11-tool --init-pin");
        return KR_AUTH;
    }
    if (info->pin_final_try) {
        kr_fail(err, KR_AUTH, "one more wrong PIN locks token '%s': no login is tried",
                info->label);
        kr_hint(err, "verify the PIN by hand (pkcs11-tool --login --test), which resets the count");
        return KR_AUTH;
    }
    if (!info->user_pin_set) {
        kr_fail(err, KR_AUTH, "token '%s' has no user PIN yet", info->label);
        kr_hint(err, "have the security officer set one: pkcs11-tool --init-pin");
        return KR_AUTH;
    }
    return KR_OK;
}

void kr_token_guard_id(const struct kr_token_info *info, char *ret)
{
    snprintf(ret, KR_GUARD_ID_MAX, "%s/%s/%s", info->model, info->serial, info->label);
}

/* --- C_Login ---------------------------------------------------------------------------------- */

enum {
    PIN_PAD_TIMEOUT_MS = 60000, /* a person types */
    CONTRADICTION_PAUSE_MAX_MS = 100,
};

struct login_args {
    bool by_pad;
    size_t len;
    char pin[KR_PIN_MAX + 1];
};

static enum kr_status run_login(struct kr_session *s, void *data, struct kr_error *err)
{
    struct login_args *args = data;
    CK_UTF8CHAR *pin = args->by_pad ? NULL : (CK_UTF8CHAR *)args->pin;
    CK_RV rv = P11(s, C_Login, s->handle, CKU_USER, pin, args->len);

    kr_wipe(args->pin, sizeof(args->pin));
    if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN)
        return KR_OK;
    return kr_ckr_fail(err, "C_Login", rv);
}

static bool is_refusal(CK_RV rv)
{
    return rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE ||
           rv == CKR_PIN_LOCKED;
}

/* The token had said that its user PIN is set, so nothing was compared: SoftHSM2 answers so when
 * another process writes the token's file at that moment. */
static bool is_contradiction(const struct kr_token_info *info, CK_RV rv)
{
    return rv == CKR_USER_PIN_NOT_INITIALIZED && info->user_pin_set;
}

/* A module that failed otherwise may or may not have counted the attempt. */
static enum kr_guard_outcome outcome_of(enum kr_status status, bool refused,
                                        const struct kr_token_info *info,
                                        const struct kr_error *err)
{
    if (status == KR_OK)
        return KR_GUARD_ACCEPTED;
    if (is_contradiction(info, err->ckr))
        return KR_GUARD_NOT_TRIED;
    return refused ? KR_GUARD_REFUSED : KR_GUARD_UNKNOWN;
}

static enum kr_status fail_refused(const struct kr_token_options *options,
                                   const struct kr_token_info *info, struct kr_error *err)
{
    unsigned long ckr = err->ckr;

    if (info->protected_path) {
        kr_fail(err, KR_AUTH, "nobody logged in to token '%s' at its PIN pad (C_Login: %s)",
                info->label, kr_ckr_name(ckr));
        kr_hint(err, "it is not asked for again before 'p11keyring token unguard'");
    } else {
        kr_fail(err, KR_AUTH, "token '%s' refused the PIN from %s (C_Login: %s)", info->label,
                kr_pin_source_name(options->pin), kr_ckr_name(ckr));
        kr_hint(err,
                "put the right PIN into %s; it is not tried again before that changes, or after "
                "'p11keyring token unguard'",
                kr_pin_source_name(options->pin));
    }
    err->ckr = ckr;
    err->ckr_name = kr_ckr_name(ckr);
    return KR_AUTH;
}

/* The identity is asked for after the PIN, since it is then that of what was read. */
static enum kr_status read_pin(struct kr_pin_source *source, char *ret_identity,
                               struct login_args *ret, struct kr_error *err)
{
    KR_SECRET char *pin = NULL;
    size_t len = 0;

    KR_TRY(kr_pin_source_read(source, &pin, &len, err));
    if (len >= sizeof(ret->pin))
        return kr_fail(err, KR_CONFIG, "the PIN from %s is longer than %d bytes",
                       kr_pin_source_name(source), KR_PIN_MAX);
    memcpy(ret->pin, pin, len);
    ret->len = len;
    return kr_pin_source_identity(source, ret_identity, err);
}

static enum kr_status prepare(const struct kr_token_options *options, bool by_pad,
                              char *ret_identity, struct kr_job *job, struct kr_error *err)
{
    struct login_args *args = (struct login_args *)job->args;

    args->by_pad = by_pad;
    if (!by_pad)
        return read_pin(options->pin, ret_identity, args, err);
    strcpy(ret_identity, KR_GUARD_PIN_PAD);
    job->timeout_ms = PIN_PAD_TIMEOUT_MS;
    return KR_OK;
}

/* At a pad a person may cancel, and must not be asked for ever whatever the answer is. */
static bool was_refused(const struct kr_seat *seat, const struct kr_token_info *info, CK_RV rv)
{
    return is_refusal(rv) || (info->protected_path && !seat->hung && seat->lost == KR_LOST_NOTHING);
}

static enum kr_status attempt(struct kr_seat *seat, const struct kr_token_options *options,
                              const struct kr_token_info *info, bool *ret_tried,
                              struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct login_args), run_login, NULL);
    struct kr_pin_guard *guard = NULL;
    char identity[KR_PIN_IDENTITY_MAX], token_id[KR_GUARD_ID_MAX];
    enum kr_status status;
    bool refused;

    if (!job)
        return kr_fail_memory(err);
    KR_TRY(prepare(options, info->protected_path, identity, job, err));
    kr_token_guard_id(info, token_id);
    KR_TRY(kr_pin_guard_begin(options->guard_path, token_id, identity, info->pin_count_low,
                              options->lock_timeout_ms, &guard, err));
    *ret_tried = true;
    status = kr_seat_run(seat, job, err);
    refused = status != KR_OK && was_refused(seat, info, err->ckr);
    kr_pin_guard_end(guard, outcome_of(status, refused, info, err));
    if (status != KR_OK && is_contradiction(info, err->ckr)) {
        seat->lost = KR_LOST_TOKEN; /* what the module read it may keep until it starts anew */
        return err->status = KR_TOKEN_UNAVAILABLE;
    }
    return refused ? fail_refused(options, info, err) : status;
}

static enum kr_status log_in(struct kr_seat *seat, const struct kr_token_options *options,
                             bool *ret_tried, struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct state_args), run_state, NULL);
    const struct state_args *state;

    if (!job)
        return kr_fail_memory(err);
    state = (const struct state_args *)job->args;
    KR_TRY(kr_seat_run(seat, job, err));
    if (state->logged_in || !state->info.login_required)
        return KR_OK;
    if ((!options->pin && !state->info.protected_path) || !options->guard_path) {
        kr_fail(err, KR_CONFIG, "token '%s' needs a PIN, and no PIN source is set",
                state->info.label);
        kr_hint(err, "set option pin-source, for example file:/etc/p11keyring/pin");
        return KR_CONFIG;
    }
    KR_TRY(check_flags(&state->info, err));
    return attempt(seat, options, &state->info, ret_tried, err);
}

/* --- one at a time ---------------------------------------------------------------------------- */

static bool is_logged_in(struct kr_pool *p)
{
    bool logged_in;

    pthread_mutex_lock(&p->lock);
    logged_in = p->logged_in;
    pthread_mutex_unlock(&p->lock);
    return logged_in;
}

static struct kr_turn logins; /* of all connections: another may be to the same token */
static pthread_once_t logins_once = PTHREAD_ONCE_INIT;

void kr_login_after_fork(void)
{
    kr_turn_init(&logins);
}

/* Other processes are given the time to write their token's file, see is_contradiction(). */
static enum kr_status log_in_patiently(struct kr_seat *seat, bool *ret_tried, struct kr_error *err)
{
    enum kr_status status;

    for (long ms = 10;; ms *= 2) {
        const struct timespec pause = {.tv_nsec = ms * 1000000L};

        status = log_in(seat, seat->pool->options, ret_tried, err);
        if (status != KR_TOKEN_UNAVAILABLE || err->ckr != CKR_USER_PIN_NOT_INITIALIZED ||
            ms > CONTRADICTION_PAUSE_MAX_MS || kr_now_ms() + (uint64_t)ms >= seat->deadline)
            return status;
        nanosleep(&pause, NULL);
    }
}

static enum kr_status log_in_once(struct kr_seat *seat, bool *ret_tried, struct kr_error *err)
{
    struct kr_pool *p = seat->pool;

    if (is_logged_in(p))
        return KR_OK;
    KR_TRY(log_in_patiently(seat, ret_tried, err));
    pthread_mutex_lock(&p->lock);
    p->logged_in = true;
    pthread_mutex_unlock(&p->lock);
    if (*ret_tried)
        kr_pool_count(&p->stats->logins, 1);
    return KR_OK;
}

/* A token that is away was not asked to let anybody in. */
static void report(const struct kr_token_options *options, bool tried, enum kr_status status,
                   const struct kr_error *err)
{
    if (options->on_login && (tried || status == KR_AUTH || status == KR_CONFIG))
        options->on_login(options->on_login_context, options->name, status == KR_OK ? NULL : err);
}

enum kr_status kr_seat_log_in(struct kr_seat *seat, struct kr_error *err)
{
    const uint64_t now = kr_now_ms();
    enum kr_status status;
    bool tried = false;

    if (is_logged_in(seat->pool))
        return KR_OK;
    pthread_once(&logins_once, kr_login_after_fork);
    if (!kr_turn_take(&logins, now < seat->deadline ? (unsigned)(seat->deadline - now) : 0))
        return kr_pool_fail_busy(seat->pool, err);
    status = log_in_once(seat, &tried, err);
    kr_turn_give(&logins);
    report(seat->pool->options, tried, status, err);
    return status;
}
