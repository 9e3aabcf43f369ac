/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* p11keyring, the admin tool. */
#include <errno.h>
#include <string.h>

#include "cli.h"

/* --help wins over everything; what stands before it says what is explained. */
static int show_help(const struct cli *cli)
{
    const char *noun = cli->arg_count > 0 ? cli->args[0] : NULL;
    const char *verb = cli->arg_count > 1 ? cli->args[1] : NULL;

    if (!cli_help(stdout, noun, verb) && !cli_help(stdout, noun, NULL))
        cli_help(stdout, NULL, NULL);
    return 0;
}

/* A result that could not be written is no success, whatever was done. */
static int flush_output(int code)
{
    int failed = fflush(stdout) != 0 || ferror(stdout);

    if (!failed)
        return code;
    if (errno != EPIPE)
        fprintf(stderr, "p11keyring: error: cannot write the result: %s\n", strerror(errno));
    return code == 0 ? cli_exit_code(KR_IO) : code;
}

int main(int argc, char **argv)
{
    struct kr_error err = KR_ERROR_INIT;
    struct cli cli = {0};
    enum kr_status status;

    cli_harden_process();
    status = cli_parse(&cli, argc, argv, &err);
    if (status == KR_OK && cli_flag(&cli, OPT_HELP))
        return flush_output(show_help(&cli));
    cli_log_to_stderr(cli_flag(&cli, OPT_VERBOSE));
    if (status == KR_OK)
        status = cli.command->run(&cli, &err);
    if (status != KR_OK)
        cli_error(&cli, &err);
    kr_pin_source_free(cli.server_password);
    kr_config_free(cli.config);
    return flush_output(status == KR_OK ? cli.exit_code : cli_exit_code(status));
}
