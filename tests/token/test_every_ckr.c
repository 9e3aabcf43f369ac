/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Every CKR at every call: for each operation on a keyring, each function of the module that it
 * calls and each return value of Cryptoki, the first, a middle or the last call fails, once or from
 * then on. Then the error must be of the class that pkcs11/ckr.c gives the value, name it and say
 * what to do; every key that was there still opens with its bytes; and the same operation succeeds
 * as soon as the token does, in the process that saw the failure. The same with answers of a wrong
 * length or content, where the error has no CKR to name.
 *
 * P11K_CKR_SAMPLE: every so many cases are run, 1 for all of them (half an hour). Each case has a
 * fresh copy of the keyring and processes of its own, since a module that contradicts itself
 * changes what a process does with it.
 */
#include "check.h"
#include "ckr_case.h"

#include "pkcs11/ckr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    OPERATIONS_MAX = 16,
    FUNCTIONS_MAX = 64,
    FAULTS_MAX = 128,
    WORKERS = 12, /* they mostly wait */
    TIMEOUT_MS = 300,
    LONG_TIMEOUT_MS = 10000,
    HANG_SECONDS = 120
};

/* CKM_RSA_PKCS_KEY_PAIR_GEN: it takes too long for so many cases. */
#define NO_KEY_PAIRS "hidden 0x0\n"

struct plan {
    struct called called[OPERATIONS_MAX][FUNCTIONS_MAX]; /* by an operation, when nothing fails */
    unsigned called_count[OPERATIONS_MAX];
    struct scene_keys keys;
};

/* Every fault at every call; `sample` is prime, so that a sample meets them all. */
struct matrix {
    struct fault faults[FAULTS_MAX];
    unsigned count, sample;
};

static struct fixture pristine;
static struct plan *plan;
static struct matrix values = {.sample = 257};
static struct matrix answers = {
    .faults = {{"flip", "", CKR_OK},
               {"truncate", "1", CKR_OK},
               {"length", "1", CKR_OK},
               {"length", "5000", CKR_OK}},
    .count = 4,
    .sample = 23,
};

static void *share(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        abort();
    return memory;
}

/* --- one case --------------------------------------------------------------------------------- */

/* Runs `body` in a process of its own; false when it crashed or hung. */
static bool in_child(void (*body)(void *), void *argument)
{
    int status;
    pid_t pid = fork();

    MUST(pid >= 0);
    if (pid == 0) {
        alarm(HANG_SECONDS);
        body(argument);
        _exit(0);
    }
    MUST(waitpid(pid, &status, 0) == pid);
    return status == 0;
}

struct run {
    struct scene *scene;
    const struct ckr_case *c;
    struct outcome *o;
    unsigned timeout_ms;
};

static void run_case(void *argument)
{
    struct run *r = argument;
    const struct operation *operation = &operations[r->c->operation];
    struct kr_error err = KR_ERROR_INIT;

    MUST(scene_configure(r->scene, P11K_MOCK, r->timeout_ms, &err) == KR_OK);
    if (operation->prepare(r->scene, &r->o->err) != KR_OK)
        return;
    mock_rules(NO_KEY_PAIRS "%s %s %s %u %s\n", r->c->fault->action, r->c->function->name,
               r->c->fault->value, r->c->call, r->c->lasting ? "" : "1");
    r->o->status = operation->run(r->scene, &r->o->err);
    r->o->hit = mock_calls("injected") > 0;
    mock_rules("%s", "");
    if (r->o->status == KR_AUTH)
        check_write_pin(&r->scene->token, pristine.pin);
    r->scene->serves = ckr_class(r->c->fault->ckr) != KR_AUTH; /* that keeps it out for longer */
    r->o->again = operation->run(r->scene, &r->o->again_err);
    if (r->scene->keyring && scene_check_keys(r->scene->keyring, &plan->keys, &err) != KR_OK)
        snprintf(r->o->wrong, sizeof(r->o->wrong), "afterwards %.300s", err.text);
    kr_keyring_close(r->scene->keyring);
    r->o->finished = true;
}

