/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Making master keys. */
#include "provider/master_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

unsigned long kr_master_label_number(const char *label, const char *keyring)
{
    char prefix[96];
    int len = snprintf(prefix, sizeof(prefix), "p11keyring:%s:", keyring);
    if (strncmp(label, prefix, (size_t)len) != 0)
        return 0;
    char *end;
    unsigned long number = strtoul(label + len, &end, 10);
    return *end == '\0' ? number : 0;
}

enum kr_status kr_master_survey(struct kr_token *token, const char *keyring,
                                unsigned long *ret_highest, unsigned *ret_usable,
                                struct kr_error *err)
{
    struct kr_master_info *found = NULL;
    size_t count = 0;
    KR_TRY(kr_master_list(token, &found, &count, err));
    unsigned long highest = 0;
    unsigned usable = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned long number = kr_master_label_number(found[i].label, keyring);
        if (number > highest)
            highest = number;
        usable += number > 0 && !found[i].problem;
    }
    free(found);
    *ret_highest = highest;
    *ret_usable = usable;
    return KR_OK;
}

enum kr_status kr_master_describe(struct kr_token *token, const struct kr_master_info *info,
                                  enum kr_wrap_mechanism wish, struct kr_master_row *ret,
                                  struct kr_error *err)
{
    struct kr_master_row row = {
        .id = info->id, .state = KR_MASTER_CURRENT, .created = (int64_t)time(NULL)};
    memcpy(row.label, info->label, sizeof(row.label));
    snprintf(row.token, sizeof(row.token), "%s", kr_token_name(token));
    KR_TRY(kr_master_prove(token, &info->id, wish, &row.mechanism, err));
    *ret = row;
    return KR_OK;
}

enum kr_status kr_master_make(struct kr_token *token, const char *keyring, unsigned long number,
                              enum kr_wrap_mechanism wish, struct kr_master_row *ret,
                              struct kr_error *err)
{
    struct kr_master_info info;
    char label[128];
    snprintf(label, sizeof(label), "p11keyring:%s:%lu", keyring, number);
    KR_TRY(kr_master_generate(token, label, wish, &info, err));
    enum kr_status status = kr_master_describe(token, &info, wish, ret, err);
    if (status != KR_OK) {
        struct kr_master_row made = {.id = info.id};
        memcpy(made.label, info.label, sizeof(made.label));
        kr_master_take_back(token, &made, err);
    }
    return status;
}

void kr_master_take_back(struct kr_token *token, const struct kr_master_row *made,
                         struct kr_error *err)
{
    struct kr_error ignored = KR_ERROR_INIT;
    if (kr_master_destroy(token, &made->id, &ignored) != KR_OK)
        kr_hint(err,
                "the new master key '%s' is left in the token, unused: delete it with pkcs11-tool "
                "--delete-object",
                made->label);
}
