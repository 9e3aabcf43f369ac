/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Any bytes as a MySQL tablespace: page 0, then each page as the checks see it. */
#include <stdlib.h>
#include <string.h>

#include "formats/mysql_page.h"
#include "formats/mysql_tablespace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool sound)
{
    if (!sound)
        abort();
}

static void check_pages(const struct kr_mysql_space *space, const uint8_t *data, size_t size)
{
    uint8_t *page = malloc(space->page_size), *room = malloc(space->page_size);
    insist(page && room);
    for (size_t at = 0; at + space->page_size <= size; at += space->page_size) {
        const struct kr_mysql_page_place place = {.space_id = space->space_id,
                                                  .number = at / space->page_size,
                                                  .size = space->page_size,
                                                  .zip = space->zip,
                                                  .room = room};
        memcpy(page, data + at, space->page_size);
        enum kr_mysql_page_fault fault = kr_mysql_page_check(page, at % 3 == 0, &place);
        insist(kr_mysql_page_fault_text(fault)[0] != '\0');
        insist(kr_mysql_page_length(page, space->page_size) <= space->page_size);
    }
    free(page);
    free(room);
}

/* What is cleared is a tablespace in the clear, and its first page is sound. */
static void clear_first_page(const struct kr_mysql_space *space, const uint8_t *data)
{
    struct kr_mysql_space now;
    uint8_t *page = malloc(space->page_size);
    insist(page != NULL);
    memcpy(page, data, space->page_size);
    kr_mysql_space_clear(space, page);
    insist(kr_mysql_space_parse(page, space->page_size, &now));
    insist(!now.encrypted && now.info.state == KR_MYSQL_INFO_NONE);
    insist(now.progress == KR_MYSQL_SETTLED && now.page_size == space->page_size);
    free(page);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kr_mysql_space space;
    if (!kr_mysql_space_parse(data, size, &space))
        return 0;
    insist(space.page_size >= 1024 && space.page_size <= size);
    insist(space.info_at + KR_MYSQL_INFO_BYTES <= space.page_size);
    check_pages(&space, data, size);
    clear_first_page(&space, data);
    return 0;
}
