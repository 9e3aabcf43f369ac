/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Our keystore, and the key files of file_key_management that keys are imported from. */
#include "files/kinds.h"

#include <stdio.h>

#include "base/bytes.h"
#include "formats/key_list.h"

/* --- keystore --------------------------------------------------------------------------------- */

/* Where SQLite keeps its page size and PRAGMA user_version, our format's number. */
enum { SQLITE_PAGE_SIZE_AT = 16, SQLITE_USER_VERSION_AT = 60, SQLITE_HEADER_BYTES = 100 };

static enum kr_status inspect_keystore(struct kr_file *file, struct kr_file_report *report,
                                       struct kr_error *err)
{
    if (file->head_len < SQLITE_HEADER_BYTES) {
        report->damaged = true;
        return kr_file_report_note(report, err, "the file ends within its header");
    }
    snprintf(report->format, sizeof(report->format), "format %u",
             (unsigned)kr_get_number(file->head + SQLITE_USER_VERSION_AT, 4));
    report->encrypted = KR_ENCRYPTED_YES;
    return kr_file_report_note(report, err,
                               "keys wrapped by a token, worthless without it; p11keyring status "
                               "verifies it");
}

const struct kr_file_kind_ops kr_keystore_ops = {
    .kind = KR_FILE_KEYSTORE,
    .inspect = inspect_keystore,
};

/* --- key files -------------------------------------------------------------------------------- */

struct key_count {
    uint64_t keys;
    uint32_t lowest, highest;
};

static void count_key(uint32_t id, unsigned bits, void *context)
{
    struct key_count *count = context;
    (void)bits;
    if (count->keys == 0 || id < count->lowest)
        count->lowest = id;
    if (id > count->highest)
        count->highest = id;
    count->keys++;
}

static enum kr_status inspect_key_list(struct kr_file *file, struct kr_file_report *report,
                                       struct kr_error *err)
{
    struct key_count count = {0};
    bool whole = file->head_len == file->size;
    kr_key_list_parse((const char *)file->head, file->head_len, whole, count_key, &count);
    report->encrypted = KR_ENCRYPTED_NO;
    report->incomplete = !whole;
    if (!whole)
        KR_TRY(kr_file_report_note(report, err, "only the first %zu bytes were looked at",
                                   file->head_len));
    return kr_file_report_note(report, err, "%llu keys in the clear, ids %u to %u",
                               (unsigned long long)count.keys, count.lowest, count.highest);
}

const struct kr_file_kind_ops kr_key_list_ops = {
    .kind = KR_FILE_KEY_LIST,
    .inspect = inspect_key_list,
};

static enum kr_status inspect_salted(struct kr_file *file, struct kr_file_report *report,
                                     struct kr_error *err)
{
    (void)file;
    report->encrypted = KR_ENCRYPTED_YES;
    return kr_file_report_note(report, err, "what is in it cannot be told without its password");
}

const struct kr_file_kind_ops kr_key_list_encrypted_ops = {
    .kind = KR_FILE_KEY_LIST_ENCRYPTED,
    .inspect = inspect_salted,
};
