/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A core of a process that has a keyring open holds no PIN and no data key, raw or in hexadecimal
 * digits, and its log at the highest verbosity neither. The search first finds planted secrets.
 */
#include "keyring_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/log.h"

enum { SECRET_BYTES = 32 };

static char *planted_raw, *planted_hex; /* in the child's ordinary memory */

static void write_log(enum kr_log_level level, const char *message, void *context)
{
    dprintf(*(int *)context, "%d %s\n", (int)level, message);
}

/* The child: plants, opens the keyring with every message logged, says so, and waits. */
static void hold_keyring(struct keyring_fixture *f, const uint8_t *planted, int log, int ready)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_keyring *keyring = NULL;
    planted_raw = malloc(SECRET_BYTES);
    planted_hex = malloc(2 * SECRET_BYTES + 1);
    memcpy(planted_raw, planted, SECRET_BYTES);
    kr_hex_encode(planted, SECRET_BYTES, planted_hex);
    kr_log_set_sink(write_log, &log);
    if (kr_keyring_open(f->config, &keyring, &err) != KR_OK)
        _exit(1);
    if (write(ready, "x", 1) != 1)
        _exit(1);
    pause();
    _exit(kr_keyring_latest(keyring, 1) == 0);
}

/* A fresh address space, so that nothing of this test's own knowledge is in the core: the child
 * executes this program again. */
static pid_t start_holder(struct keyring_fixture *f, const uint8_t *planted, int log,
                          int *ret_ready)
{
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        char log_text[12], ready_text[12], planted_text[2 * SECRET_BYTES + 1];
        snprintf(log_text, sizeof(log_text), "%d", log);
        snprintf(ready_text, sizeof(ready_text), "%d", pipes[1]);
        kr_hex_encode(planted, SECRET_BYTES, planted_text);
        execl("/proc/self/exe", "test_core", f->config_path, log_text, ready_text, planted_text,
              NULL);
        _exit(1);
    }
    close(pipes[1]);
    *ret_ready = pipes[0];
    return child;
}

static void dump_core(pid_t pid, const char *prefix)
{
    char number[12];
    snprintf(number, sizeof(number), "%d", (int)pid);
    pid_t gcore = fork();
    if (gcore == 0) {
        int nowhere = open("/dev/null", O_RDWR);
        dup2(nowhere, 1);
        dup2(nowhere, 2);
        execlp("gcore", "gcore", "-o", prefix, number, NULL);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(gcore, &status, 0), gcore);
    assert_int_equal(status, 0);
}

/* How often the bytes, or their hexadecimal digits in either case, are in the file. */
static unsigned occurrences(const char *path, const uint8_t *secret, size_t len)
{
    char lower[2 * 64 + 1], upper[2 * 64 + 1];
    kr_hex_encode(secret, len, lower);
    for (size_t i = 0; i <= 2 * len; i++)
        upper[i] = lower[i] >= 'a' ? (char)(lower[i] - 'a' + 'A') : lower[i];
    int fd = open(path, O_RDONLY);
    struct stat st;
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    if (st.st_size == 0) {
        close(fd);
        return 0;
    }
    const uint8_t *core = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_ptr_not_equal(core, MAP_FAILED);
    const struct {
        const void *bytes;
        size_t len;
    } forms[] = {{secret, len}, {lower, 2 * len}, {upper, 2 * len}};
    unsigned found = 0;
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *at = core, *end = core + st.st_size;
        while ((at = memmem(at, (size_t)(end - at), forms[i].bytes, forms[i].len))) {
            found++;
            at++;
        }
    }
    munmap((void *)core, (size_t)st.st_size);
    close(fd);
    return found;
}

static void test_core_and_log_hold_no_secret(void **state)
{
    (void)state;
    static struct keyring_fixture f;
    uint8_t planted[SECRET_BYTES];
    char log_path[320], prefix[320], core_path[340], go;
    struct kr_error err = KR_ERROR_INIT;
    uint32_t version;
    keyring_fixture_up(&f);
    struct kr_keyring *keyring = keyring_fixture_open(&f);
    assert_int_equal(kr_keyring_create_key(keyring, 1, KR_CIPHER_AES_CBC, NULL, 0, &version, &err),
                     KR_OK);
    assert_int_equal(getentropy(planted, sizeof(planted)), 0);
    snprintf(log_path, sizeof(log_path), "%s/log", f.token.dir);
    snprintf(prefix, sizeof(prefix), "%s/core", f.token.dir);
    int log = open(log_path, O_RDWR | O_CREAT | O_APPEND, 0600), ready;

    pid_t child = start_holder(&f, planted, log, &ready);
    assert_int_equal(read(ready, &go, 1), 1);
    dump_core(child, prefix);
    snprintf(core_path, sizeof(core_path), "%s.%d", prefix, (int)child);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);

    const struct kr_data_key *key = kr_keyring_find(keyring, 1, 1);
    unsigned of_planted = occurrences(core_path, planted, sizeof(planted));
    print_message("planted secret found %u times\n", of_planted);
    assert_true(of_planted >= 2); /* raw and in digits */
    assert_int_equal(occurrences(core_path, key->bytes, key->len), 0);
    assert_int_equal(occurrences(core_path, key->bytes, 16), 0);
    assert_int_equal(occurrences(core_path, (uint8_t *)f.token.pin, strlen(f.token.pin)), 0);
    dprintf(log, "planted %s\n", f.token.pin);
    assert_int_equal(occurrences(log_path, (uint8_t *)f.token.pin, strlen(f.token.pin)), 1);
    assert_int_equal(occurrences(log_path, key->bytes, key->len), 0);
    kr_keyring_close(keyring);
    close(log);
    close(ready);
    keyring_fixture_down(&f);
}

int main(int argc, char **argv)
{
    if (argc == 5) {
        static struct keyring_fixture f;
        struct kr_error err = KR_ERROR_INIT;
        uint8_t planted[SECRET_BYTES];
        if (!kr_hex_decode(argv[4], 2 * sizeof(planted), planted) ||
            kr_config_load(argv[1], &f.config, &err) != KR_OK)
            return 1;
        hold_keyring(&f, planted, atoi(argv[2]), atoi(argv[3]));
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_core_and_log_hold_no_secret)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
