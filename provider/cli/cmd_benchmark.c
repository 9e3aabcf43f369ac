/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* benchmark: what provider/benchmark.h measures, as tables or JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "cli.h"
#include "hwaccel/bulk.h"
#include "hwaccel/features.h"
#include "hwaccel/lockstep.h"
#include "provider/benchmark.h"

enum part { PART_TOKEN, PART_PAGES, PART_BULK, PARTS };
static const char *const part_names[PARTS] = {"token", "pages", "bulk"};

struct run {
    struct cli *cli;
    struct kr_benchmark benchmark;
    struct kr_benchmark_file file;
    json_t *result;
};

/* --- arguments -------------------------------------------------------------------------------- */

/* A bit for each part; 0: all that can be measured. */
static enum kr_status chosen_parts(const struct cli *cli, unsigned *ret, struct kr_error *err)
{
    unsigned parts = 0;

    for (int i = 0; i < cli->arg_count; i++) {
        int part = 0;
        while (part < PARTS && strcmp(cli->args[i], part_names[part]) != 0)
            part++;
        if (part == PARTS)
            return kr_fail(err, KR_USAGE, "benchmark takes the parts token, pages and bulk");
        parts |= 1u << part;
    }
    *ret = parts;
    return KR_OK;
}

static enum kr_status parse_seconds(const struct cli *cli, double *ret, struct kr_error *err)
{
    const char *text = cli->values[OPT_SECONDS];
    char *end = NULL;
    double seconds = text ? strtod(text, &end) : 3;

    if (text && (end == text || *end != '\0' || !(seconds >= 0.01 && seconds <= 3600)))
        return kr_fail(err, KR_USAGE, "--seconds is a number from 0.01 to 3600");
    *ret = seconds;
    return KR_OK;
}

/* 1, 2, 4, ... as far as the configuration allows. */
static void default_sessions(unsigned most, struct kr_benchmark_token *ret)
{
    for (unsigned sessions = 1; sessions <= most; sessions *= 2)
        ret->sessions[ret->count++] = sessions;
}

static enum kr_status parse_sessions(const char *text, struct kr_benchmark_token *ret,
                                     struct kr_error *err)
{
    unsigned long last = 0;
    char *end;

    ret->count = 0;
    for (;; text = end + 1) {
        unsigned long sessions = strtoul(text, &end, 10);
        if (*text < '0' || *text > '9' || sessions <= last ||
            sessions > KR_BENCHMARK_SESSIONS_MAX || ret->count == KR_BENCHMARK_ROWS_MAX ||
            (*end != ',' && *end != '\0')) {
            kr_fail(err, KR_USAGE, "--sessions is a list of rising numbers from 1 to %d",
                    KR_BENCHMARK_SESSIONS_MAX);
            kr_hint(err, "for example --sessions 1,2,4,8");
            return KR_USAGE;
        }
        ret->sessions[ret->count++] = (unsigned)(last = sessions);
        if (*end == '\0')
            return KR_OK;
    }
}

/* --- numbers ---------------------------------------------------------------------------------- */

/* To as many digits as mean something. */
static json_t *rounded(double value, double digits)
{
    return json_real(round(value * digits) / digits);
}

/* --- the token -------------------------------------------------------------------------------- */

/* As many sessions as are asked for, whatever servers are configured to use. */
static enum kr_status choose_sessions(struct cli *cli, struct kr_benchmark_token *subject,
                                      struct kr_error *err)
{
    char most[16];

    if (!cli->values[OPT_SESSIONS]) {
        default_sessions(cli->config->pkcs11.sessions, subject);
        return KR_OK;
    }
    KR_TRY(parse_sessions(cli->values[OPT_SESSIONS], subject, err));
    snprintf(most, sizeof most, "%u", subject->sessions[subject->count - 1]);
    return kr_config_override(cli->config, "pkcs11", "sessions", most, err);
}