static size_t count_masters(const struct scene *s)
{
    struct kr_pin_source *pin = NULL;
    struct kr_token *token = NULL;
    struct kr_master_info *list = NULL;
    struct kr_error err = KR_ERROR_INIT;
    size_t count = 0;

    MUST(kr_keyring_open_token(s->config, NULL, NULL, &token, &pin, &err) == KR_OK);
    MUST(kr_master_list(token, &list, &count, &err) == KR_OK);
    free(list);
    kr_token_close(token);
    kr_pin_source_free(pin);
    return count;
}

static void open_and_check(struct run *r, const struct scene_keys *expected)
{
    struct kr_keyring *keyring = NULL;
    struct kr_error err = KR_ERROR_INIT;
    enum kr_status status = kr_keyring_open(r->scene->config, &keyring, &err);

    if (status == KR_OK && expected)
        status = scene_check_keys(keyring, expected, &err);
    kr_keyring_close(keyring);
    if (status != KR_OK)
        snprintf(r->o->wrong, sizeof(r->o->wrong), "in another process: %.300s", err.text);
}

static void verify(void *argument)
{
    struct run *r = argument;
    struct kr_error err = KR_ERROR_INIT;

    MUST(scene_configure(r->scene, pristine.module, LONG_TIMEOUT_MS, &err) == KR_OK);
    open_and_check(r, &plan->keys);
    r->o->masters = count_masters(r->scene);
    if (operations[r->c->operation].makes_second) {
        MUST(scene_name_second(r->scene, &err) == KR_OK);
        open_and_check(r, NULL);
    }
    r->o->verified = true;
}

static void describe(const struct ckr_case *c, const struct outcome *o, const char *wrong)
{
    fprintf(stderr, "%s, %s call %u of %u: %s %s %s (%s): %s\n    %s: %s (hint: %s)\n",
            operations[c->operation].name, c->function->name, c->call, c->function->calls,
            c->fault->action, c->fault->value, c->lasting ? "from then on" : "once",
            kr_ckr_name(c->fault->ckr), wrong, kr_status_name(o->status), o->err.text, o->err.hint);
    if (o->again != KR_OK)
        fprintf(stderr, "    again: %s: %s\n", kr_status_name(o->again), o->again_err.text);
}

/* A busy machine may make a call that late; it has then nothing to do with the CKR. */
static bool was_late(const struct outcome *o)
{
    return strstr(o->err.text, "did not return within") ||
           strstr(o->again_err.text, "did not return within");
}

static bool run_and_judge(const struct ckr_case *c, unsigned worker, struct outcome *o)
{
    unsigned timeout_ms = TIMEOUT_MS;
    const char *wrong;

    do {
        struct scene scene;
        struct run r = {&scene, c, o, timeout_ms};

        scene_renew(&scene, &pristine, worker);
        memset(o, 0, sizeof(*o));
        in_child(run_case, &r);
        in_child(verify, &r);
        wrong = ckr_judge(c, o);
        timeout_ms *= 6;
    } while (wrong && was_late(o) && timeout_ms < LONG_TIMEOUT_MS);
    if (wrong)
        describe(c, o, wrong);
    return !wrong;
}

/* --- all cases -------------------------------------------------------------------------------- */

/* The calls of a function that are made to fail: first, middle, last. */
static unsigned positions(unsigned calls, unsigned ret[3])
{
    const unsigned wanted[3] = {1, (calls + 1) / 2, calls};
    unsigned count = 0;

    for (int i = 0; i < 3; i++)
        if (i == 0 || wanted[i] > wanted[i - 1])
            ret[count++] = wanted[i];
    return count;
}

static bool gives_an_answer(const char *function)
{
    static const char *const names[] = {"C_Encrypt",         "C_Decrypt",           "C_WrapKey",
                                        "C_FindObjects",     "C_GetAttributeValue", "C_GetSlotList",
                                        "C_GetMechanismList"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(function, names[i]) == 0)
            return true;
    return false;
}

