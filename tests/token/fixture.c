/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The private SoftHSM2 token. Tokens are made through the raw module in a forked child, so that the
 * test's own process has not touched the module before the code under test does.
 */
#include "fixture.h"

#include "base/hex.h"

#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what, ok)                                                                            \
    do {                                                                                           \
        if (!(ok))                                                                                 \
            fail(what, __LINE__);                                                                  \
    } while (0)

static _Noreturn void fail(const char *what, int line)
{
    fprintf(stderr, "fixture.c:%d: %s\n", line, what);
    abort();
}

static void random_pin(char *ret, size_t size)
{
    uint8_t bytes[16];

    CHECK("PIN buffer", size == 2 * sizeof(bytes) + 1);
    CHECK("getentropy", getentropy(bytes, sizeof(bytes)) == 0);
    kr_hex_encode(bytes, sizeof(bytes), ret);
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    CHECK(path, fd >= 0);
    CHECK(path, write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(path, close(fd) == 0);
}

static void make_folder(struct fixture *f)
{
    const char *tmp = getenv("TMPDIR");
    char path[320], text[512];

    snprintf(f->dir, sizeof(f->dir), "%s/p11k-test-XXXXXX", tmp ? tmp : "/tmp");
    CHECK("mkdtemp", mkdtemp(f->dir));
    snprintf(path, sizeof(path), "%s/tokens", f->dir);
    CHECK(path, mkdir(path, 0700) == 0);
    snprintf(text, sizeof(text),
             "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n"
             "slots.removable = false\n",
             path);
    snprintf(path, sizeof(path), "%s/softhsm2.conf", f->dir);
    write_file(path, text);
    setenv("SOFTHSM2_CONF", path, 1);
}

static const char *find_softhsm(void)
{
    static const char *const places[] = {
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
    };

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (access(places[i], R_OK) == 0)
            return places[i];
    fail("SoftHSM2 is not installed: apt-get install softhsm2", __LINE__);
}

/* A parent that uses the module has left the child a copy of its state: that is ended first. */
static CK_FUNCTION_LIST *initialise_module(const char *module)
{
    void *handle = dlopen(module, RTLD_NOW | RTLD_LOCAL);
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_FUNCTION_LIST *p11 = NULL;
    CK_C_GetFunctionList get_list;
    CK_RV rv;

    CHECK(module, handle);
    *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    CHECK("C_GetFunctionList", get_list && get_list(&p11) == CKR_OK);
    rv = p11->C_Initialize(&args);
    if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED) {
        p11->C_Finalize(NULL);
        rv = p11->C_Initialize(&args);
    }
    CHECK("C_Initialize", rv == CKR_OK);
    return p11;
}

static CK_SLOT_ID free_slot(CK_FUNCTION_LIST *p11)
{
    CK_SLOT_ID slots[64];
    CK_ULONG count = sizeof(slots) / sizeof(slots[0]);
    CK_TOKEN_INFO info;

    CHECK("C_GetSlotList", p11->C_GetSlotList(CK_TRUE, slots, &count) == CKR_OK);
    for (CK_ULONG i = 0; i < count; i++)
        if (p11->C_GetTokenInfo(slots[i], &info) == CKR_OK && !(info.flags & CKF_TOKEN_INITIALIZED))
            return slots[i];
    fail("no free slot", __LINE__);
}

static void make_token(const struct fixture *f, const char *label)
{
    CK_FUNCTION_LIST *p11 = initialise_module(f->module);
    CK_SLOT_ID slot = free_slot(p11);
    CK_UTF8CHAR *so_pin = (CK_UTF8CHAR *)f->so_pin, *pin = (CK_UTF8CHAR *)f->pin;
    CK_UTF8CHAR padded[32];
    CK_SESSION_HANDLE session;

    CHECK("token label", strlen(label) <= sizeof(padded));
    memset(padded, ' ', sizeof(padded));
    memcpy(padded, label, strlen(label));
    CHECK("C_InitToken", p11->C_InitToken(slot, so_pin, strlen(f->so_pin), padded) == CKR_OK);
    CHECK("C_OpenSession", p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                              &session) == CKR_OK);
    CHECK("C_Login", p11->C_Login(session, CKU_SO, so_pin, strlen(f->so_pin)) == CKR_OK);
    CHECK("C_InitPIN", p11->C_InitPIN(session, pin, strlen(f->pin)) == CKR_OK);
    CHECK("C_Finalize", p11->C_Finalize(NULL) == CKR_OK);
}

void fixture_add_token(struct fixture *f, const char *label)
{
    int status;
    pid_t pid = fork();

    CHECK("fork", pid >= 0);
    if (pid == 0) {
        make_token(f, label);
        _exit(0);
    }
    CHECK("waitpid", waitpid(pid, &status, 0) == pid);
    CHECK("making the token", WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void fixture_up(struct fixture *f, const char *label)
{
    memset(f, 0, sizeof(*f));
    make_folder(f);
    snprintf(f->module, sizeof(f->module), "%s", find_softhsm());
    setenv("P11K_MOCK_MODULE", f->module, 1);
    snprintf(f->label, sizeof(f->label), "%s", label);
    snprintf(f->uri, sizeof(f->uri), "pkcs11:token=%s", label);
    random_pin(f->pin, sizeof(f->pin));
    random_pin(f->so_pin, sizeof(f->so_pin));
    snprintf(f->pin_file, sizeof(f->pin_file), "%s/pin", f->dir);
    write_file(f->pin_file, f->pin);
    snprintf(f->guard, sizeof(f->guard), "%s/keystore.db.pin-guard", f->dir);
    snprintf(f->keystore, sizeof(f->keystore), "%s/keystore.db", f->dir);
    fixture_add_token(f, label);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void fixture_down(struct fixture *f)
{
    if (f->dir[0])
        nftw(f->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    f->dir[0] = '\0';
}

struct kr_token *fixture_token(struct fixture *f, const char *module,
                               struct kr_pin_source **ret_pin)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *pin = NULL;
    struct kr_token *token = NULL;
    struct kr_token_options options = {
        .module = module ? module : f->module,
        .uri = f->uri,
        .guard_path = f->guard,
        .timeout_ms = 5000,
        .lock_timeout_ms = 5000,
    };
    char spec[336];

    snprintf(spec, sizeof(spec), "file:%s", f->pin_file);
    CHECK(err.text, kr_pin_source_new(spec, "test token", &pin, &err) == KR_OK);
    options.pin = pin;
    CHECK(err.text, kr_token_open(&options, &token, &err) == KR_OK);
    *ret_pin = pin;
    return token;
}
