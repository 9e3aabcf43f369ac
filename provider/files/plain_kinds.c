/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Kinds with little to tell: key files of file_key_management that keys are imported from, MySQL's
 * doublewrite files, and what holds no pages. */
#include "files/kinds.h"

#include "formats/key_list.h"

/* --- key files -------------------------------------------------------------------------------- */

struct key_count {
    uint64_t keys;
    uint32_t lowest, highest;
};

static void count_key(uint32_t id, const char *digits, unsigned bits, void *context)
{
    struct key_count *count = context;
    (void)digits;
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

/* --- doublewrite files ------------------------------------------------------------------------ */

static enum kr_status inspect_doublewrite(struct kr_file *file, struct kr_file_report *report,
                                          struct kr_error *err)
{
    (void)file;
    return kr_file_report_note(report, err,
                               "copies of pages as they are in their tablespaces, under the keys "
                               "of those");
}

const struct kr_file_kind_ops kr_mysql_doublewrite_ops = {
    .kind = KR_FILE_MYSQL_DOUBLEWRITE,
    .inspect = inspect_doublewrite,
};

/* --- without pages ---------------------------------------------------------------------------- */

static enum kr_status inspect_bare(struct kr_file *file, struct kr_file_report *report,
                                   struct kr_error *err)
{
    (void)file;
    (void)err;
    report->encrypted = KR_ENCRYPTED_NO;
    return KR_OK;
}

const struct kr_file_kind_ops kr_table_definition_ops = {
    .kind = KR_FILE_TABLE_DEFINITION,
    .inspect = inspect_bare,
};

const struct kr_file_kind_ops kr_database_options_ops = {
    .kind = KR_FILE_DATABASE_OPTIONS,
    .inspect = inspect_bare,
};
