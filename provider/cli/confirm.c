/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Consent to what cannot be taken back: a name is typed, or given with --confirm. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static bool typed(const char *name, const char *question)
{
    char line[256];

    if (!isatty(STDIN_FILENO))
        return false;
    fprintf(stderr, "%s\nType %s to go on: ", question, name);
    if (!fgets(line, sizeof line, stdin))
        return false;
    line[strcspn(line, "\n")] = '\0';
    return strcmp(line, name) == 0;
}

enum kr_status cli_confirm_name(const struct cli *cli, const char *name, const char *question,
                                const char *what, struct kr_error *err)
{
    const char *given = cli->values[OPT_CONFIRM];

    if (given ? strcmp(given, name) == 0 : typed(name, question))
        return KR_OK;
    kr_fail(err, KR_REFUSED, "%s was not confirmed by its name", what);
    kr_hint(err, "type '%s' when asked, or give it: --confirm %s", name, name);
    return KR_REFUSED;
}
