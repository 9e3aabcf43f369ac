/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The events that the audit log gets. */
#include "provider/audit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "provider/keyring_internal.h"
#include "wrap/audit_log.h"
#include "wrap/json_text.h"

enum { FAILURES = 8, REPEAT_MS = 600000 };

/* A failure that was recorded: more of the same kind are counted. */
struct failure {
    json_t *fields; /* of the record; NULL: unused */
    uint64_t recorded_ms;
    uint64_t repeats; /* since it was recorded */
};

struct kr_audit {
    struct kr_audit_log *log;
    char *target, *keyring;
    bool required;
    pthread_mutex_t lock; /* of what follows */
    struct failure failures[FAILURES];
    unsigned next_failure;
    uint64_t written, lost;
    uint64_t lost_untold; /* of those the log does not say yet */
};

/* --- life ------------------------------------------------------------------------------------- */

/* A log that is not there begins where the keystore saw it end: it was moved away, or removed. */
static void expect_anchor(struct kr_audit *audit, const struct kr_config *config)
{
    struct kr_keystore_options options = kr_config_keystore(config, false);
    struct kr_error ignored = KR_ERROR_INIT;
    struct kr_keystore *keystore = NULL;
    struct kr_audit_head anchor;
    if (strcmp(audit->target, "syslog") == 0 || access(audit->target, F_OK) == 0 ||
        !config->keyring.keystore || access(config->keyring.keystore, F_OK) != 0)
        return;
    if (kr_keystore_open(&options, &keystore, &ignored) != KR_OK)
        return;
    if (kr_keystore_get_audit_head(keystore, &anchor, &ignored) == KR_OK)
        kr_audit_log_expect(audit->log, &anchor);
    kr_keystore_close(keystore);
}

static enum kr_status check_policy(const struct kr_config *config, struct kr_error *err)
{
    if (!config->keyring.audit_required || strcmp(config->keyring.audit_log, "syslog") != 0)
        return KR_OK;
    kr_fail(err, KR_CONFIG,
            "audit-policy = require needs a file: syslog does not tell whether it "
            "took a record");
    kr_hint(err, "set audit-log in [keyring] to a full path, or audit-policy to warn");
    return KR_CONFIG;
}

enum kr_status kr_audit_open(const struct kr_config *config, struct kr_audit **ret,
                             struct kr_error *err)
{
    const char *target = config->keyring.audit_log;
    if (!target) {
        *ret = NULL;
        return KR_OK;
    }
    KR_TRY(check_policy(config, err));
    struct kr_audit_log_options options = {
        .path = strcmp(target, "syslog") == 0 ? NULL : target,
        .owner_of = config->keyring.keystore,
        .lock_timeout_ms = config->keyring.lock_timeout_ms,
    };
    struct kr_audit *audit = calloc(1, sizeof(*audit));
    if (!audit)
        return kr_fail_memory(err);
    pthread_mutex_init(&audit->lock, NULL);
    audit->required = config->keyring.audit_required;
    audit->target = strdup(target);
    audit->keyring = strdup(config->keyring.name);
    enum kr_status status = audit->target && audit->keyring
                                ? kr_audit_log_new(&options, &audit->log, err)
                                : kr_fail_memory(err);
    if (status != KR_OK) {
        kr_audit_close(audit);
        return status;
    }
    expect_anchor(audit, config);
    *ret = audit;
    return KR_OK;
}

static void tell_repeats(struct kr_audit *audit, struct failure *failure);

void kr_audit_close(struct kr_audit *audit)
{
    if (!audit)
        return;
    for (int i = 0; i < FAILURES; i++) {
        if (audit->failures[i].repeats > 0)
            tell_repeats(audit, &audit->failures[i]);
        json_decref(audit->failures[i].fields);
    }
    kr_audit_log_free(audit->log);
    pthread_mutex_destroy(&audit->lock);
    free(audit->target);
    free(audit->keyring);
    free(audit);
}

void kr_audit_cleanup(struct kr_audit **audit)
{
    kr_audit_close(*audit);
}

/* --- who -------------------------------------------------------------------------------------- */

static const uid_t UNKNOWN = (uid_t)-1;
static uid_t user = (uid_t)-1;

void kr_audit_remember_user(void)
{
    user = getuid();
}

/* The user that logged in to this session, as the kernel keeps it. */
static uid_t login_uid(void)
{
    unsigned uid = UNKNOWN;
    FILE *file = fopen("/proc/self/loginuid", "re");
    if (file && fscanf(file, "%u", &uid) != 1)
        uid = UNKNOWN;
    if (file)
        fclose(file);
    return uid;
}

/* What sudo says; only the admin tool asks, since a server's environment is not for us to read. */
static uid_t sudo_uid(void)
{
    const char *text = user != UNKNOWN ? getenv("SUDO_UID") : NULL;
    char *end = NULL;
    unsigned long uid = text ? strtoul(text, &end, 10) : UNKNOWN;
    return text && *text && !*end && uid < UNKNOWN ? (uid_t)uid : UNKNOWN;
}

static void set_uid(json_t *actor, const char *name, uid_t uid)
{
    if (uid != UNKNOWN)
        json_object_set_new(actor, name, json_integer(uid));
}