typedef void (*visitor)(const struct matrix *m, const struct ckr_case *c, void *context);

struct walk {
    const struct matrix *matrix;
    unsigned every, all;
    visitor visit;
    void *context;
};

static void walk_function(struct walk *w, unsigned operation, const struct called *function)
{
    unsigned calls[3], count = positions(function->calls, calls);

    for (unsigned i = 0; i < 2 * count; i++) {
        for (unsigned j = 0; j < w->matrix->count; j++) {
            struct ckr_case c = {operation, function, calls[i / 2], i % 2, &w->matrix->faults[j]};

            if ((c.fault->ckr == CKR_OK && !gives_an_answer(function->name)) ||
                w->all++ % w->every != 0)
                continue;
            w->visit(w->matrix, &c, w->context);
        }
    }
}

/* Visits the sample; returns the number of all cases. */
static unsigned each_case(const struct matrix *matrix, visitor visit, void *context)
{
    const char *every = getenv("P11K_CKR_SAMPLE");
    struct walk w = {.matrix = matrix,
                     .every = every ? (unsigned)strtoul(every, NULL, 10) : matrix->sample,
                     .visit = visit,
                     .context = context};

    for (unsigned i = 0; operations[i].name; i++)
        for (unsigned j = 0; j < plan->called_count[i]; j++)
            walk_function(&w, i, &plan->called[i][j]);
    return w.all;
}

struct worker {
    unsigned number, seen, run, hits, wrong;
};

static void work_on(const struct matrix *matrix, const struct ckr_case *c, void *context)
{
    static struct outcome *o;
    struct worker *worker = context;

    (void)matrix;
    if (worker->seen++ % WORKERS != worker->number)
        return;
    if (!o)
        o = share(sizeof(*o));
    worker->run++;
    worker->wrong += !run_and_judge(c, worker->number, o);
    worker->hits += o->hit;
}

/* --- the plan --------------------------------------------------------------------------------- */

static void add_value(CK_RV ckr)
{
    struct fault *fault = &values.faults[values.count++];

    assert_true(values.count <= FAULTS_MAX);
    fault->ckr = ckr;
    strcpy(fault->action, "fail");
    snprintf(fault->value, sizeof(fault->value), "0x%lx", ckr);
}

/* Every value that has a name, one of a vendor's and one that nobody knows. */
static void list_values(void)
{
    for (CK_RV ckr = 1; ckr < 0x1000; ckr++)
        if (strcmp(kr_ckr_name(ckr), "CKR_(unknown)") != 0)
            add_value(ckr);
    add_value(0xfff);
    add_value(CKR_VENDOR_DEFINED | 0x42);
    assert_in_range(values.count, 90, FAULTS_MAX);
}

static void make_keyring(void *unused)
{
    struct scene s = {.token = pristine};
    struct kr_error err = KR_ERROR_INIT;

    (void)unused;
    MUST(scene_configure(&s, pristine.module, LONG_TIMEOUT_MS, &err) == KR_OK);
    if (scene_make(&s, &plan->keys, &err) != KR_OK)
        child_fail(err.text, __FILE__, __LINE__);
}

struct counting {
    unsigned operation;
    bool before;
};

static void note_calls(const char *name, uint64_t calls, void *context)
{
    struct counting *counting = context;
    struct called *called = plan->called[counting->operation];
    unsigned *count = &plan->called_count[counting->operation], i = 0;

    while (i < *count && strcmp(called[i].name, name) != 0)
        i++;
    if (i == *count)
        snprintf(called[(*count)++].name, sizeof(called[i].name), "%s", name);
    called[i].calls = counting->before ? (unsigned)calls : (unsigned)calls - called[i].calls;
}

