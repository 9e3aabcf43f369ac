/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Any bytes as each of MySQL's logs: how they are cut into pieces makes no difference. */
#include <stdlib.h>
#include <string.h>

#include "formats/binlog_events.h"
#include "formats/mysql_binlog.h"
#include "formats/mysql_redo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool sound)
{
    if (!sound)
        abort();
}

static void on_damage(const struct kr_binlog_event *event, enum kr_binlog_fault fault,
                      void *context)
{
    size_t *size = context;
    insist(event->offset <= *size && kr_binlog_fault_text(fault)[0] != '\0');
}

static struct kr_binlog_check feed(const uint8_t *data, size_t size, size_t step)
{
    struct kr_binlog_check check;
    kr_binlog_check_begin(&check, on_damage, &size);
    for (size_t at = 0; at < size; at += step)
        kr_binlog_check_feed(&check, data + at, size - at < step ? size - at : step);
    kr_binlog_check_end(&check);
    return check;
}

static void try_events(const uint8_t *data, size_t size)
{
    struct kr_binlog_check whole = feed(data, size, size + 1), pieces = feed(data, size, 7);
    insist(whole.events == pieces.events && whole.damaged == pieces.damaged);
    insist(whole.unchecked == pieces.unchecked && strcmp(whole.server, pieces.server) == 0);
}

/* What is understood is written again as it was. */
static void try_head(const uint8_t *data)
{
    struct kr_mysql_binlog_head head, again;
    uint8_t bytes[KR_MYSQL_BINLOG_HEAD];
    if (kr_mysql_binlog_parse(data, &head))
        return;
    kr_mysql_binlog_write(&head, bytes);
    insist(kr_mysql_binlog_parse(bytes, &again) == NULL);
    insist(memcmp(&head, &again, sizeof(head)) == 0);
}

static void try_redo(const uint8_t *data, size_t size)
{
    struct kr_mysql_redo redo;
    if (!kr_mysql_redo_parse(data, &redo))
        return;
    insist(strlen(redo.creator) < sizeof(redo.creator));
    for (size_t at = KR_MYSQL_REDO_HEAD; at + KR_MYSQL_REDO_BLOCK <= size;
         at += KR_MYSQL_REDO_BLOCK) {
        enum kr_mysql_redo_state state =
            kr_mysql_redo_check(&redo, at / KR_MYSQL_REDO_BLOCK, data + at);
        insist(state <= KR_MYSQL_REDO_DAMAGED);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_events(data, size);
    if (size >= KR_MYSQL_BINLOG_HEAD)
        try_head(data);
    if (size >= KR_MYSQL_REDO_HEAD)
        try_redo(data, size);
    return 0;
}