static json_t *new_actor(void)
{
    json_t *actor = json_object();
    json_object_set_new(actor, "program", kr_json_text(program_invocation_short_name));
    json_object_set_new(actor, "pid", json_integer(getpid()));
    set_uid(actor, "uid", user != UNKNOWN ? user : getuid());
    set_uid(actor, "login_uid", login_uid());
    set_uid(actor, "sudo_uid", sudo_uid());
    return actor;
}

/* --- fields ----------------------------------------------------------------------------------- */

static void set_text(json_t *fields, const char *name, const char *text)
{
    if (text && *text)
        json_object_set_new(fields, name, kr_json_text(text));
}

static void set_number(json_t *fields, const char *name, uint64_t number)
{
    if (number > 0)
        json_object_set_new(fields, name, json_integer((json_int_t)number));
}

/* Texts of errors hold no secrets (base/status.h). */
static void set_failure(json_t *fields, const struct kr_error *failure)
{
    json_t *error = json_object();
    set_text(error, "class", kr_status_name(failure->status));
    set_text(error, "ckr", failure->ckr_name);
    set_text(error, "text", failure->text);
    json_object_set_new(fields, "error", error);
}

static json_t *event_fields(const struct kr_audit *audit, const struct kr_audit_event *event,
                            const char *outcome)
{
    json_t *fields = json_object();
    set_text(fields, "event", event->name);
    set_text(fields, "outcome", outcome);
    set_text(fields, "keyring", audit->keyring);
    json_object_set_new(fields, "actor", new_actor());
    set_text(fields, "token", event->token);
    set_text(fields, "namespace", event->ns);
    set_text(fields, "id", event->id);
    set_text(fields, "owner", event->owner);
    set_text(fields, "master", event->master);
    set_text(fields, "detail", event->detail);
    set_number(fields, "version", event->version);
    set_number(fields, "keys", event->keys);
    set_number(fields, "envelopes", event->envelopes);
    return fields;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Once per trouble. */
static void tell_trouble(struct kr_audit *audit, const struct kr_error *why)
{
    audit->lost++;
    if (audit->lost_untold++ > 0)
        return;
    kr_log(KR_LOG_WARNING,
           "the audit log cannot be written, and %s (audit-policy = %s): %s; hint: %s",
           audit->required ? "changes are refused" : "events go unrecorded",
           audit->required ? "require" : "warn", why->text, why->hint);
}

static enum kr_status append(struct kr_audit *audit, json_t *fields, struct kr_audit_head *ret,
                             struct kr_error *err)
{
    enum kr_status status = kr_audit_log_append(audit->log, fields, ret, err);
    if (status == KR_OK)
        audit->written++;
    return status;
}

/* After trouble the log first says what it lacks. */
static void tell_lost(struct kr_audit *audit)
{
    struct kr_error ignored = KR_ERROR_INIT;
    struct kr_audit_head head;
    const struct kr_audit_event event = {.name = "events-lost"};
    if (audit->lost_untold == 0)
        return;
    KR_JSON fields = event_fields(audit, &event, "ok");
    set_number(fields, "count", audit->lost_untold);
    if (append(audit, fields, &head, &ignored) != KR_OK)
        return;
    kr_log(KR_LOG_NOTE, "the audit log %s can be written again; %llu events are not in it",
           audit->target, (unsigned long long)audit->lost_untold);
    audit->lost_untold = 0;
}

static enum kr_status write_fields(struct kr_audit *audit, json_t *fields,
                                   struct kr_audit_head *ret, struct kr_error *err)
{
    tell_lost(audit);
    enum kr_status status = append(audit, fields, ret, err);
    if (status != KR_OK)
        tell_trouble(audit, err);
    return status;
}

/* *ret has the number 0 when the record could not be written and that is no obstacle. */
static enum kr_status write_or_refuse(struct kr_audit *audit, json_t *fields,
                                      struct kr_audit_head *ret, struct kr_error *err)
{
    struct kr_error why = KR_ERROR_INIT;
    struct kr_audit_head head = {0};
    pthread_mutex_lock(&audit->lock);
    enum kr_status status = write_fields(audit, fields, &head, &why);
    pthread_mutex_unlock(&audit->lock);
    *ret = head;
    if (status == KR_OK || !audit->required)
        return KR_OK;
    kr_fail(err, KR_REFUSED,
            "nothing is done that the audit log does not take (audit-policy = "
            "require): %s",
            why.text);
    kr_hint(err, "%s", why.hint);
    return KR_REFUSED;
}

enum kr_status kr_audit_begin(struct kr_audit *audit, const struct kr_audit_event *event,
                              struct kr_error *err)
{
    struct kr_audit_head head;
    if (!audit)
        return KR_OK;
    KR_JSON fields = event_fields(audit, event, "begun");
    return write_or_refuse(audit, fields, &head, err);
}

static bool is_file(const struct kr_audit *audit)
{
    return strcmp(audit->target, "syslog") != 0;
}

enum kr_status kr_audit_commit(struct kr_audit *audit, struct kr_keystore *keystore,
                               const struct kr_audit_event *event, struct kr_error *err)
{
    struct kr_audit_head head = {0};
    struct kr_error ignored = KR_ERROR_INIT;
    if (!audit)
        return KR_OK;
    if (event->name) {
        int64_t generation = 0;
        KR_TRY(kr_keystore_get_generation(keystore, &generation, err));
        KR_JSON fields = event_fields(audit, event, "ok");
        set_number(fields, "generation", (uint64_t)generation + 1);
        KR_TRY(write_or_refuse(audit, fields, &head, err));
    } else if (kr_audit_log_check(audit->log, &head, &ignored) != KR_OK) {
        return KR_OK;
    }
    return head.seq > 0 && is_file(audit) ? kr_keystore_set_audit_head(keystore, &head, err)
                                          : KR_OK;
}

/* --- failures, again and again ---------------------------------------------------------------- */

/* The same but for words that tell times and places. */
static bool is_same(const json_t *a, const json_t *b)
{
    static const char *const names[] = {"event", "token", "namespace", "id", "owner", "master"};
    const json_t *x = json_object_get(a, "error"), *y = json_object_get(b, "error");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const json_t *left = json_object_get(a, names[i]), *right = json_object_get(b, names[i]);
        if (left != right && !json_equal(left, right))
            return false;
    }
    const json_t *p = json_object_get(x, "ckr"), *q = json_object_get(y, "ckr");
    return json_equal(json_object_get(x, "class"), json_object_get(y, "class")) &&
           (p == q || json_equal(p, q));
}

