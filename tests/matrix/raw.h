/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What a token lets somebody do who has its PIN and means ill: plain Cryptoki calls, past our code.
 * Used while no connection of ours is open.
 */
#ifndef P11K_TESTS_RAW_H
#define P11K_TESTS_RAW_H

#include <jansson.h>

#include "pkcs11/token.h"

struct raw;

/* Loads and initialises the module, finds the token and logs in. Ends the program on failure. */
struct raw *raw_open(const struct kr_token_options *options);
void raw_close(struct raw *raw);

/* Attacks on a master key: {"read": {"refused": true, "answer": "CKR_..."}, ...}. */
json_t *raw_attack(struct raw *raw, const struct kr_object_id *id);

/* How many sessions can be open at once, `most` at most. */
unsigned raw_count_sessions(struct raw *raw, unsigned most);

/* Does C_GenerateRandom work? */
bool raw_random(struct raw *raw);

/* Makes a key on the token that may leave it, AES-256 or else RSA; false when the token makes
 * none. */
bool raw_make_extractable(struct raw *raw, const struct kr_object_id *id);

/* Destroys all keys with this id. */
void raw_destroy(struct raw *raw, const struct kr_object_id *id);

#endif
