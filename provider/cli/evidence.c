/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What a command that destroys a key wants to see first: that no file needs it. */
#include <string.h>

#include "file_rows.h"

enum kr_status cli_check_evidence(const struct cli *cli, struct kr_keyring *keyring,
                                  const struct kr_usage_key *key, char ret_text[KR_EVIDENCE_TEXT],
                                  struct kr_error *err)
{
    const char *path = cli->values[OPT_EVIDENCE];
    bool without = cli_flag(cli, OPT_WITHOUT_EVIDENCE);

    if (path && without)
        return kr_fail(err, KR_USAGE, "--evidence and --without-evidence exclude each other");
    if (path)
        return kr_evidence_check(path, cli->config, keyring, key, ret_text, err);
    if (without) {
        snprintf(ret_text, KR_EVIDENCE_TEXT, "without evidence of use");
        return KR_OK;
    }
    kr_fail(err, KR_REFUSED, "nothing shows that no file or backup needs this key");
    kr_hint(err,
            "p11keyring usage DIR... -o FILE, of every place where encrypted files and backups "
            "lie, then --evidence FILE; or take it upon yourself: --without-evidence, which is "
            "recorded");
    return err->status;
}
