/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The first inputs of fuzz_keystore: "seed_keystore FOLDER" makes them anew after a change of the
 * format, "seed_keystore --check FILE" says whether that is due. */
#include "keystore_checks.h"

#include <sqlite3.h>

#include <stdio.h>
#include <string.h>

/* Small pages, so that a change of one byte means something. */
static const struct {
    const char *name;
    unsigned keys;
    const char *then;
} seeds[] = {
    {"empty", 0, "PRAGMA page_size = 512; VACUUM"},
    {"small", 3, "PRAGMA page_size = 512; VACUUM"},
    {"two-levels", 60, "PRAGMA page_size = 512; VACUUM"},
    {"pages-of-4096", 3, ""},
    {"edited", 2, "PRAGMA page_size = 512; VACUUM; UPDATE keys SET disabled = 1"},
    {"trigger", 1,
     "PRAGMA page_size = 512; VACUUM; "
     "CREATE TRIGGER t AFTER UPDATE ON keys BEGIN DELETE FROM versions; END"},
    {"newer-format", 0, "PRAGMA page_size = 512; VACUUM; PRAGMA user_version = 99"},
    {"write-ahead-log", 0, "PRAGMA page_size = 512; VACUUM; PRAGMA journal_mode = WAL"},
};

static void make(const char *path, unsigned keys, const char *then)
{
    sqlite3 *db = NULL;

    remove(path);
    keystore_make(path, keys);
    insist(sqlite3_open(path, &db) == SQLITE_OK);
    insist(sqlite3_exec(db, then, NULL, NULL, NULL) == SQLITE_OK);
    insist(sqlite3_close(db) == SQLITE_OK);
}

int main(int argc, char **argv)
{
    char path[4096];

    if (argc == 3 && strcmp(argv[1], "--check") == 0)
        return keystore_is_sound(argv[2]) ? 0 : 1;
    if (argc != 2)
        return 2;
    for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", argv[1], seeds[i].name);
        make(path, seeds[i].keys, seeds[i].then);
    }
    return 0;
}