static enum kr_status find_master(struct cli *cli, struct kr_benchmark_token *subject,
                                  json_t *result, struct kr_error *err)
{
    CLI_KEYSTORE keystore = NULL;
    struct kr_master_row master;

    KR_TRY(cli_open_keystore(cli, &keystore, err));
    KR_TRY(cli_current_master(keystore, cli->token->name, &master, err));
    subject->master = master.id;
    subject->mechanism = master.mechanism;
    json_object_set_new(result, "name", cli_text(cli->token->name));
    json_object_set_new(result, "master_key", cli_text(master.label));
    json_object_set_new(result, "mechanism", json_string(kr_wrap_mechanism_name(master.mechanism)));
    return KR_OK;
}

static void note_few_sessions(const struct kr_token_rate *rates, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (rates[i].open >= rates[i].sessions)
            continue;
        cli_note(
            "%u callers had %u sessions: the token gives no more, or is so fast that it needs no "
            "more",
            rates[i].sessions, rates[i].open);
        return;
    }
}

static json_t *token_row(const struct kr_token_rate *rate)
{
    return json_pack("{s:i, s:i, s:s, s:I, s:I, s:o, s:o}", "sessions", (int)rate->sessions,
                     "sessions_open", (int)rate->open, "operation",
                     rate->unwrap ? "unwrap" : "wrap", "operations", (json_int_t)rate->operations,
                     "per_second", (json_int_t)llround(rate->per_second), "p50_us",
                     rounded(rate->p50_us, 10), "p99_us", rounded(rate->p99_us, 10));
}

static enum kr_status measure_token(struct run *run, struct kr_error *err)
{
    struct kr_token_rate rates[2 * KR_BENCHMARK_ROWS_MAX];
    struct kr_benchmark_token subject = {0};
    CLI_TOKEN token = {0};
    struct cli *cli = run->cli;
    json_t *result = json_object(), *rows = json_array();
    size_t count;

    json_object_set_new(run->result, "token", result);
    json_object_set_new(result, "rates", rows);
    KR_TRY(cli_choose_token(cli, err));
    KR_TRY(choose_sessions(cli, &subject, err));
    KR_TRY(find_master(cli, &subject, result, err));
    KR_TRY(cli_open_token(cli, &token, err));
    json_object_set_new(result, "label", cli_text(token.info.label));
    json_object_set_new(result, "model", cli_text(token.info.model));
    subject.token = token.token;
    KR_TRY(kr_benchmark_token(&run->benchmark, &subject, rates, &count, err));
    for (size_t i = 0; i < count; i++)
        json_array_append_new(rows, token_row(&rates[i]));
    note_few_sessions(rates, count);
    return KR_OK;
}

/* --- pages ------------------------------------------------------------------------------------ */

static json_t *page_row(const struct kr_page_rate *rate)
{
    static const char *const engines[KR_ENGINES] = {
        [KR_ENGINE_ONE_PAGE] = "one_page",
        [KR_ENGINE_MANY_PAGES] = "many_pages",
        [KR_ENGINE_STREAMING] = "streaming",
        [KR_ENGINE_NEW_CONTEXT] = "new_context",
    };
    json_t *row = json_pack("{s:s, s:s, s:I}", "cipher", rate->cipher, "operation",
                            rate->encrypt ? "encrypt" : "decrypt", "size", (json_int_t)rate->size);

    for (int i = 0; i < KR_ENGINES; i++)
        json_object_set_new(row, engines[i],
                            rate->gb_per_second[i] > 0 ? rounded(rate->gb_per_second[i], 1000)
                                                       : json_null());
    return row;
}

static enum kr_status measure_pages(struct run *run, struct kr_error *err)
{
    struct kr_page_rate rates[KR_PAGE_RATES_MAX];
    json_t *rows = json_array();
    size_t count;

    json_object_set_new(run->result, "pages", rows);
    KR_TRY(kr_benchmark_pages(&run->benchmark, rates, &count, err));
    for (size_t i = 0; i < count; i++)
        json_array_append_new(rows, page_row(&rates[i]));
    return KR_OK;
}

