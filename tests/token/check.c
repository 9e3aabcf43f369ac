/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the tests of the pkcs11 layer share. */
#include "check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

void check_ok(enum kr_status status, const struct kr_error *err, const char *call, const char *file,
              int line)
{
    if (status == KR_OK)
        return;
    print_error("%s: %s: %s (hint: %s)\n", call, kr_status_name(status), err->text, err->hint);
    _fail(file, line);
}

_Noreturn void child_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: in a child process: not so: %s\n", file, line, what);
    _exit(1);
}

int mock_apart(void **state)
{
    int rc = scratch_up(state);

    mock_setup(scratch_path("."));
    return rc;
}

struct kr_pin_source *check_pin_source(const char *spec)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *source = NULL;

    if (kr_pin_source_new(spec, "test token", &source, &err) != KR_OK) {
        fprintf(stderr, "%s: %s\n", spec, err.text);
        abort();
    }
    return source;
}

struct kr_token_options check_options(const struct fixture *f, const char *module,
                                      unsigned timeout_ms)
{
    static struct kr_pin_source *sources[256];
    static size_t count;
    struct kr_pin_source *pin;
    char spec[400];

    snprintf(spec, sizeof(spec), "file:%s", f->pin_file);
    pin = check_pin_source(spec);
    assert_true(count < sizeof(sources) / sizeof(sources[0]));
    sources[count++] = pin;
    return (struct kr_token_options){
        .module = module ? module : f->module,
        .uri = f->uri,
        .pin = pin,
        .guard_path = f->guard,
        .timeout_ms = timeout_ms,
        .lock_timeout_ms = 5000,
    };
}

void check_write_pin(const struct fixture *f, const char *pin)
{
    char path[400];
    int fd;

    snprintf(path, sizeof(path), "%s.new", f->pin_file);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, pin, strlen(pin)), strlen(pin));
    close(fd);
    assert_int_equal(rename(path, f->pin_file), 0);
}

void check_together(int n, int (*body)(void *), void *argument, int *ret_codes)
{
    pid_t children[16];
    int start[2], status;
    char byte;

    assert_true(n <= 16 && pipe(start) == 0);
    for (int i = 0; i < n; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] > 0)
            continue;
        close(start[1]);
        (void)!read(start[0], &byte, 1); /* until the parent closes its end */
        _exit(body(argument));
    }
    close(start[0]);
    close(start[1]);
    for (int i = 0; i < n; i++) {
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        ret_codes[i] = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
}

enum kr_status check_round_trip(struct kr_token *token, const struct kr_object_id *master,
                                uint8_t tag, struct kr_error *err)
{
    uint8_t key[KR_SEALING_KEY_BYTES] = {tag, 2, 3}, back[KR_SEALING_KEY_BYTES] = {0};
    uint8_t wrapped[KR_WRAPPED_MAX];
    size_t len = 0;

    KR_TRY(kr_master_wrap(token, master, KR_WRAP_AES_GCM, key, wrapped, &len, err));
    KR_TRY(kr_master_unwrap(token, master, KR_WRAP_AES_GCM, wrapped, len, back, err));
    return memcmp(key, back, sizeof(key)) == 0 ? KR_OK
                                               : kr_fail(err, KR_INTERNAL, "another key came back");
}

struct kr_token_stats check_stats(const struct kr_token *token)
{
    struct kr_token_stats stats;

    kr_token_get_stats(token, &stats);
    return stats;
}

size_t check_count_keys(struct kr_token *token)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_master_info *list = NULL;
    size_t count;

    assert_ok(kr_master_list(token, &list, &count, &err));
    free(list);
    return count;
}

int check_pkcs11_tool(const struct fixture *f, const char *arguments)
{
    char command[1024];
    int status;

    setenv("P11K_TEST_PIN", f->pin, 1);
    snprintf(command, sizeof(command),
             "pkcs11-tool --module %s --token-label %s --login --pin env:P11K_TEST_PIN %s "
             ">%s/pkcs11-tool.log 2>&1",
             f->module, f->label, arguments, f->dir);
    status = system(command);
    unsetenv("P11K_TEST_PIN");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void check_wait_for_workers(void)
{
    struct stat st;

    for (int i = 0; i < 200 && stat("/proc/self/task", &st) == 0 && st.st_nlink > 3; i++)
        usleep(10000);
}
