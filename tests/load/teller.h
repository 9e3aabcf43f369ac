/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A bank whose books must balance, whatever happens to its server: tellers move money between
 * accounts and write each move into a journal, readers look whether the sum and fixed rows are what
 * they were.
 *
 *   bank.accounts (id 1..BANK_ACCOUNTS, balance)      the sum of all balances is 0
 *   bank.journal  (teller, seq, giver, taker, amount) each teller's seq runs from 1 without a gap
 *   bank.fixed    (id 1.., txt, digest)               digest = SHA2(txt, 256)
 */
#ifndef P11K_TESTS_LOAD_TELLER_H
#define P11K_TESTS_LOAD_TELLER_H

#include "client.h"

enum { BANK_ACCOUNTS = 100 };

struct teller {
    struct client client;
    int number;
    bool known;      /* how many moves the journal has is known */
    int64_t moves;   /* that were acknowledged */
    bool unanswered; /* the last COMMIT got no answer: it may or may not have happened */
};

/* One move; a teller whose connection is new first looks whether every move that was acknowledged
 * is in the journal. */
void teller_move(struct teller *teller, bool is_new);

/* One look at the books. */
void reader_look(struct client *client, int64_t fixed_rows);

#endif
