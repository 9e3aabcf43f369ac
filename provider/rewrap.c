/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Bringing envelopes up to date. */
#include "provider/rewrap.h"

#include "base/clock.h"
#include "provider/change.h"
#include "provider/crew.h"
#include "provider/rows.h"

#include <stdlib.h>
#include <string.h>

enum {
    BATCH_BYTES = 4 << 20,
    /* A batch is stored as soon as it has taken so long, or so many times as long as reading it:
     * reading and storing go through all rows, for the manifest. */
    BATCH_MS = 250,
    BATCH_READINGS = 60
};

struct item {
    struct kr_row *row;
    uint8_t *blob; /* what the row is to have; NULL: not done */
    size_t len;
};

struct batch {
    struct kr_keyring *keyring;
    struct kr_masters masters; /* as they were when the rows were read; a copy */
    uint64_t masters_version;
    struct item *items;
    size_t count, room, bytes, most;
    struct kr_master_row *master_rows;
    size_t master_count;
    struct kr_rewrap_result *result;
    uint64_t stored;

    const struct kr_rewrap_options *options;
    uint64_t until; /* kr_now_ms() at which it has taken long enough */
};

/* --- which envelopes -------------------------------------------------------------------------- */

static bool may_be_wrapped(const struct kr_master_key *master)
{
    for (size_t i = 0; i < master->token_count; i++)
        if (kr_token_worth_trying(master->tokens[i]))
            return true;
    return false;
}

/* How many of its wraps are by current master keys. */
static size_t count_current(const struct kr_masters *masters,
                            const struct kr_envelope_header *header)
{
    size_t count = 0;
    for (size_t i = 0; i < masters->count; i++)
        count += masters->keys[i].current && kr_envelope_names(header, &masters->keys[i].id);
    return count;
}

/* Whether a wrap can be added, or old ones can go because none is missing. */
static bool can_improve(const struct kr_masters *masters, const struct kr_envelope_header *header)
{
    bool missing = false;
    for (size_t i = 0; i < masters->count; i++) {
        const struct kr_master_key *master = &masters->keys[i];
        if (!master->current || kr_envelope_names(header, &master->id))
            continue;
        if (may_be_wrapped(master))
            return true;
        missing = true;
    }
    return !missing;
}

static bool names_old(const struct kr_masters *masters, const struct kr_envelope_header *header)
{
    for (size_t i = 0; i < masters->count; i++)
        if (!masters->keys[i].current && kr_envelope_names(header, &masters->keys[i].id))
            return true;
    return false;
}

enum kr_status kr_each_envelope(struct kr_keyring *keyring, struct kr_keystore *keystore,
                                kr_version_visitor visit, void *context, struct kr_error *err)
{
    uint8_t *blob = NULL;
    size_t len = 0;
    KR_TRY(kr_keystore_get_manifest_envelope(keystore, &blob, &len, err));
    struct kr_envelope_context manifest =
        kr_manifest_context(keyring->name, kr_keystore_uuid(keystore));
    const struct kr_version_row row = {.ns = manifest.ns,
                                       .id = manifest.id,
                                       .owner = manifest.owner,
                                       .version = manifest.version,
                                       .cipher = manifest.cipher,
                                       .envelope = blob,
                                       .envelope_len = len};
    enum kr_status status = visit(&row, context, err);
    free(blob);
    return status == KR_OK ? kr_keystore_each_newest(keystore, visit, context, err) : status;
}

static enum kr_status parse_row(const struct kr_version_row *row, struct kr_envelope_header *ret,
                                struct kr_error *err)
{
    enum kr_status status = kr_envelope_parse(row->envelope, row->envelope_len, ret, err);
    if (status != KR_OK)
        kr_error_context(err, "%s key %s version %u", row->ns, row->id, row->version);
    return status;
}

struct surveying {
    const struct kr_masters *masters;
    const struct kr_object_id *master;
    struct kr_rewrap_state state;
};

