/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* doctor: what the server's option files say, and what it does with a key. */
#include "doctor.h"

#include <string.h>

#define OUR_PLUGIN "pkcs11_key_management"

/* Plugins that bring keys of their own: a server takes one (ERROR 1123 for a second). */
static const char *const other_plugins[] = {
    "file_key_management",
    "hashicorp_key_management",
    "aws_key_management",
    "example_key_management",
    "debug_key_management",
    "keyring_file",
    "keyring_encrypted_file",
    "keyring_okv",
    "keyring_vault",
    "keyring_hashicorp",
    "keyring_aws",
    "keyring_oci",
};

/* Whether a plugin-load option's value names `plugin`, as plugin or as library. */
static bool loads(const char *value, const char *plugin)
{
    size_t len = strlen(plugin);

    for (const char *p = value; (p = strstr(p, plugin)); p += len) {
        bool starts = p == value || strchr(";:=,/", p[-1]);
        if (starts && (p[len] == '\0' || strchr(";:=,.", p[len])))
            return true;
    }
    return false;
}

static bool server_loads(const struct server_options *options, const char *plugin)
{
    for (size_t i = 0; i < options->count; i++) {
        const char *line = options->lines[i];
        const char *value = strchr(line, '=');
        if (value &&
            (strncmp(line, "plugin-load", 11) == 0 ||
             strncmp(line, "early-plugin-load", 17) == 0) &&
            loads(value + 1, plugin))
            return true;
    }
    return false;
}

void doctor_other_keyrings(struct doctor *doctor, struct finding *finding)
{
    const char *other = NULL;
    bool ours = server_loads(&doctor->server, OUR_PLUGIN);

    for (size_t i = 0; i < sizeof other_plugins / sizeof *other_plugins && !other; i++)
        if (server_loads(&doctor->server, other_plugins[i]))
            other = other_plugins[i];
    if (doctor->server.count == 0) {
        doctor_skip(finding, "the server's options are not known: --server-config FILE");
    } else if (ours && other) {
        doctor_fail(finding, KR_CONFIG, "the server loads both " OUR_PLUGIN " and %s", other);
        doctor_fix(finding,
                   "take %s out of the server's option files: a server has one keyring, "
                   "and which of two it takes is chance",
                   other);
    } else if (ours) {
        doctor_ok(finding, OUR_PLUGIN " is the only keyring that the server loads");
    } else {
        doctor_ok(finding, "the option files load no " OUR_PLUGIN "%s%s", other ? " but " : "",
                  other ? other : "");
    }
}

void doctor_core_files(struct doctor *doctor, struct finding *finding)
{
    const char *core = server_option(&doctor->server, "core-file");

    if (doctor->server.count == 0) {
        doctor_skip(finding, "the server's options are not known: --server-config FILE");
    } else if (!core || strcasecmp(core, "off") == 0 || strcmp(core, "0") == 0) {
        doctor_ok(finding, "the server does not ask for core files");
        doctor_fix(finding, "LimitCORE=0 in its systemd unit makes sure: the server keeps copies "
                            "of keys of its own");
    } else {
        doctor_warn(finding, "the server has core-file: a core holds its copies of keys");
        doctor_fix(finding, "remove core-file, and set LimitCORE=0 in its systemd unit");
    }
}

enum { SYSTEM_KEY = 1 };

/* docs/THREAT-MODEL.md, "What page encryption itself does not give". */
void doctor_cipher_of_key_1(struct doctor *doctor, struct finding *finding)
{
    uint32_t version = doctor->keyring ? kr_keyring_latest(doctor->keyring, SYSTEM_KEY) : 0;

    if (version == 0) {
        doctor_skip(finding, "no key 1 of MariaDB's");
        return;
    }
    enum kr_cipher cipher = kr_keyring_find(doctor->keyring, SYSTEM_KEY, version)->cipher;
    if (kr_cipher_base(cipher) == KR_CIPHER_AES_CBC) {
        doctor_ok(finding, "key 1, of MariaDB's logs, has %s", kr_cipher_name(cipher));
        return;
    }
    doctor_warn(finding,
                "key 1 has %s, and MariaDB repeats ivs in what it encrypts with it: redo "
                "log, sort files, binary log",
                kr_cipher_name(cipher));
    doctor_fix(finding, "p11keyring key rotate 1 --cipher aes256-cbc; tables may have CTR with a "
                        "key of their own: \"Which cipher\" in docs/USAGE-mariadb.md");
}
