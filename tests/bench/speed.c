/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* `openssl speed`. */
#include "speed.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(bool ok)
{
    if (!ok) {
        fprintf(stderr, "bench: error: `openssl speed` failed\n");
        exit(1);
    }
}

/* Its last line ends in "1234.56k". */
double openssl_speed(const char *arguments)
{
    char command[128], line[256], last[256] = "";
    snprintf(command, sizeof(command), "openssl speed -seconds 1 -bytes 16384 %s 2>/dev/null",
             arguments);
    FILE *pipe = popen(command, "r");
    require(pipe != NULL);
    while (fgets(line, sizeof(line), pipe))
        memcpy(last, line, sizeof(last));
    require(pclose(pipe) == 0);
    const char *number = strrchr(last, ' ');
    require(number != NULL);
    return strtod(number, NULL) * 1000;
}
