/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Looks for bytes in files and in the memory of processes:
 *
 *   find_bytes HEX PLACE...         raw, and written as hex digits of either case
 *   find_bytes -n MORE HEX PLACE... raw, and prints the MORE bytes that follow, too
 *
 * A PLACE is a file, or a number: the writable memory of a process. One line for each find: the
 * place, and the bytes in hex. Fails when it can read a place not at all.
 */
#include <ctype.h>
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, LONGEST = 256 };

static struct pattern {
    uint8_t bytes[LONGEST];
    size_t len;
} patterns[3];
static size_t pattern_count, more;

static void take_hex(const char *hex, struct pattern *ret)
{
    size_t digits = strlen(hex);
    if (digits == 0 || digits % 2 || digits / 2 > LONGEST / 2)
        errx(2, "not the hex digits of 1 to %d bytes", LONGEST / 2);
    for (size_t i = 0; i < digits / 2; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            errx(2, "not hex digits");
        ret->bytes[i] = (uint8_t)byte;
    }
    ret->len = digits / 2;
}

static void take_digits(const char *hex, int (*to_case)(int), struct pattern *ret)
{
    ret->len = strlen(hex);
    for (size_t i = 0; i < ret->len; i++)
        ret->bytes[i] = (uint8_t)to_case(hex[i]);
}

static void report(const char *place, const uint8_t *bytes, size_t len)
{
    printf("%s ", place);
    for (size_t i = 0; i < len; i++)
        printf("%02x", bytes[i]);
    putchar('\n');
}

static void search(const char *place, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < pattern_count; i++) {
        const struct pattern *pattern = &patterns[i];
        const uint8_t *at = bytes;
        while ((at = memmem(at, len - (size_t)(at - bytes), pattern->bytes, pattern->len))) {
            if ((size_t)(bytes + len - at) >= pattern->len + more)
                report(place, at, pattern->len + more);
            at++;
        }
    }
}

/* From `from` to `to`, in chunks that overlap by less than what is looked for. */
static bool search_range(const char *place, int fd, off_t from, off_t to)
{
    static uint8_t buffer[CHUNK + 2 * LONGEST];
    size_t kept = 0, overlap = patterns[pattern_count - 1].len + more - 1;
    bool any = false;
    while (from < to) {
        size_t wanted = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
        ssize_t got = pread(fd, buffer + kept, wanted, from);
        if (got <= 0)
            break;
        any = true;
        size_t len = kept + (size_t)got;
        search(place, buffer, len);
        kept = len < overlap ? len : overlap;
        memmove(buffer, buffer + len - kept, kept);
        from += got;
    }
    return any;
}

static bool search_process(const char *pid)
{
    char path[64], line[512];
    bool any = false;
    snprintf(path, sizeof(path), "/proc/%s/mem", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/%s/maps", pid);
    FILE *maps = fopen(path, "re");
    while (fd >= 0 && maps && fgets(line, sizeof(line), maps)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx", &from, &to) == 2 && strstr(line, " rw"))
            any = search_range(pid, fd, (off_t)from, (off_t)to) || any;
    }
    if (maps)
        fclose(maps);
    if (fd >= 0)
        close(fd);
    return any;
}

static bool search_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    off_t size = lseek(fd, 0, SEEK_END);
    bool read_it = size == 0 || search_range(path, fd, 0, size);
    close(fd);
    return read_it;
}

int main(int argc, char **argv)
{
    int rc = 0, option;
    while ((option = getopt(argc, argv, "n:")) == 'n')
        more = strtoul(optarg, NULL, 10);
    if (option != -1 || argc - optind < 2 || more > LONGEST)
        errx(2, "usage: find_bytes [-n MORE] HEX PLACE...");
    const char *hex = argv[optind];
    take_hex(hex, &patterns[pattern_count++]);
    if (more == 0) {
        take_digits(hex, tolower, &patterns[pattern_count++]);
        take_digits(hex, toupper, &patterns[pattern_count++]);
    }
    for (int i = optind + 1; i < argc; i++) {
        bool is_process = argv[i][strspn(argv[i], "0123456789")] == '\0';
        if (is_process ? search_process(argv[i]) : search_file(argv[i]))
            continue;
        warnx("cannot read %s", argv[i]);
        rc = 1;
    }
    return rc;
}