static void tell_repeats(struct kr_audit *audit, struct failure *failure)
{
    struct kr_error ignored = KR_ERROR_INIT;
    struct kr_audit_head head;
    set_number(failure->fields, "repeated", failure->repeats);
    if (write_fields(audit, failure->fields, &head, &ignored) == KR_OK)
        failure->repeats = 0;
    failure->recorded_ms = kr_now_ms();
}

static void forget(struct kr_audit *audit, struct failure *failure)
{
    if (failure->repeats > 0)
        tell_repeats(audit, failure);
    json_decref(failure->fields);
    *failure = (struct failure){0};
}

/* True when it was counted: one like it is in the log already. */
static bool count_failure(struct kr_audit *audit, const json_t *fields)
{
    for (int i = 0; i < FAILURES; i++) {
        struct failure *failure = &audit->failures[i];
        if (!failure->fields || !is_same(failure->fields, fields))
            continue;
        failure->repeats++;
        if (kr_now_ms() - failure->recorded_ms >= REPEAT_MS)
            tell_repeats(audit, failure);
        return true;
    }
    return false;
}

static void remember_failure(struct kr_audit *audit, json_t *fields)
{
    struct failure *failure = &audit->failures[audit->next_failure++ % FAILURES];
    forget(audit, failure);
    failure->fields = json_incref(fields);
    failure->recorded_ms = kr_now_ms();
}

/* What went well ends the series of its failures. */
static void end_series(struct kr_audit *audit, const json_t *fields)
{
    const json_t *token = json_object_get(fields, "token");
    for (int i = 0; i < FAILURES; i++) {
        struct failure *failure = &audit->failures[i];
        const json_t *other = json_object_get(failure->fields, "token");
        if (failure->fields && (token == other || json_equal(token, other)) &&
            json_equal(json_object_get(failure->fields, "event"), json_object_get(fields, "event")))
            forget(audit, failure);
    }
}

void kr_audit_end(struct kr_audit *audit, const struct kr_audit_event *event,
                  const struct kr_error *failure)
{
    struct kr_error ignored = KR_ERROR_INIT;
    struct kr_audit_head head;
    if (!audit)
        return;
    KR_JSON fields = event_fields(audit, event, failure ? "failed" : "ok");
    if (failure)
        set_failure(fields, failure);
    pthread_mutex_lock(&audit->lock);
    if (!failure)
        end_series(audit, fields);
    if (!failure || !count_failure(audit, fields)) {
        enum kr_status status = write_fields(audit, fields, &head, &ignored);
        if (failure && status == KR_OK)
            remember_failure(audit, fields);
    }
    pthread_mutex_unlock(&audit->lock);
}

void kr_audit_login(void *audit, const char *token, const struct kr_error *failure)
{
    const struct kr_audit_event event = {.name = "token-login", .token = token};
    kr_audit_end(audit, &event, failure);
}

/* --- state ------------------------------------------------------------------------------------ */

void kr_audit_get_state(struct kr_audit *audit, struct kr_audit_state *ret)
{
    *ret = (struct kr_audit_state){0};
    if (!audit)
        return;
    pthread_mutex_lock(&audit->lock);
    *ret = (struct kr_audit_state){.target = audit->target,
                                   .required = audit->required,
                                   .written = audit->written,
                                   .lost = audit->lost};
    pthread_mutex_unlock(&audit->lock);
}

enum kr_status kr_audit_check(struct kr_audit *audit, struct kr_audit_head *ret,
                              struct kr_error *err)
{
    *ret = (struct kr_audit_head){0};
    return audit ? kr_audit_log_check(audit->log, ret, err) : KR_OK;
}