static enum kr_status survey_row(const struct kr_version_row *row, void *context,
                                 struct kr_error *err)
{
    struct surveying *surveying = context;
    struct kr_rewrap_state *state = &surveying->state;
    struct kr_envelope_header header;
    KR_TRY(parse_row(row, &header, err));
    state->envelopes++;
    state->outdated += !kr_envelope_is_current(surveying->masters, &header);
    state->old += names_old(surveying->masters, &header);
    state->named += surveying->master && kr_envelope_names(&header, surveying->master);
    return KR_OK;
}

enum kr_status kr_rewrap_survey(struct kr_keyring *keyring, struct kr_keystore *keystore,
                                const struct kr_object_id *master, struct kr_rewrap_state *ret,
                                struct kr_error *err)
{
    struct surveying surveying = {.masters = &keyring->masters, .master = master};
    KR_TRY(kr_each_envelope(keyring, keystore, survey_row, &surveying, err));
    *ret = surveying.state;
    return KR_OK;
}

/* --- reading a batch -------------------------------------------------------------------------- */

static bool make_room(struct batch *batch)
{
    if (batch->count < batch->room)
        return true;
    size_t room = batch->room ? 2 * batch->room : 256;
    struct item *items = realloc(batch->items, room * sizeof(*items));
    if (!items)
        return false;
    batch->items = items;
    batch->room = room;
    return true;
}

static bool is_full(const struct batch *batch)
{
    return batch->bytes >= BATCH_BYTES || (batch->most && batch->count >= batch->most);
}

static enum kr_status take_row(const struct kr_version_row *row, void *context,
                               struct kr_error *err)
{
    struct batch *batch = context;
    const struct kr_masters *masters = &batch->keyring->masters;
    struct kr_envelope_header header;
    KR_TRY(parse_row(row, &header, err));
    if (kr_envelope_is_current(masters, &header))
        return KR_OK;
    if (!can_improve(masters, &header)) {
        batch->result->waiting++;
        return KR_OK;
    }
    batch->result->left++;
    if (is_full(batch))
        return KR_OK;
    struct kr_row *copy = kr_row_copy(row);
    if (!copy || !make_room(batch)) {
        free(copy);
        return kr_fail_memory(err);
    }
    batch->items[batch->count++] = (struct item){.row = copy};
    batch->bytes += row->envelope_len;
    return KR_OK;
}

/* Without the rows when the master keys are others than the keyring knows: their tokens are asked
 * outside of the view. */
static enum kr_status read_view(struct kr_keystore *keystore, void *context, struct kr_error *err)
{
    struct batch *batch = context;
    KR_TRY(kr_keystore_list_masters(keystore, &batch->master_rows, &batch->master_count, err));
    if (!kr_keyring_knows_masters(batch->keyring, batch->master_rows, batch->master_count))
        return KR_OK;
    free(batch->master_rows);
    batch->master_rows = NULL;
    batch->result->waiting = batch->result->left = 0;
    return kr_each_envelope(batch->keyring, keystore, take_row, batch, err);
}

static enum kr_status read_locked(struct batch *batch, struct kr_error *err)
{
    struct kr_keyring *keyring = batch->keyring;
    KR_TRY(kr_rows_view(keyring->keystore, read_view, batch, err));
    while (batch->master_rows) {
        enum kr_status status =
            kr_keyring_take_masters(keyring, batch->master_rows, batch->master_count, err);
        free(batch->master_rows);
        batch->master_rows = NULL;
        KR_TRY(status);
        KR_TRY(kr_rows_view(keyring->keystore, read_view, batch, err));
    }
    KR_TRY(kr_keyring_prove_masters(keyring, keyring->keystore, err));
    batch->masters_version = keyring->masters_version;
    return kr_masters_copy(&keyring->masters, &batch->masters, err);
}

static enum kr_status read_batch(struct batch *batch, struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(batch->keyring, err));
    enum kr_status status = read_locked(batch, err);
    kr_keyring_unlock(batch->keyring);
    return status;
}

