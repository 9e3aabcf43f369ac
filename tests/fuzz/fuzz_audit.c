/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Any line as a record of the audit log: what is taken is whole, and no other line is it. */
#include <stdlib.h>
#include <string.h>

#include "wrap/audit_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool sound)
{
    if (!sound)
        abort();
}

/* No other line is this record: one that differs in a bit is refused. */
static void flip_a_bit(const char *line, size_t size, size_t at)
{
    KR_AUDIT_RECORD record = {0};
    char *copy = malloc(size);
    insist(copy != NULL);
    memcpy(copy, line, size);
    copy[at] ^= 1;
    insist(kr_audit_record_read(copy, size, &record) != NULL);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KR_AUDIT_RECORD record = {0};
    const char *problem = kr_audit_record_read((const char *)data, size, &record);
    if (problem) {
        insist(problem[0] != '\0');
        return 0;
    }
    insist(size > 0 && size < KR_AUDIT_LINE_MAX && json_is_object(record.fields));
    insist(record.head.seq > 0);
    flip_a_bit((const char *)data, size, record.head.hash[0] * size / 256);
    return 0;
}
