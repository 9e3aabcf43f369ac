/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What innochecksum does, through the bulk pipeline, for innochecksum.sh:
 *
 *   scan_pages make MIB FILE        a file of pages that the innochecksum of both servers accepts
 *   scan_pages check THREADS FILE   exits with 1 and names the pages whose checksum is wrong
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hwaccel/bulk.h"
#include "innodb_page.h"

enum { PAGE = 16384 };

static enum kr_status make(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    (void)context;
    (void)err;
    for (unsigned i = 0; i < chunk->count; i++)
        innodb_page_make(chunk->pages[i], PAGE, chunk->first + i);
    return KR_OK;
}

static enum kr_status check(struct kr_bulk_chunk *chunk, void *context, struct kr_error *err)
{
    (void)err;
    for (unsigned i = 0; i < chunk->count; i++) {
        if (!innodb_page_ok(chunk->src[i], PAGE, chunk->first + i)) {
            fprintf(stderr, "page %llu is damaged\n", (unsigned long long)chunk->first + i);
            atomic_fetch_add((atomic_ullong *)context, 1);
        }
    }
    return KR_OK;
}

static int run(const struct kr_bulk *bulk)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bulk_result result;
    if (kr_bulk_run(bulk, &result, &err) == KR_OK)
        return 0;
    fprintf(stderr, "scan_pages: error: %s\n", err.text);
    return 2;
}

static int make_file(const char *name, uint64_t bytes)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) {
        perror(name);
        return 2;
    }
    return run(&(struct kr_bulk){.in = fd,
                                 .out = fd,
                                 .in_name = name,
                                 .out_name = name,
                                 .size = bytes,
                                 .page_size = PAGE,
                                 .work = make});
}

static int check_file(const char *name, unsigned threads)
{
    struct stat st;
    atomic_ullong damaged = 0;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        perror(name);
        return 2;
    }
    int rc = run(&(struct kr_bulk){.in = fd,
                                   .out = -1,
                                   .in_name = name,
                                   .size = (uint64_t)st.st_size / PAGE * PAGE,
                                   .page_size = PAGE,
                                   .threads = threads,
                                   .map = true,
                                   .work = check,
                                   .context = &damaged});
    return rc != 0 ? rc : damaged > 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "make") == 0)
        return make_file(argv[3], strtoull(argv[2], NULL, 10) << 20);
    if (argc == 4 && strcmp(argv[1], "check") == 0)
        return check_file(argv[3], (unsigned)strtoul(argv[2], NULL, 10));
    fprintf(stderr, "usage: scan_pages make MIB FILE | scan_pages check THREADS FILE\n");
    return 2;
}
