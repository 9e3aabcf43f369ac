/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Moves money, and looks whether any is lost. */
#include "teller.h"

#include <inttypes.h>

enum { LOOK_AT = 200 }; /* fixed rows at a time */

/* What a lost connection left open is settled by what the journal has. */
static bool settle(struct teller *t)
{
    int64_t seen[2] = {0};

    if (client_numbers(&t->client, seen, 2,
                       "SELECT COUNT(*), COALESCE(MAX(seq), 0) FROM bank.journal WHERE teller = %d",
                       t->number) != 0)
        return false;
    if (seen[0] != seen[1])
        client_wrong(&t->client, "%" PRId64 " moves, the last is number %" PRId64, seen[0],
                     seen[1]);
    if (t->known && seen[0] != t->moves && !(t->unanswered && seen[0] == t->moves + 1))
        client_wrong(&t->client, "%" PRId64 " moves in the journal, %" PRId64 " acknowledged",
                     seen[0], t->moves);
    t->moves = seen[0];
    t->known = true;
    t->unanswered = false;
    return true;
}

static unsigned change_balance(struct client *client, unsigned account, int amount)
{
    return client_run(client, "UPDATE bank.accounts SET balance = balance + (%d) WHERE id = %u",
                      amount, account);
}

/* The lower account first, so that tellers do not block each other for good. */
static unsigned both_balances(struct client *client, unsigned giver, unsigned taker, int amount)
{
    unsigned error;

    if (giver < taker) {
        error = change_balance(client, giver, -amount);
        return error ? error : change_balance(client, taker, amount);
    }
    error = change_balance(client, taker, amount);
    return error ? error : change_balance(client, giver, -amount);
}

static unsigned move(struct teller *t, unsigned giver, unsigned taker, int amount)
{
    struct client *client = &t->client;
    unsigned error = client_run(client, "BEGIN");

    if (error == 0)
        error = both_balances(client, giver, taker, amount);
    if (error == 0)
        error = client_run(client, "INSERT INTO bank.journal VALUES (%d, %" PRId64 ", %u, %u, %d)",
                           t->number, t->moves + 1, giver, taker, amount);
    if (error != 0)
        return error;
    error = client_run(client, "COMMIT");
    t->unanswered = error != 0;
    t->moves += error == 0;
    return error;
}

void teller_move(struct teller *t, bool is_new)
{
    unsigned giver = 1 + client_random(&t->client, BANK_ACCOUNTS);
    unsigned taker = 1 + (giver + client_random(&t->client, BANK_ACCOUNTS - 1)) % BANK_ACCOUNTS;

    if ((is_new || t->unanswered) && !settle(t)) {
        client_close(&t->client);
        return;
    }
    if (move(t, giver, taker, 1 + (int)client_random(&t->client, 1000)) != 0 && t->client.mysql)
        client_run(&t->client, "ROLLBACK");
}

void reader_look(struct client *client, int64_t fixed_rows)
{
    int64_t sum[2] = {0}, good = 0, from;

    if (client_numbers(client, sum, 2, "SELECT COUNT(*), SUM(balance) FROM bank.accounts") == 0 &&
        (sum[0] != BANK_ACCOUNTS || sum[1] != 0))
        client_wrong(client, "%" PRId64 " accounts with %" PRId64 " in all", sum[0], sum[1]);
    from = 1 + client_random(client, (unsigned)(fixed_rows - LOOK_AT));
    if (client_numbers(client, &good, 1,
                       "SELECT COUNT(*) FROM bank.fixed WHERE id >= %" PRId64 " AND id < %" PRId64
                       " AND SHA2(txt, 256) = digest",
                       from, from + LOOK_AT) == 0 &&
        good != LOOK_AT)
        client_wrong(client, "%" PRId64 " good rows of %d from %" PRId64, good, LOOK_AT, from);
}
