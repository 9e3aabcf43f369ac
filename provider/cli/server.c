/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Running servers that a command is told of. */
#include "base/pin_source.h"
#include "cli.h"

enum kr_status cli_password_source(struct cli *cli, struct kr_pin_source **ret,
                                   struct kr_error *err)
{
    const char *source = cli->values[OPT_PASSWORD_SOURCE];

    if (cli->passwords.count > 1)
        return kr_fail(err, KR_USAGE, "option --password-source is given twice");
    if (source && !cli->server_password)
        KR_TRY(kr_pin_source_new(source, "Password of the server", &cli->server_password, err));
    *ret = cli->server_password;
    return KR_OK;
}

enum kr_status cli_connect(struct cli *cli, struct kr_server_conn **ret, struct kr_error *err)
{
    struct kr_server_options options = {.password = NULL};

    if (cli->servers.count != 1) {
        kr_fail(err, KR_USAGE,
                cli->servers.count ? "one --server is wanted, not %zu" : "no server is named",
                cli->servers.count);
        kr_hint(err, "--server=/run/mysqld/mysqld.sock, or an option file with a [client] group");
        return err->status;
    }
    KR_TRY(cli_password_source(cli, &options.password, err));
    return kr_server_connect(cli->servers.at[0], &options, ret, err);
}

void cli_warn_paused(struct cli *cli, const char *variable)
{
    cli_warn(cli, "the keyring is paused: %s is OFF", variable);
    cli_hint("SET GLOBAL %s = ON, or p11keyring migrate --repair, unless somebody is at work on it",
             variable);
}