/* --- whole files ------------------------------------------------------------------------------ */

static json_t *file_row(const struct kr_file_rate *rate)
{
    static const char *const works[KR_FILE_WORKS] = {
        [KR_FILE_COPY] = "copy",
        [KR_FILE_VERIFY] = "decrypt, verify",
        [KR_FILE_REENCRYPT] = "decrypt, verify, encrypt",
        [KR_FILE_ONE_PAGE] = "the same, one page at a time",
    };

    return json_pack("{s:s, s:i, s:b, s:s, s:s?, s:o, s:o}", "work", works[rate->work], "threads",
                     (int)rate->threads, "direct", rate->direct && !rate->buffered_because, "file",
                     rate->direct && !rate->buffered_because ? "direct" : "in cache",
                     "buffered_because", rate->buffered_because, "gb_per_second",
                     rounded(rate->gb_per_second, 1000), "gb_per_cpu_second",
                     rounded(rate->gb_per_cpu_second, 1000));
}

static enum kr_status choose_file(const struct cli *cli, struct kr_benchmark_file *ret,
                                  struct kr_error *err)
{
    const char *folder = getenv("TMPDIR");
    unsigned mebibytes, threads;

    KR_TRY(cli_number(cli, OPT_SIZE, 256, 1 << 20, &mebibytes, err));
    KR_TRY(cli_number(cli, OPT_THREADS, 0, KR_BULK_THREADS_MAX, &threads, err));
    if (cli->values[OPT_DIRECTORY])
        folder = cli->values[OPT_DIRECTORY];
    *ret = (struct kr_benchmark_file){folder ? folder : "/tmp", (uint64_t)mebibytes << 20, threads};
    return KR_OK;
}

static enum kr_status measure_bulk(struct run *run, struct kr_error *err)
{
    struct kr_file_rate rates[KR_FILE_RATES_MAX];
    json_t *rows = json_array();
    size_t count;

    json_object_set_new(run->result, "bulk",
                        json_pack("{s:o, s:I, s:o}", "directory", cli_text(run->file.directory),
                                  "size", (json_int_t)run->file.size, "rates", rows));
    KR_TRY(kr_benchmark_file(&run->benchmark, &run->file, rates, &count, err));
    for (size_t i = 0; i < count; i++)
        json_array_append_new(rows, file_row(&rates[i]));
    if (count > 0 && rates[count - 1].buffered_because)
        cli_note("not measured past the page cache: %s", rates[count - 1].buffered_because);
    return KR_OK;
}

/* --- all together ----------------------------------------------------------------------------- */

