/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Progress of long work on stderr, and its interruption. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli.h"

enum { LINE_INTERVAL_MS = 5000, JSON_INTERVAL_MS = 1000 };

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* A second signal takes its usual course: being killed is safe, too. */
static void catch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction before;
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
}

enum kr_status cli_progress_begin(const struct cli *cli, struct cli_progress *ret,
                                  struct kr_error *err)
{
    const char *how = cli->values[OPT_PROGRESS] ? cli->values[OPT_PROGRESS] : "auto";
    struct cli_progress progress = {
        .how = PROGRESS_NONE, .start = kr_now_ms(), .unit = "envelopes", .scale = 1};

    if (strcmp(how, "auto") == 0)
        progress.how = isatty(STDERR_FILENO) ? PROGRESS_TERMINAL : PROGRESS_LINE;
    else if (strcmp(how, "line") == 0)
        progress.how = PROGRESS_LINE;
    else if (strcmp(how, "json") == 0)
        progress.how = PROGRESS_JSON;
    else if (strcmp(how, "none") != 0)
        return kr_fail(err, KR_USAGE, "--progress is auto, line, json or none");
    progress.said = progress.start;
    catch_signals();
    *ret = progress;
    return KR_OK;
}

static void say(struct cli_progress *progress, uint64_t done, uint64_t total)
{
    double seconds = (double)(kr_now_ms() - progress->start) / 1000;
    done /= progress->scale;
    total /= progress->scale;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    double left = rate > 0 ? (double)(total - done) / rate : 0;
    unsigned percent = total > 0 ? (unsigned)(100 * done / total) : 100;

    if (progress->how == PROGRESS_JSON) {
        fprintf(stderr,
                "{\"schema\": \"p11keyring.progress/1\", \"unit\": \"%s\", \"done\": %llu, "
                "\"total\": %llu, \"rate\": %.1f, \"seconds_left\": %.0f}\n",
                progress->unit, (unsigned long long)done, (unsigned long long)total, rate, left);
        return;
    }
    progress->drawn = progress->how == PROGRESS_TERMINAL;
    fprintf(stderr, "%s%llu of %llu %s (%u%%), %.0f/s, %.0f s left%s",
            progress->drawn ? "\r" : "p11keyring: note: ", (unsigned long long)done,
            (unsigned long long)total, progress->unit, percent, rate, left,
            progress->drawn ? "\033[K" : "\n");
}

bool cli_progress_step(uint64_t done, uint64_t total, void *context)
{
    struct cli_progress *progress = context;
    uint64_t now = kr_now_ms(), interval = 0;

    if (progress->how == PROGRESS_LINE)
        interval = LINE_INTERVAL_MS;
    else if (progress->how == PROGRESS_JSON)
        interval = JSON_INTERVAL_MS;
    if (progress->how != PROGRESS_NONE && now - progress->said >= interval) {
        say(progress, done, total);
        progress->said = now;
    }
    return !interrupted;
}

void cli_progress_end(struct cli_progress *progress)
{
    if (progress->drawn)
        fputs("\r\033[K", stderr);
}
