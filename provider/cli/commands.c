/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The table of commands and the table of options. */
#include "cli.h"

const struct cli_option_spec cli_options[OPT_COUNT] = {
    [OPT_HELP] = {"help", 'h', NULL, "show this help"},
    [OPT_CONFIG] = {"config", 'c', "FILE", "configuration file"},
    [OPT_MODULE] = {"module", 0, "PATH", "PKCS#11 module, instead of the configured one"},
    [OPT_TOKEN_URI] = {"token-uri", 0, "URI", "token (RFC 7512), instead of the configured one"},
    [OPT_PIN_SOURCE] = {"pin-source", 0, "SOURCE",
                        "file:PATH, cred:NAME, env:NAME, fd:N or prompt; never a PIN"},
    [OPT_KEYSTORE] = {"keystore", 0, "PATH", "keystore, instead of the configured one"},
    [OPT_JSON] = {"json", 0, NULL, "print JSON"},
    [OPT_VERBOSE] = {"verbose", 'v', NULL, "say on stderr what is done"},
    [OPT_DRY_RUN] = {"dry-run", 'n', NULL, "check everything, change nothing"},
    [OPT_YES] = {"yes", 0, NULL, "do not ask for confirmation"},
    [OPT_LABEL] = {"label", 0, "LABEL", "label of the new token, at most 32 bytes"},
    [OPT_SLOT] = {"slot", 0, "N", "slot to use (default: the first with an uninitialised token)"},
    [OPT_SO_PIN_SOURCE] = {"so-pin-source", 0, "SOURCE", "where the security officer's PIN is"},
    [OPT_CIPHER] = {"cipher", 0, "CIPHER", "aes-cbc or aes-ctr, instead of the configured one"},
    [OPT_IMPORT] = {"import-hex-from", 0, "FILE",
                    "take the key from FILE ('-': stdin): hexadecimal digits alone, or the line\n"
                    "`ID;digits` of a file_key_management key file"},
    [OPT_TOKEN] = {"token", 0, "NAME", "the token of the section [token:NAME]"},
    [OPT_TO] = {"to", 0, "NAME", "the new token, of the section [token:NAME]"},
    [OPT_CONFIRM] = {"confirm", 0, "NAME", "the name that has to be typed otherwise"},
    [OPT_PROGRESS] = {"progress", 0, "HOW", "auto, line, json or none (on stderr)"},
    [OPT_ALL] = {"all", 0, NULL, "every key that is not disabled"},
    [OPT_SERVER_CONFIG] = {"server-config", 0, "FILE", "the server's option file"},
    [OPT_USER] = {"user", 0, "USER", "the user that the server runs as"},
};

const unsigned cli_global_options =
    CLI_BIT(OPT_HELP) | CLI_BIT(OPT_CONFIG) | CLI_BIT(OPT_MODULE) | CLI_BIT(OPT_TOKEN_URI) |
    CLI_BIT(OPT_PIN_SOURCE) | CLI_BIT(OPT_KEYSTORE) | CLI_BIT(OPT_JSON) | CLI_BIT(OPT_VERBOSE);

#define WRITER CLI_BIT(OPT_DRY_RUN)

const struct cli_command cli_commands[] = {
    {"token", "init", NULL, "initialise an empty token and set its PINs",
     WRITER | CLI_BIT(OPT_LABEL) | CLI_BIT(OPT_SLOT) | CLI_BIT(OPT_SO_PIN_SOURCE), 0, 0,
     cli_run_token_init},
    {"token", "list", NULL, "list the tokens of the module", 0, 0, 0, cli_run_token_list},
    {"token", "info", NULL, "show the configured token, its mechanisms and the PIN guard", 0, 0, 0,
     cli_run_token_info},
    {"token", "unguard", NULL, "allow logins again after a refused PIN", WRITER, 0, 0,
     cli_run_token_unguard},
    {"doctor", NULL, NULL, "check everything and say what to do about it",
     CLI_BIT(OPT_SERVER_CONFIG) | CLI_BIT(OPT_USER), 0, 0, cli_run_doctor},
    {"master", "create", NULL,
     "make a master key in each token, and the keystore; or in one more token",
     WRITER | CLI_BIT(OPT_TOKEN) | CLI_BIT(OPT_CONFIRM) | CLI_BIT(OPT_PROGRESS), 0, 0,
     cli_run_master_create},
    {"master", "list", NULL, "list the master keys of keystore and token", 0, 0, 0,
     cli_run_master_list},
    {"master", "adopt", "URI", "make the keystore around a master key that the token has",
     WRITER | CLI_BIT(OPT_CONFIRM), 1, 1, cli_run_master_adopt},
    {"master", "rotate", NULL, "make new master keys and wrap every envelope for them, or resume",
     WRITER | CLI_BIT(OPT_TOKEN) | CLI_BIT(OPT_PROGRESS), 0, 0, cli_run_master_rotate},
    {"master", "retire", "LABEL|ID", "destroy an old master key that nothing needs any more",
     WRITER | CLI_BIT(OPT_TOKEN) | CLI_BIT(OPT_CONFIRM) | CLI_BIT(OPT_PROGRESS), 1, 1,
     cli_run_master_retire},
    {"keyring", "accept", NULL, "use a keystore that is older than the tokens remember, or another",
     WRITER | CLI_BIT(OPT_CONFIRM), 0, 0, cli_run_keyring_accept},
    {"keyring", "sync", NULL, "wrap what is not up to date for every current master key",
     WRITER | CLI_BIT(OPT_PROGRESS), 0, 0, cli_run_keyring_sync},
    {"keyring", "move", NULL, "wrap everything for a master key in another token alone",
     WRITER | CLI_BIT(OPT_TO) | CLI_BIT(OPT_YES) | CLI_BIT(OPT_PROGRESS), 0, 0,
     cli_run_keyring_move},
    {"key", "create", "ID", "make a data key", WRITER | CLI_BIT(OPT_CIPHER) | CLI_BIT(OPT_IMPORT),
     1, 1, cli_run_key_create},
    {"key", "list", NULL, "list the data keys", 0, 0, 0, cli_run_key_list},
    {"key", "show", "ID", "show the versions of a data key (never its bytes)", 0, 1, 1,
     cli_run_key_show},
    {"key", "rotate", "ID|--all", "give data keys a new version",
     WRITER | CLI_BIT(OPT_CIPHER) | CLI_BIT(OPT_ALL) | CLI_BIT(OPT_YES), 0, 1, cli_run_key_rotate},
    {"key", "disable", "ID", "allow a data key no new versions", WRITER, 1, 1, cli_run_key_disable},
    {"key", "enable", "ID", "allow it new versions again", WRITER, 1, 1, cli_run_key_enable},
    {"status", NULL, NULL, "show keystore, token and keys", 0, 0, 0, cli_run_status},
    {"completion", "bash", NULL, "print a completion script for bash", 0, 0, 0, cli_run_completion},
    {"version", NULL, NULL, "print the version", 0, 0, 0, cli_run_version},
    {"help", NULL, "[COMMAND]", "show help", 0, 0, 2, cli_run_help},
    {0},
};