static void set_machine(json_t *result)
{
    json_object_set_new(result, "processors", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    json_object_set_new(result, "features", json_string(kr_features_text()));
    json_object_set_new(result, "lockstep", json_string(kr_lockstep_text(kr_lockstep_state())));
    json_object_set_new(result, "openssl", json_string(OpenSSL_version(OPENSSL_VERSION_STRING)));
}

static enum kr_status print_token(const json_t *token, struct kr_error *err)
{
    static const struct cli_column fields[] = {
        {"token", "label"},         {"model", "model"}, {"master key", "master_key"},
        {"mechanism", "mechanism"}, {NULL, NULL},
    };
    static const struct cli_column columns[] = {
        {"SESSIONS", "sessions"}, {"OPERATION", "operation"}, {"PER SECOND", "per_second"},
        {"P50 US", "p50_us"},     {"P99 US", "p99_us"},       {NULL, NULL},
    };

    putchar('\n');
    cli_print_fields(token, fields);
    return cli_print_table(json_object_get(token, "rates"), columns, err);
}

static enum kr_status print_pages(const json_t *pages, struct kr_error *err)
{
    static const struct cli_column columns[] = {
        {"CIPHER", "cipher"},
        {"OPERATION", "operation"},
        {"BYTES", "size"},
        {"ONE PAGE", "one_page"},
        {"MANY PAGES", "many_pages"},
        {"STREAMING", "streaming"},
        {"NEW CONTEXT", "new_context"},
        {NULL, NULL},
    };

    puts("\npage ciphers, GB for each second of CPU time");
    return cli_print_table(pages, columns, err);
}

static enum kr_status print_bulk(const json_t *bulk, struct kr_error *err)
{
    static const struct cli_column columns[] = {
        {"WORK", "work"},
        {"THREADS", "threads"},
        {"FILE", "file"},
        {"GB/S", "gb_per_second"},
        {"GB/CPU S", "gb_per_cpu_second"},
        {NULL, NULL},
    };

    printf("\na file of %lld MiB in %s, pages of 16 KiB, aes-cbc\n",
           (long long)json_integer_value(json_object_get(bulk, "size")) >> 20,
           json_string_value(json_object_get(bulk, "directory")));
    return cli_print_table(json_object_get(bulk, "rates"), columns, err);
}

static enum kr_status print_result(const json_t *result, struct kr_error *err)
{
    static const struct cli_column machine[] = {
        {"processors", "processors"},
        {"processor has", "features"},
        {"OpenSSL", "openssl"},
        {"lockstep", "lockstep"},
        {NULL, NULL},
    };
    const json_t *token = json_object_get(result, "token");
    const json_t *pages = json_object_get(result, "pages");
    const json_t *bulk = json_object_get(result, "bulk");

    cli_print_fields(result, machine);
    if (token)
        KR_TRY(print_token(token, err));
    if (pages)
        KR_TRY(print_pages(pages, err));
    return bulk ? print_bulk(bulk, err) : KR_OK;
}

/* Ciphers need no configuration; and without parts that are named, the token none either. */
static enum kr_status prepare(struct cli *cli, unsigned *parts, struct kr_error *err)
{
    const unsigned token = 1u << PART_TOKEN;

    if (*parts & token)
        return cli_load_full_config(cli, err);
    if (*parts != 0)
        return KR_OK;
    KR_TRY(cli_load_config(cli, err));
    *parts = (1u << PARTS) - 1;
    if (cli->config->keyring.keystore)
        return kr_config_require(cli->config, err);
    *parts &= ~token;
    cli_note("no keystore is configured: the token is left out");
    return KR_OK;
}

static enum kr_status measure(struct run *run, unsigned parts, struct kr_error *err)
{
    if (parts & 1u << PART_TOKEN)
        KR_TRY(measure_token(run, err));
    if (parts & 1u << PART_PAGES && !run->benchmark.interrupted)
        KR_TRY(measure_pages(run, err));
    if (parts & 1u << PART_BULK && !run->benchmark.interrupted)
        KR_TRY(measure_bulk(run, err));
    return KR_OK;
}

enum kr_status cli_run_benchmark(struct cli *cli, struct kr_error *err)
{
    struct cli_progress progress;
    CLI_JSON result = json_object();
    struct run run = {.cli = cli, .result = result};
    unsigned parts = 0;

    if (!result)
        return kr_fail_memory(err);
    KR_TRY(chosen_parts(cli, &parts, err));
    KR_TRY(parse_seconds(cli, &run.benchmark.seconds, err));
    KR_TRY(choose_file(cli, &run.file, err));
    KR_TRY(cli_progress_begin(cli, &progress, err));
    progress.unit = "measurements";
    run.benchmark.progress = cli_progress_step;
    run.benchmark.context = &progress;
    KR_TRY(prepare(cli, &parts, err));
    set_machine(result);
    enum kr_status status = measure(&run, parts, err);
    cli_progress_end(&progress);
    KR_TRY(status);
    json_object_set_new(result, "interrupted", json_boolean(run.benchmark.interrupted));
    if (run.benchmark.interrupted) {
        cli_note("interrupted: the result is not complete");
        cli->exit_code = CLI_EXIT_INTERRUPTED;
    }
    return cli_print_json(cli, result) ? KR_OK : print_result(result, err);
}
