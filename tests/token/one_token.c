/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A connection to the token of mock_fixture.h, for all tests of a program. */
#include "one_token.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct kr_token *token;

int token_up(void **state)
{
    mock_up(state);
    token_reconnect();
    return 0;
}

int token_down(void **state)
{
    kr_token_close(token);
    return mock_down(state);
}

void token_reconnect(void)
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, 20000);
    struct kr_error err = KR_ERROR_INIT;

    mock_rules("%s", "");
    kr_token_close(token);
    token = NULL;
    assert_ok(kr_token_open(&options, &token, &err));
}

static _Noreturn void run_child(void (*body)(struct kr_token *mine))
{
    struct kr_token_options options = check_options(&f, P11K_MOCK, 60000);
    struct kr_error err = KR_ERROR_INIT;
    struct kr_token *mine = NULL;

    MUST(kr_token_open(&options, &mine, &err) == KR_OK);
    body(mine);
    child_fail("it hangs", __FILE__, __LINE__);
}

void kill_in(const char *name, void (*body)(struct kr_token *mine))
{
    const uint64_t before = mock_calls(name);
    int status = 0;
    pid_t pid;

    mock_rules("hang %s\n", name);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        run_child(body);
    while (mock_calls(name) == before) {
        assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
        usleep(1000);
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    mock_rules("%s", "");
}
