/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The process: hardening, configuration, and whom it acts as.
 *
 * As root the tool goes on as the keystore's owner. Everything then made, by us, by SQLite or by
 * the module itself (SoftHSM2's object files), belongs to the user that the server runs as, also
 * after a kill at any moment; and root follows no link in a folder that the server may write to.
 */
#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "cli.h"

void cli_harden_process(void)
{
    const struct rlimit no_core = {0, 0};

    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    setrlimit(RLIMIT_CORE, &no_core);
    umask(077);
    signal(SIGPIPE, SIG_IGN); /* p11-kit's remote client would be killed by it */
}

/* Who the keystore belongs to, or will: its directory's owner. */
static bool keystore_owner(const char *keystore, struct stat *ret)
{
    char *copy;
    bool found;

    if (stat(keystore, ret) == 0)
        return true;
    copy = strdup(keystore);
    found = copy && stat(dirname(copy), ret) == 0;
    free(copy);
    return found;
}

/* Of root's rights keeps reading (PIN and key files that only root may read) and locking memory,
 * as far as we have them. */
static void keep_reading(void)
{
    const unsigned keep = 1u << CAP_DAC_READ_SEARCH | 1u << CAP_IPC_LOCK;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};

    if (syscall(SYS_capget, &header, data) != 0)
        return;
    data[0].permitted &= keep;
    data[0].effective = data[0].permitted;
    data[0].inheritable = 0;
    memset(&data[1], 0, sizeof data[1]);
    syscall(SYS_capset, &header, data);
}

enum kr_status cli_act_as(uid_t uid, gid_t gid, struct kr_error *err)
{
    const struct passwd *user = getpwuid(uid);
    int groups = user ? initgroups(user->pw_name, user->pw_gid) : setgroups(1, &gid);

    if (user)
        gid = user->pw_gid;
    if (groups != 0 || setresgid(gid, gid, gid) != 0 || prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 ||
        setresuid(uid, uid, uid) != 0)
        return kr_fail(err, KR_IO, "cannot act as uid %u: %s", (unsigned)uid, strerror(errno));
    keep_reading();
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* changing the uid may have set it */
    if (user) /* a module must find the same per-user configuration as in the server */
        setenv("HOME", user->pw_dir, 1);
    kr_log(KR_LOG_DEBUG, "acting as %s (uid %u), who owns the keyring",
           user ? user->pw_name : "its owner", (unsigned)uid);
    return KR_OK;
}

static enum kr_status become_keystore_owner(const char *keystore, struct kr_error *err)
{
    struct stat st;

    if (geteuid() != 0 || !keystore || !keystore_owner(keystore, &st) || st.st_uid == 0)
        return KR_OK;
    return cli_act_as(st.st_uid, st.st_gid, err);
}

static enum kr_status apply_options(const struct cli *cli, struct kr_config *config,
                                    struct kr_error *err)
{
    static const struct {
        enum cli_option option;
        const char *section, *name;
    } map[] = {
        {OPT_MODULE, "token", "module"},
        {OPT_TOKEN_URI, "token", "uri"},
        {OPT_PIN_SOURCE, "token", "pin-source"},
        {OPT_KEYSTORE, "keyring", "keystore"},
    };

    for (size_t i = 0; i < sizeof map / sizeof *map; i++) {
        const char *value = cli->values[map[i].option];
        if (!value)
            continue;
        if (kr_config_override(config, map[i].section, map[i].name, value, err) == KR_OK)
            continue;
        err->status = KR_USAGE;
        kr_error_context(err, "option --%s", cli_options[map[i].option].name);
        return KR_USAGE;
    }
    return KR_OK;
}

static void log_config(const struct kr_config *config)
{
    kr_log(KR_LOG_DEBUG, "configuration %s: keyring '%s', keystore %s, token %s, module %s",
           config->path ? config->path : "(options alone)", config->keyring.name,
           config->keyring.keystore ? config->keyring.keystore : "(none)",
           config->tokens[0].uri ? config->tokens[0].uri : "(none)",
           config->tokens[0].module ? config->tokens[0].module : "(none)");
}

enum kr_status cli_read_config(const struct cli *cli, struct kr_config **ret, struct kr_error *err)
{
    KR_CONFIG_OWNED struct kr_config *config = NULL;

    KR_TRY(kr_config_load(cli->values[OPT_CONFIG], &config, err));
    KR_TRY(apply_options(cli, config, err));
    kr_secret_set_policy(config->keyring.lock_memory);
    log_config(config);
    *ret = config;
    config = NULL;
    return KR_OK;
}

enum kr_status cli_load_config(struct cli *cli, struct kr_error *err)
{
    kr_audit_remember_user();
    KR_TRY(cli_read_config(cli, &cli->config, err));
    cli->token = &cli->config->tokens[0];
    return become_keystore_owner(cli->config->keyring.keystore, err);
}

enum kr_status cli_load_full_config(struct cli *cli, struct kr_error *err)
{
    KR_TRY(cli_load_config(cli, err));
    return kr_config_require(cli->config, err);
}

enum kr_status cli_choose_token(struct cli *cli, struct kr_error *err)
{
    const char *name = cli->values[OPT_TOKEN];

    for (unsigned i = 0; name && i < cli->config->token_count; i++) {
        if (strcmp(cli->config->tokens[i].name, name) != 0)
            continue;
        cli->token = &cli->config->tokens[i];
        return KR_OK;
    }
    if (!name)
        return KR_OK;
    kr_fail(err, KR_USAGE, "no token '%s' is configured", name);
    kr_hint(err, "name one of the [token:NAME] sections");
    return err->status;
}