static void free_batch(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        free(batch->items[i].row);
        free(batch->items[i].blob);
    }
    free(batch->items);
    free(batch->masters.keys);
    free(batch->master_rows);
}

/* --- wrapping anew, on many threads ----------------------------------------------------------- */

/* A token that went away meanwhile leaves an envelope as it was: then there is nothing to store. */
static bool is_better(const struct kr_masters *masters, const struct kr_row *old,
                      const uint8_t *blob, size_t len)
{
    struct kr_envelope_header before, after;
    struct kr_error ignored = KR_ERROR_INIT;
    return kr_envelope_parse(old->envelope, old->envelope_len, &before, &ignored) == KR_OK &&
           kr_envelope_parse(blob, len, &after, &ignored) == KR_OK &&
           (kr_envelope_is_current(masters, &after) ||
            count_current(masters, &after) > count_current(masters, &before));
}

static enum kr_status rewrap_item(void *context, size_t number, struct kr_error *err)
{
    const struct batch *batch = context;
    struct item *item = &batch->items[number];
    const struct kr_row *row = item->row;
    struct kr_envelope_context about =
        kr_keyring_context(batch->keyring, row->ns, row->id, row->owner, row->version, row->cipher);
    uint8_t *blob = NULL;
    size_t len = 0;
    enum kr_status status = kr_envelope_rewrap(&batch->masters, &about, row->envelope,
                                               row->envelope_len, &blob, &len, err);
    if (status != KR_OK) {
        kr_error_context(err, "%s key %s version %u", row->ns, row->id, row->version);
        return status;
    }
    if (!is_better(&batch->masters, row, blob, len)) {
        free(blob);
        return KR_OK;
    }
    item->blob = blob;
    item->len = len;
    return KR_OK;
}

/* Reports, and ends the batch when it is interrupted or has taken long enough: with at least one
 * item, however late a busy machine starts the threads. */
static bool look_after(void *context, size_t begun, size_t done)
{
    struct batch *batch = context;
    const struct kr_rewrap_options *options = batch->options;
    uint64_t before = batch->result->rewrapped, total = before + batch->result->left;
    if (options->progress && !options->progress(before + done, total, options->context))
        batch->result->interrupted = true;
    return !batch->result->interrupted && (begun == 0 || kr_now_ms() < batch->until);
}

static enum kr_status work_off(struct batch *batch, struct kr_error *err)
{
    const struct kr_crew crew = {.threads = batch->options->threads,
                                 .count = batch->count,
                                 .work = rewrap_item,
                                 .go_on = look_after,
                                 .context = batch};
    return kr_crew_run(&crew, err);
}

/* --- storing ---------------------------------------------------------------------------------- */

static enum kr_status replace_manifest(struct kr_keystore *keystore, const struct item *item,
                                       struct kr_error *err)
{
    uint8_t *now = NULL;
    size_t len = 0;
    KR_TRY(kr_keystore_get_manifest_envelope(keystore, &now, &len, err));
    bool same = len == item->row->envelope_len && memcmp(now, item->row->envelope, len) == 0;
    free(now);
    return same ? kr_keystore_set_manifest_envelope(keystore, item->blob, item->len, err)
                : kr_fail(err, KR_NOT_FOUND, "the manifest key was wrapped anew");
}

/* KR_NOT_FOUND: it is not what it was when it was read. */
static enum kr_status replace(struct kr_keystore *keystore, const struct item *item,
                              struct kr_error *err)
{
    const struct kr_row *row = item->row;
    const struct kr_version_row new = {.ns = row->ns,
                                       .id = row->id,
                                       .owner = row->owner,
                                       .version = row->version,
                                       .envelope = item->blob,
                                       .envelope_len = item->len};
    if (strcmp(row->ns, KR_NS_MANIFEST) == 0)
        return replace_manifest(keystore, item, err);
    return kr_keystore_replace_envelope(keystore, &new, row->envelope, row->envelope_len, err);
}

