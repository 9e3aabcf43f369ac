/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* How the programs of the matrix get at their token. */
#include "access.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void require(enum kr_status status, const struct kr_error *err)
{
    if (status == KR_OK)
        return;
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, err->text);
    exit(1);
}

void take_arguments(int argc, char **argv, struct kr_token_options *ret)
{
    struct kr_error err = KR_ERROR_INIT;

    if (argc != 6) {
        fprintf(stderr, "usage: %s MODULE URI PIN-SOURCE GUARD INIT-ARGS\n",
                program_invocation_short_name);
        exit(2);
    }
    ret->module = argv[1];
    ret->uri = argv[2];
    ret->guard_path = argv[4];
    ret->quirks.init_args = argv[5][0] ? argv[5] : NULL;
    require(kr_pin_source_new(argv[3], "token", &ret->pin, &err), &err);
}
