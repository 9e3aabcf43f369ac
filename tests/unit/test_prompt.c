/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The PIN prompt, in a child with a terminal of its own. */
#include "base/pin_source.h"
#include "base/secret.h"
#include "scratch.h"

#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct terminal {
    pid_t child;
    int master;
    char shown[4096]; /* what the terminal showed */
    size_t shown_len;
};

enum { READ_THE_PIN = 0, READ_ANOTHER = 10, REFUSED = 11, NO_TERMINAL = 12, FAILED = 13 };

static int ask(const char *wanted)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_pin_source *source = NULL;
    char *pin = NULL;
    size_t len = 0;
    if (kr_pin_source_new("prompt", "PIN of the test token", &source, &err) != KR_OK)
        return FAILED;
    enum kr_status status = kr_pin_source_check(source, &err);
    if (status == KR_OK)
        status = kr_pin_source_read(source, &pin, &len, &err);
    int result = status == KR_REFUSED ? REFUSED : FAILED;
    if (status == KR_CONFIG && strstr(err.text, "no terminal"))
        result = NO_TERMINAL;
    if (status == KR_OK)
        result = strcmp(pin, wanted) == 0 ? READ_THE_PIN : READ_ANOTHER;
    kr_secret_free(pin);
    kr_pin_source_free(source);
    return result;
}

static volatile sig_atomic_t handled;

static void handle(int number)
{
    handled = number;
}

static void settle(void)
{
    struct timespec pause = {.tv_nsec = 2000000};
    nanosleep(&pause, NULL);
}

static bool echoes(const struct terminal *terminal)
{
    struct termios modes;
    assert_int_equal(tcgetattr(terminal->master, &modes), 0);
    return modes.c_lflag & ECHO;
}

static void show(struct terminal *terminal)
{
    ssize_t got = read(terminal->master, terminal->shown + terminal->shown_len,
                       sizeof(terminal->shown) - 1 - terminal->shown_len);
    if (got > 0)
        terminal->shown_len += (size_t)got;
}

/* Until the terminal has shown `text`; at most two seconds. */
static void await_text(struct terminal *terminal, const char *text)
{
    for (int i = 0; i < 1000 && !strstr(terminal->shown, text); i++) {
        settle();
        show(terminal);
    }
    assert_says(terminal->shown, text);
}

static void type(const struct terminal *terminal, const char *text)
{
    assert_int_equal(write(terminal->master, text, strlen(text)), strlen(text));
}

/* Starts a child that asks for the PIN, and waits until it has silenced the terminal. What was
 * typed before is shown, and is not part of the PIN. */
static void start_prompt(struct terminal *terminal, const char *wanted, bool with_handler)
{
    memset(terminal, 0, sizeof(*terminal));
    int gate[2];
    assert_int_equal(pipe(gate), 0);
    terminal->child = forkpty(&terminal->master, NULL, NULL, NULL);
    assert_true(terminal->child >= 0);
    if (terminal->child == 0) {
        char byte;
        signal(SIGUSR1, handle);
        signal(SIGINT, with_handler ? handle : SIG_DFL);
        close(gate[1]);
        if (read(gate[0], &byte, 1) != 0)
            _exit(FAILED);
        int result = ask(wanted);
        _exit(with_handler && handled != SIGINT ? FAILED : result);
    }
    close(gate[0]);
    assert_int_equal(fcntl(terminal->master, F_SETFL, O_NONBLOCK), 0);
    type(terminal, "visible\n");
    await_text(terminal, "visible");
    assert_true(echoes(terminal));
    close(gate[1]);
    await_text(terminal, "PIN of the test token: ");
    assert_false(echoes(terminal));
}

/* The child's wait status; its terminal must echo as before. */
static int end_prompt(struct terminal *terminal)
{
    int status = 0;
    assert_int_equal(waitpid(terminal->child, &status, 0), terminal->child);
    show(terminal);
    assert_true(echoes(terminal));
    close(terminal->master);
    return status;
}

static void type_pin(const struct terminal *terminal, const char *pin)
{
    type(terminal, pin);
    type(terminal, "\n");
}

static void a_prompt_reads_without_echo(void **state)
{
    (void)state;
    struct terminal terminal;
    char pin[SCRATCH_PIN_BYTES];
    scratch_pin(pin);
    start_prompt(&terminal, pin, false);
    type_pin(&terminal, pin);
    assert_int_equal(end_prompt(&terminal), READ_THE_PIN << 8);
    assert_says(terminal.shown, "visible");
    assert_null(strstr(terminal.shown, pin));
}

static void a_prompt_survives_other_signals(void **state)
{
    (void)state;
    struct terminal terminal;
    char pin[SCRATCH_PIN_BYTES];
    scratch_pin(pin);
    start_prompt(&terminal, pin, false);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kill(terminal.child, SIGUSR1), 0);
        settle();
    }
    type_pin(&terminal, pin);
    assert_int_equal(end_prompt(&terminal), READ_THE_PIN << 8);
}

static void ctrl_c_and_sigterm_restore_the_terminal(void **state)
{
    (void)state;
    struct terminal terminal;
    start_prompt(&terminal, "", false);
    type(&terminal, "12\x03");
    int status = end_prompt(&terminal);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGINT);
    start_prompt(&terminal, "", false);
    assert_int_equal(kill(terminal.child, SIGTERM), 0);
    status = end_prompt(&terminal);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
}

static void a_handled_interrupt_ends_the_prompt(void **state)
{
    (void)state;
    struct terminal terminal;
    start_prompt(&terminal, "", true);
    type(&terminal, "\x03");
    assert_int_equal(end_prompt(&terminal), REFUSED << 8);
}

static void an_endless_or_empty_line_is_no_pin(void **state)
{
    (void)state;
    struct terminal terminal;
    char lengthy[KR_PIN_MAX + 50];
    memset(lengthy, '1', sizeof(lengthy) - 1);
    lengthy[sizeof(lengthy) - 1] = '\0';
    const char *const lines[] = {"", "\x04", lengthy};
    for (size_t i = 0; i < 3; i++) {
        start_prompt(&terminal, "", false);
        type_pin(&terminal, lines[i]);
        assert_int_equal(end_prompt(&terminal), FAILED << 8);
    }
}

static int ask_without_terminal(void *argument)
{
    (void)argument;
    return setsid() < 0 ? FAILED : ask("");
}

static void a_prompt_needs_a_terminal(void **state)
{
    (void)state;
    assert_int_equal(scratch_in_child(ask_without_terminal, NULL), NO_TERMINAL << 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_reads_without_echo),
        cmocka_unit_test(a_prompt_survives_other_signals),
        cmocka_unit_test(ctrl_c_and_sigterm_restore_the_terminal),
        cmocka_unit_test(a_handled_interrupt_ends_the_prompt),
        cmocka_unit_test(an_endless_or_empty_line_is_no_pin),
        cmocka_unit_test(a_prompt_needs_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
