/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Files of random pages for the tests of the bulk pipeline. */
#include "bulk_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/rand.h>

#include "scratch.h"

static int open_new(const char *name)
{
    int fd = open(scratch_path(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

struct pages *pages_new(uint64_t size, size_t page_size, uint64_t offset)
{
    struct pages *pages = calloc(1, sizeof(*pages));
    assert_non_null(pages);
    *pages = (struct pages){.size = size, .page_size = page_size, .offset = offset};
    pages->in = open_new("in");
    pages->out = open_new("out");
    pages->before = malloc(size + 1);
    assert_non_null(pages->before);
    assert_int_equal(RAND_bytes(pages->before, (int)size + 1), 1);
    assert_int_equal(pwrite(pages->in, pages->before, size, (off_t)offset), size);
    return pages;
}

void pages_free(struct pages *pages)
{
    close(pages->in);
    close(pages->out);
    free(pages->before);
    free(pages);
}

struct kr_bulk pages_run(const struct pages *pages)
{
    return (struct kr_bulk){.in = pages->in,
                            .out = pages->out,
                            .in_name = "input",
                            .out_name = "output",
                            .in_offset = pages->offset,
                            .out_offset = pages->offset,
                            .size = pages->size,
                            .page_size = pages->page_size,
                            .work = invert};
}

struct kr_bulk pages_run_in_place(const struct pages *pages)
{
    struct kr_bulk bulk = pages_run(pages);
    bulk.out = pages->in;
    return bulk;
}

/* By words, for the sake of ThreadSanitizer. */
static void invert_page(uint8_t *page, size_t len, uint64_t number)
{
    uint64_t *words = (uint64_t *)(void *)page;
    for (size_t i = 0; i < len / 8; i++)
        words[i] = ~words[i];
    for (size_t i = len / 8 * 8; i < len; i++)
        page[i] = (uint8_t)~page[i];
    page[0] ^= number & 0x7f;
}

enum kr_status invert(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    (void)context;
    (void)err;
    for (unsigned i = 0; i < chunk->count; i++) {
        size_t len = i + 1 == chunk->count ? chunk->last_len : chunk->page_size;
        if (chunk->src[i] != chunk->pages[i])
            memcpy(chunk->pages[i], chunk->src[i], len);
        invert_page(chunk->pages[i], len, chunk->first + i);
    }
    return KR_OK;
}

uint64_t pages_count(const struct pages *pages)
{
    return (pages->size + pages->page_size - 1) / pages->page_size;
}

/* `now`: the page as it is in a file; changed. */
static enum page_state state_of(const struct pages *pages, uint64_t page, uint8_t *now)
{
    uint64_t at = page * pages->page_size, left = pages->size - at;
    size_t len = left < pages->page_size ? left : pages->page_size;
    if (memcmp(now, pages->before + at, len) == 0)
        return PAGE_BEFORE;
    invert_page(now, len, page);
    return memcmp(now, pages->before + at, len) == 0 ? PAGE_INVERTED : PAGE_OTHER;
}

static uint8_t *read_all(const struct pages *pages, int fd)
{
    uint8_t *now = calloc(1, pages->size + 1);
    assert_non_null(now);
    assert_true(pread(fd, now, pages->size, (off_t)pages->offset) >= 0);
    return now;
}

enum page_state page_state(const struct pages *pages, int fd, uint64_t page)
{
    uint8_t *now = read_all(pages, fd);
    enum page_state state = state_of(pages, page, now + page * pages->page_size);
    free(now);
    return state;
}

uint64_t pages_in_state(const struct pages *pages, int fd, enum page_state state)
{
    uint64_t count = 0;
    uint8_t *now = read_all(pages, fd);
    for (uint64_t page = 0; page < pages_count(pages); page++)
        count += state_of(pages, page, now + page * pages->page_size) == state;
    free(now);
    return count;
}

uint64_t pages_inverted_before(const struct pages *pages, int fd)
{
    uint64_t page = 0;
    uint8_t *now = read_all(pages, fd);
    while (page < pages_count(pages) &&
           state_of(pages, page, now + page * pages->page_size) == PAGE_INVERTED)
        page++;
    free(now);
    return page;
}

struct kr_bulk_result pages_must_run(const struct kr_bulk *bulk)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    if (kr_bulk_run(bulk, &result, &err) != KR_OK)
        fail_msg("%s", err.text);
    return result;
}