static void count_calls(void *argument)
{
    struct counting counting = {.operation = *(unsigned *)argument, .before = true};
    const struct operation *operation = &operations[counting.operation];
    struct kr_error err = KR_ERROR_INIT;
    struct scene s;

    scene_renew(&s, &pristine, 0);
    MUST(scene_configure(&s, P11K_MOCK, LONG_TIMEOUT_MS, &err) == KR_OK);
    MUST(operation->prepare(&s, &err) == KR_OK);
    mock_rules(NO_KEY_PAIRS);
    mock_each_function(note_calls, &counting);
    MUST(operation->run(&s, &err) == KR_OK);
    counting.before = false;
    mock_each_function(note_calls, &counting);
}

/* Leaves out what was only called before. */
static void drop_uncalled(unsigned operation)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < plan->called_count[operation]; i++)
        if (plan->called[operation][i].calls > 0)
            plan->called[operation][kept++] = plan->called[operation][i];
    plan->called_count[operation] = kept;
}

static int up(void **state)
{
    (void)state;
    plan = share(sizeof(*plan));
    list_values();
    fixture_up(&pristine, "every-ckr");
    assert_true(in_child(make_keyring, NULL));
    for (unsigned i = 0; operations[i].name; i++) {
        assert_true(in_child(count_calls, &i));
        drop_uncalled(i);
        assert_true(plan->called_count[i] > 0);
    }
    return 0;
}

static int down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WORKERS; i++)
        scene_remove(&pristine, i);
    fixture_down(&pristine);
    return 0;
}

/* --- tests ------------------------------------------------------------------------------------ */

struct coverage {
    bool functions[OPERATIONS_MAX][FUNCTIONS_MAX], faults[FAULTS_MAX];
};

static void cover(const struct matrix *matrix, const struct ckr_case *c, void *context)
{
    struct coverage *coverage = context;

    coverage->functions[c->operation][c->function - plan->called[c->operation]] = true;
    coverage->faults[c->fault - matrix->faults] = true;
}

static bool covers(const struct coverage *coverage, const char *function)
{
    for (unsigned i = 0; operations[i].name; i++)
        for (unsigned j = 0; j < plan->called_count[i]; j++)
            if (coverage->functions[i][j] && strcmp(plan->called[i][j].name, function) == 0)
                return true;
    return false;
}

static void the_sample_meets_every_function_and_value(void **state)
{
    struct coverage coverage = {.faults = {false}};

    (void)state;
    each_case(&values, cover, &coverage);
    for (unsigned i = 0; operations[i].name; i++)
        for (unsigned j = 0; j < plan->called_count[i]; j++)
            if (!covers(&coverage, plan->called[i][j].name))
                fail_msg("%s is not in the sample", plan->called[i][j].name);
    for (unsigned i = 0; i < values.count; i++)
        assert_true(coverage.faults[i]);
}

/* All workers; returns their sum. */
static struct worker run_cases(const struct matrix *matrix)
{
    struct worker *workers = share(WORKERS * sizeof(*workers));
    struct worker sum = {.run = 0};
    pid_t pids[WORKERS];
    int status;

    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            each_case(matrix, work_on, &workers[i]);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
        sum.seen = workers[i].seen;
        sum.run += workers[i].run;
        sum.hits += workers[i].hits;
        sum.wrong += workers[i].wrong;
    }
    print_message("%u cases, %u of them hit, %u wrong\n", sum.run, sum.hits, sum.wrong);
    assert_int_equal(sum.run, sum.seen);
    assert_int_equal(sum.wrong, 0);
    return sum;
}

static void each_failure_is_told_and_leaves_all_keys(void **state)
{
    struct worker sum = run_cases(&values);

    (void)state;
    assert_in_range(sum.hits, sum.run * 9 / 10, sum.run);
}

/* Where a buffer's length is asked for first, that call gives no answer to spoil. */
static void no_answer_is_trusted(void **state)
{
    struct worker sum = run_cases(&answers);

    (void)state;
    assert_in_range(sum.hits, sum.run / 2, sum.run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sample_meets_every_function_and_value),
        cmocka_unit_test(each_failure_is_told_and_leaves_all_keys),
        cmocka_unit_test(no_answer_is_trusted),
    };

    return cmocka_run_group_tests(tests, up, down);
}
