/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Envelopes read from the keystore in one verified view. */
#include "provider/rows.h"

#include <stdlib.h>
#include <string.h>

#include "provider/crew.h"

enum {
    FEW = 32,      /* so many are opened one after the other */
    AT_ONCE = 1024 /* payloads in memory */
};

struct reading {
    const char *ns;
    kr_row_filter wanted;
    void *context;
    struct kr_row *first, **last;
    struct kr_master_row *masters;
    size_t master_count;
};

void kr_rows_free(struct kr_row *rows)
{
    while (rows) {
        struct kr_row *next = rows->next;
        free(rows);
        rows = next;
    }
}

static char *put_text(uint8_t **at, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = memcpy(*at, text, size);
    *at += size;
    return copy;
}

struct kr_row *kr_row_copy(const struct kr_version_row *row)
{
    size_t texts = strlen(row->ns) + strlen(row->id) + strlen(row->owner) + strlen(row->cipher) + 4;
    struct kr_row *copy = malloc(sizeof(*copy) + texts + row->envelope_len);
    if (!copy)
        return NULL;
    uint8_t *at = (uint8_t *)(copy + 1);
    *copy = (struct kr_row){.version = row->version, .envelope_len = row->envelope_len};
    copy->ns = put_text(&at, row->ns);
    copy->id = put_text(&at, row->id);
    copy->owner = put_text(&at, row->owner);
    copy->cipher = put_text(&at, row->cipher);
    copy->envelope = memcpy(at, row->envelope, row->envelope_len);
    return copy;
}

static enum kr_status collect(const struct kr_version_row *row, void *context, struct kr_error *err)
{
    struct reading *reading = context;
    if (!reading->wanted(row, reading->context))
        return KR_OK;
    struct kr_row *copy = kr_row_copy(row);
    if (!copy)
        return kr_fail_memory(err);
    *reading->last = copy;
    reading->last = &copy->next;
    return KR_OK;
}

enum kr_status kr_rows_view(struct kr_keystore *keystore, kr_view look, void *context,
                            struct kr_error *err)
{
    KR_TRY(kr_keystore_begin_read(keystore, err));
    enum kr_status status = kr_keystore_verify(keystore, err);
    if (status == KR_OK)
        status = look(keystore, context, err);
    if (status == KR_OK)
        return kr_keystore_commit(keystore, err);
    kr_keystore_rollback(keystore);
    return status;
}

static enum kr_status read_rows(struct kr_keystore *keystore, void *context, struct kr_error *err)
{
    struct reading *reading = context;
    KR_TRY(kr_keystore_list_masters(keystore, &reading->masters, &reading->master_count, err));
    return kr_keystore_each_version(keystore, reading->ns, collect, reading, err);
}

enum kr_status kr_rows_read(struct kr_keyring *keyring, const char *ns, kr_row_filter wanted,
                            void *context, struct kr_row **ret, struct kr_error *err)
{
    struct reading reading = {
        .ns = ns, .wanted = wanted, .context = context, .last = &reading.first};
    enum kr_status status = kr_rows_view(keyring->keystore, read_rows, &reading, err);
    if (status == KR_OK)
        status = kr_keyring_take_masters(keyring, reading.masters, reading.master_count, err);
    free(reading.masters);
    if (status != KR_OK) {
        kr_rows_free(reading.first);
        return status;
    }
    *ret = reading.first;
    return KR_OK;
}

enum kr_status kr_row_open(struct kr_keyring *keyring, const struct kr_row *row, uint8_t **ret,
                           size_t *ret_len, struct kr_error *err)
{
    struct kr_envelope_context context =
        kr_keyring_context(keyring, row->ns, row->id, row->owner, row->version, row->cipher);
    enum kr_status status =
        kr_outage_open(keyring, &context, row->envelope, row->envelope_len, ret, ret_len, err);
    if (status != KR_OK)
        kr_error_context(err, "key %s version %u", row->id, row->version);
    return status;
}

/* --- many envelopes --------------------------------------------------------------------------- */

struct opened {
    const struct kr_row *row;
    uint8_t *payload; /* secret memory */
    size_t len;
};

struct opening {
    struct kr_keyring *keyring;
    struct opened at[AT_ONCE];
    size_t count;
};

static enum kr_status open_one(void *context, size_t piece, struct kr_error *err)
{
    struct opening *opening = context;
    struct opened *opened = &opening->at[piece];
    return kr_row_open(opening->keyring, opened->row, &opened->payload, &opened->len, err);
}

static enum kr_status take_opened(struct opening *opening, kr_row_taker take, void *context,
                                  struct kr_error *err)
{
    enum kr_status status = KR_OK;
    for (size_t i = 0; i < opening->count && status == KR_OK; i++) {
        const struct opened *opened = &opening->at[i];
        status = take(opened->row, opened->payload, opened->len, context, err);
    }
    return status;
}

/* Takes them off the list. */
static void fill(struct opening *opening, const struct kr_row **rows)
{
    for (opening->count = 0; *rows && opening->count < AT_ONCE; *rows = (*rows)->next)
        opening->at[opening->count++] = (struct opened){.row = *rows};
}

/* What a start cache has, or gets, is for one thread. */
static unsigned count_threads(const struct opening *opening)
{
    const struct kr_keyring *keyring = opening->keyring;
    return opening->count > FEW && !keyring->outage.cache ? keyring->sessions : 1;
}

static enum kr_status open_some(struct opening *opening, kr_row_taker take, void *context,
                                struct kr_error *err)
{
    const struct kr_crew crew = {.threads = count_threads(opening),
                                 .count = opening->count,
                                 .work = open_one,
                                 .context = opening};
    enum kr_status status = KR_OK;
    if (crew.threads > 1)
        status = kr_crew_run(&crew, err);
    for (size_t i = 0; crew.threads <= 1 && i < crew.count && status == KR_OK; i++)
        status = open_one(opening, i, err);
    if (status == KR_OK)
        status = take_opened(opening, take, context, err);
    for (size_t i = 0; i < opening->count; i++)
        kr_secret_free(opening->at[i].payload);
    return status;
}

enum kr_status kr_rows_open(struct kr_keyring *keyring, const struct kr_row *rows,
                            kr_row_taker take, void *context, struct kr_error *err)
{
    struct opening *opening = rows ? calloc(1, sizeof(*opening)) : NULL;
    enum kr_status status = KR_OK;
    if (rows && !opening)
        return kr_fail_memory(err);
    if (opening)
        opening->keyring = keyring;
    while (rows && status == KR_OK) {
        fill(opening, &rows);
        status = open_some(opening, take, context, err);
    }
    free(opening);
    return status;
}
