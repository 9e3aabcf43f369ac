/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What part each token has in the keyring, for status and diagnosis. */
#include "provider/rewrap.h"
#include "provider/rows.h"

#include <stdio.h>
#include <string.h>

struct reporting {
    struct kr_keyring *keyring;
    struct kr_token_report *reports;
};

/* Counts one envelope for one token. */
static void count(const struct kr_masters *masters, const struct kr_token *token,
                  const struct kr_envelope_header *header, struct kr_token_report *report)
{
    bool opens = false, missing = false;
    for (size_t i = 0; i < masters->count; i++) {
        const struct kr_master_key *master = &masters->keys[i];
        bool named = kr_envelope_names(header, &master->id);
        if (kr_master_place(master, token) == master->token_count)
            continue;
        opens = opens || named;
        missing = missing || (master->current && !named);
    }
    report->opens += opens;
    report->waiting += missing;
}

static enum kr_status count_row(const struct kr_version_row *row, void *context,
                                struct kr_error *err)
{
    struct reporting *reporting = context;
    const struct kr_keyring *keyring = reporting->keyring;
    struct kr_envelope_header header;
    KR_TRY(kr_envelope_parse(row->envelope, row->envelope_len, &header, err));
    for (size_t i = 0; i < keyring->tokens.count; i++)
        count(&keyring->masters, keyring->tokens.at[i], &header, &reporting->reports[i]);
    return KR_OK;
}

static enum kr_status count_all(struct kr_keystore *keystore, void *context, struct kr_error *err)
{
    struct reporting *reporting = context;
    return kr_each_envelope(reporting->keyring, keystore, count_row, reporting, err);
}

static void name_master(const struct kr_keyring *keyring, const struct kr_token *token,
                        struct kr_token_report *report)
{
    for (size_t i = 0; i < keyring->master_count; i++) {
        const struct kr_master_row *row = &keyring->master_rows[i];
        if (row->state == KR_MASTER_CURRENT &&
            kr_master_token(keyring->master_rows, keyring->master_count, row, &keyring->tokens) ==
                token)
            memcpy(report->master, row->label, sizeof(report->master));
    }
}

static void describe(const struct kr_keyring *keyring, size_t i, struct kr_token_report *report)
{
    const struct kr_token *token = keyring->tokens.at[i];
    const struct kr_anchor *anchor = &keyring->anchors.at[i];
    report->name = kr_token_name(token);
    report->state = kr_token_state(token);
    report->anchor = anchor->state;
    report->remembers = anchor->state == KR_ANCHOR_SET ? anchor->generation.number : 0;
    report->behind = anchor->state == KR_ANCHOR_SET &&
                     report->remembers < kr_keystore_generation(keyring->keystore).number;
    name_master(keyring, token, report);
}

static enum kr_status report(struct kr_keyring *keyring, struct kr_token_report *reports,
                             struct kr_error *err)
{
    struct reporting reporting = {keyring, reports};
    KR_TRY(kr_keyring_check_generation(keyring, err));
    KR_TRY(kr_keyring_load_masters(keyring, keyring->keystore, err));
    KR_TRY(kr_rows_view(keyring->keystore, count_all, &reporting, err));
    for (size_t i = 0; i < keyring->tokens.count; i++)
        describe(keyring, i, &reports[i]);
    return KR_OK;
}

enum kr_status kr_keyring_report_tokens(struct kr_keyring *keyring,
                                        struct kr_token_report ret[KR_TOKENS_MAX],
                                        size_t *ret_count, struct kr_error *err)
{
    struct kr_token_report reports[KR_TOKENS_MAX] = {0};
    KR_TRY(kr_keyring_lock(keyring, err));
    enum kr_status status = report(keyring, reports, err);
    kr_keyring_unlock(keyring);
    KR_TRY(status);
    memcpy(ret, reports, sizeof(reports));
    *ret_count = keyring->tokens.count;
    return KR_OK;
}

void kr_keyring_token_states(const struct kr_keyring *keyring, char ret[KR_TOKEN_STATES_TEXT])
{
    size_t used = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < keyring->tokens.count && used < KR_TOKEN_STATES_TEXT; i++)
        used += (size_t)snprintf(ret + used, KR_TOKEN_STATES_TEXT - used, "%s%s: %s",
                                 i > 0 ? ", " : "", kr_token_name(keyring->tokens.at[i]),
                                 kr_token_state_name(kr_token_state(keyring->tokens.at[i])));
}
