/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Concurrent clients that check what they read, see teller.h, until SIGTERM; they connect again
 * whenever the server comes back:
 *
 *   p11k_load SOCKET LOG SEED FIXED-ROWS PROBE UNDO [STATEMENT...]
 *
 * Beside tellers and a reader, one client probes: PROBE is a statement that needs the token, with
 * "#" for a new number each time, and UNDO what follows it. It is given twice in a second, and
 * after a failure ten times. Another client gives the STATEMENTs now and then, in random order.
 * Prints one line of sums; fails when a result was wrong, or a statement never ended.
 */
#include "teller.h"

#include <err.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TELLERS = 3,
    CLIENTS = TELLERS + 3,
    TELLER_PAUSE_MS = 5,
    RETRY_MS = 100,
    PROBE_MS = 500,
    ADMIN_MS = 800,
    END_MS = 60000, /* the longest wait for statements under way when the load ends */
};

static struct teller tellers[TELLERS];
static struct client reader = {.name = "reader"};
static struct client probe = {.name = "probe", .log_all = true};
static struct client admin = {.name = "admin", .log_all = true};
static struct client *const clients[CLIENTS] = {
    &tellers[0].client, &tellers[1].client, &tellers[2].client, &reader, &probe, &admin};

static int64_t fixed_rows;
static char **statements; /* PROBE UNDO STATEMENT... */
static unsigned statement_count;
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

/* --- what each client does -------------------------------------------------------------------- */

static void numbered(const char *statement, unsigned number, char *ret, size_t size)
{
    const char *mark;
    size_t len = 0;

    for (; (mark = strchr(statement, '#')) && len < size; statement = mark + 1)
        len += (size_t)snprintf(ret + len, size - len, "%.*s%u", (int)(mark - statement), statement,
                                number);
    if (len < size)
        snprintf(ret + len, size - len, "%s", statement);
}

/* Key ids that are made by a probe must be new, also in the next run. */
static unsigned first_number(void)
{
    return (unsigned)(load_now() / 1000000 % 10000000) * 100;
}

static void give_probe(struct client *client)
{
    static unsigned number;
    char text[512];
    unsigned error;

    number = number ? number + 1 : first_number();
    numbered(statements[0], number, text, sizeof(text));
    error = client_run(client, "%s", text);
    if (statements[1][0] && client->mysql) {
        numbered(statements[1], number, text, sizeof(text));
        client->log_all = false;
        client_run(client, "%s", text);
        client->log_all = true;
    }
    load_pause(error ? RETRY_MS : PROBE_MS);
}

static void *be_teller(void *arg)
{
    struct teller *teller = arg;
    bool is_new;

    mysql_thread_init();
    while (!stopped) {
        if (client_connect(&teller->client, &is_new))
            teller_move(teller, is_new);
        load_pause(TELLER_PAUSE_MS);
    }
    teller->client.ended = true;
    return NULL;
}

static void look(struct client *client)
{
    reader_look(client, fixed_rows);
    load_pause(TELLER_PAUSE_MS);
}

static void give_statement(struct client *client)
{
    if (statement_count > 2)
        client_run(client, "%s", statements[2 + client_random(client, statement_count - 2)]);
    load_pause(ADMIN_MS / 2 + client_random(client, ADMIN_MS));
}

static void *be_client(void *arg)
{
    struct client *client = arg;
    bool is_new;

    mysql_thread_init();
    while (!stopped) {
        if (!client_connect(client, &is_new))
            load_pause(RETRY_MS);
        else if (client == &reader)
            look(client);
        else if (client == &probe)
            give_probe(client);
        else
            give_statement(client);
    }
    client->ended = true;
    return NULL;
}

/* --- all together ----------------------------------------------------------------------------- */

static void start_clients(unsigned seed)
{
    pthread_t thread;

    for (int i = 0; i < TELLERS; i++)
        tellers[i] = (struct teller){.number = i + 1, .client.name = "teller"};
    for (int i = 0; i < CLIENTS; i++) {
        bool is_teller = i < TELLERS;

        clients[i]->seed = seed + (unsigned)i;
        if (pthread_create(&thread, NULL, is_teller ? be_teller : be_client,
                           is_teller ? (void *)&tellers[i] : clients[i]) != 0)
            errx(2, "cannot start a thread");
        pthread_detach(thread);
    }
}

/* A statement that never ends is still seen as slow. */
static bool all_ended(void)
{
    bool ended = true;

    for (int i = 0; i < CLIENTS; i++) {
        int64_t since = clients[i]->since, took = since ? load_now() - since : 0;

        if (took > clients[i]->slowest)
            clients[i]->slowest = took;
        ended = ended && clients[i]->ended;
    }
    return ended;
}

static bool wait_for_the_end(void)
{
    int64_t end = 0;

    while (!all_ended()) {
        if (stopped && end == 0)
            end = load_now() + END_MS * 1000LL;
        if (end != 0 && load_now() > end)
            return false;
        load_pause(50);
    }
    return true;
}

static bool print_sums(bool ended)
{
    struct client all = {0}, plain = {0};

    for (int i = 0; i < CLIENTS; i++) {
        all.statements += clients[i]->statements;
        all.lost += clients[i]->lost;
        all.wrong += clients[i]->wrong;
        if (i <= TELLERS) {
            plain.failures += clients[i]->failures;
            plain.slowest =
                clients[i]->slowest > plain.slowest ? clients[i]->slowest : plain.slowest;
        }
    }
    printf("statements=%llu plain_failed=%llu plain_slowest=%lld probes=%llu probes_failed=%llu "
           "probes_slowest=%lld admin=%llu admin_failed=%llu admin_slowest=%lld lost=%llu "
           "wrong=%llu stuck=%d\n",
           (unsigned long long)all.statements, (unsigned long long)plain.failures,
           (long long)plain.slowest / 1000, (unsigned long long)probe.statements,
           (unsigned long long)probe.failures, (long long)probe.slowest / 1000,
           (unsigned long long)admin.statements, (unsigned long long)admin.failures,
           (long long)admin.slowest / 1000, (unsigned long long)all.lost,
           (unsigned long long)all.wrong, !ended);
    fflush(stdout);
    return ended && all.wrong == 0;
}

int main(int argc, char **argv)
{
    const struct sigaction action = {.sa_handler = stop};

    if (argc < 7 || !load_open(argv[1], argv[2]))
        errx(2, "usage: p11k_load SOCKET LOG SEED FIXED-ROWS PROBE UNDO [STATEMENT...]");
    fixed_rows = strtoll(argv[4], NULL, 10);
    statements = argv + 5;
    statement_count = (unsigned)argc - 5;
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    mysql_library_init(0, NULL, NULL);
    start_clients((unsigned)strtoul(argv[3], NULL, 10));
    /* Threads may be under way in a statement that never ends. */
    _exit(print_sums(wait_for_the_end()) ? 0 : 1);
}
