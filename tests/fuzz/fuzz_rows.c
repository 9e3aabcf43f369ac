/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Any rows in a sound keystore, also such as its schema forbids: whoever can write the file can
 * write them. An input is a list of rows: a byte for the table, then its columns, each a byte for
 * its type and length and its bytes.
 */
#include "keystore_checks.h"

#include <sqlite3.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *data;
    size_t left;
};

static const struct table {
    const char *insert;
    int columns;
} tables[] = {
    {"INSERT OR REPLACE INTO keyring VALUES (?, ?, ?, ?)", 4},
    {"INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)", 7},
    {"INSERT OR REPLACE INTO manifest VALUES (?, ?, ?, ?, ?, ?)", 6},
    {"INSERT OR REPLACE INTO masters VALUES (?, ?, ?, ?, ?, ?, ?)", 7},
    {"INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", 8},
};
enum { TABLES = sizeof(tables) / sizeof(tables[0]) };

static uint8_t take(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->data++;
}

static size_t take_some(struct input *in, size_t wanted, const uint8_t **ret)
{
    size_t len = wanted < in->left ? wanted : in->left;
    *ret = in->data;
    in->data += len;
    in->left -= len;
    return len;
}

static void bind(sqlite3_stmt *statement, int column, struct input *in)
{
    const uint8_t *bytes;
    int64_t number = 0;
    uint8_t type = take(in);
    size_t len = take_some(in, type % 4 == 1 ? 8 : type >> 2, &bytes);
    switch (type % 4) {
    case 1:
        memcpy(&number, bytes, len);
        sqlite3_bind_int64(statement, column, number);
        break;
    case 2:
        sqlite3_bind_text(statement, column, (const char *)bytes, (int)len, SQLITE_TRANSIENT);
        break;
    case 3:
        sqlite3_bind_blob(statement, column, bytes, (int)len, SQLITE_TRANSIENT);
        break;
    default:
        sqlite3_bind_int64(statement, column, type >> 2);
        break;
    }
}

/* A type that the column cannot have is SQLite's to refuse. */
static void insert_row(sqlite3 *db, struct input *in)
{
    const struct table *table = &tables[take(in) % TABLES];
    sqlite3_stmt *statement = NULL;
    insist(sqlite3_prepare_v2(db, table->insert, -1, &statement, NULL) == SQLITE_OK);
    for (int i = 1; i <= table->columns; i++)
        bind(statement, i, in);
    sqlite3_step(statement);
    sqlite3_finalize(statement);
}

static void write_rows(const char *path, struct input *in)
{
    sqlite3 *db = NULL;
    insist(sqlite3_open(path, &db) == SQLITE_OK);
    insist(sqlite3_exec(db,
                        "PRAGMA ignore_check_constraints = ON; PRAGMA journal_mode = OFF; "
                        "PRAGMA foreign_keys = OFF; BEGIN",
                        NULL, NULL, NULL) == SQLITE_OK);
    while (in->left > 0)
        insert_row(db, in);
    sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    sqlite3_close(db);
}

/* A sound keystore, made once. */
static size_t read_base(uint8_t *ret, size_t size)
{
    const char *path = keystore_path();
    FILE *file;
    size_t len;
    keystore_make(path, 2);
    insist(keystore_is_sound(path));
    file = fopen(path, "re");
    insist(file != NULL);
    len = fread(ret, 1, size, file);
    insist(len > 0 && len < size);
    fclose(file);
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t base[1 << 18];
    static size_t base_len;
    struct input in = {data, size};
    if (base_len == 0)
        base_len = read_base(base, sizeof(base));
    write_rows(keystore_write(base, base_len), &in);
    keystore_check();
    return 0;
}