static enum kr_status store_item(struct kr_keystore *keystore, const struct item *item,
                                 uint64_t *stored, struct kr_error *err)
{
    struct kr_error why = KR_ERROR_INIT;
    enum kr_status status = replace(keystore, item, &why);
    if (status == KR_NOT_FOUND)
        return KR_OK;
    if (status != KR_OK) {
        *err = why;
        return status;
    }
    ++*stored;
    return kr_change_count_wraps(keystore, item->blob, item->len, item->row->envelope,
                                 item->row->envelope_len, err);
}

static enum kr_status store_items(struct kr_change *change, void *context, struct kr_error *err)
{
    struct batch *batch = context;
    if (change->keyring->masters_version != batch->masters_version)
        return KR_OK;
    for (size_t i = 0; i < batch->count; i++)
        if (batch->items[i].blob)
            KR_TRY(store_item(change->keystore, &batch->items[i], &batch->stored, err));
    return KR_OK;
}

static enum kr_status store_batch(struct batch *batch, struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(batch->keyring, err));
    enum kr_status status =
        kr_change_run(batch->keyring, NULL, NULL, NULL, store_items, batch, err);
    kr_keyring_unlock(batch->keyring);
    if (status == KR_OK)
        batch->result->rewrapped += batch->stored;
    return status;
}

static size_t count_done(const struct batch *batch)
{
    size_t count = 0;
    for (size_t i = 0; i < batch->count; i++)
        count += batch->items[i].blob != NULL;
    return count;
}

/* --- a run ------------------------------------------------------------------------------------ */

/* What is done is stored also when something else fails. *ret_more: there may be more to do. */
static enum kr_status run_batch(struct batch *batch, bool *ret_more, struct kr_error *err)
{
    const struct kr_rewrap_options *options = batch->options;
    uint64_t start = kr_now_ms();
    KR_TRY(read_batch(batch, err));
    uint64_t read = kr_now_ms(), least = options->once ? 0 : (read - start) * BATCH_READINGS;
    *ret_more = false;
    if (batch->count == 0)
        return KR_OK;
    batch->until = read + (least > BATCH_MS ? least : BATCH_MS);
    struct kr_error failure = KR_ERROR_INIT;
    enum kr_status status = work_off(batch, &failure);
    size_t done = count_done(batch);
    if (done > 0)
        KR_TRY(store_batch(batch, err));
    batch->result->left -= batch->stored;
    if (status != KR_OK) {
        *err = failure;
        return status;
    }
    *ret_more = done > 0 && !batch->result->interrupted && !options->once;
    return KR_OK;
}

/* A server's single batches are summed up by their caller. */
static void record(const struct kr_keyring *keyring, const struct kr_rewrap_result *result,
                   enum kr_status status, const struct kr_error *err)
{
    const struct kr_audit_event event = {.name = "rewrap",
                                         .detail = result->interrupted ? "interrupted" : NULL,
                                         .envelopes = result->rewrapped};
    if (status != KR_OK || result->rewrapped > 0)
        kr_audit_end(keyring->audit, &event, status == KR_OK ? NULL : err);
}

enum kr_status kr_rewrap(struct kr_keyring *keyring, const struct kr_rewrap_options *options,
                         struct kr_rewrap_result *ret, struct kr_error *err)
{
    enum kr_status status = KR_OK;
    bool more = true;
    *ret = (struct kr_rewrap_result){0};
    while (status == KR_OK && more) {
        struct batch batch = {
            .keyring = keyring, .most = options->batch, .result = ret, .options = options};
        status = run_batch(&batch, &more, err);
        free_batch(&batch);
    }
    if (status == KR_OK && !ret->interrupted && !options->once) {
        ret->waiting += ret->left; /* their token went away while they were wrapped */
        ret->left = 0;
    }
    if (!options->once)
        record(keyring, ret, status, err);
    return status;
}
