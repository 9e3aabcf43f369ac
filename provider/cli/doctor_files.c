/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* doctor: the configuration, the keystore's files, and who can read and write them. */
#include "doctor.h"

#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "servers/pause.h"

static const char *user_name(uid_t uid)
{
    const struct passwd *user = getpwuid(uid);

    return user ? user->pw_name : "(a user without a name)";
}

static const char *keystore_path(const struct doctor *doctor)
{
    return doctor->config_error.status == KR_OK ? doctor->cli->config->keyring.keystore : NULL;
}

/* The directory of the keystore, in `buffer`; NULL when no keystore is configured. */
static const char *keystore_directory(const struct doctor *doctor, char buffer[PATH_MAX])
{
    const char *path = keystore_path(doctor);

    if (!path || strlen(path) >= PATH_MAX)
        return NULL;
    strcpy(buffer, path);
    return dirname(buffer);
}

/* --- configuration ---------------------------------------------------------------------------- */

void doctor_configuration(struct doctor *doctor, struct finding *finding)
{
    struct kr_error err = KR_ERROR_INIT;

    if (doctor->config_error.status != KR_OK)
        doctor_fail_error(finding, &doctor->config_error);
    else if (!doctor->config_complete && kr_config_require(doctor->cli->config, &err) != KR_OK)
        doctor_fail_error(finding, &err);
    else
        doctor_ok(finding, "module, token and keystore are set (%s)",
                  doctor->cli->config->path ? doctor->cli->config->path : "by options alone");
}

/* The tool may have become the keystore's owner and kept root's right to read; access() asks what
 * that user may read without it. */
void doctor_config_file(struct doctor *doctor, struct finding *finding)
{
    const char *path = doctor->config_error.status == KR_OK ? doctor->cli->config->path : NULL;
    struct stat st;

    if (!path) {
        doctor_skip(finding, "no configuration file was read");
    } else if (stat(path, &st) != 0) {
        doctor_fail(finding, KR_IO, "%s: %s", path, strerror(errno));
    } else if (st.st_mode & (S_IWGRP | S_IWOTH)) {
        doctor_fail(finding, KR_CONFIG, "%s can be written to by others than its owner", path);
        doctor_fix(finding, "chmod go-w %s", path);
    } else if (st.st_uid != 0 && st.st_uid != geteuid()) {
        doctor_warn(finding, "%s belongs to %s, neither root nor %s", path, user_name(st.st_uid),
                    user_name(geteuid()));
        doctor_fix(finding, "chown root %s", path);
    } else if (access(path, R_OK) != 0) {
        doctor_warn(finding, "%s cannot be read by %s", path, user_name(geteuid()));
        doctor_fix(finding, "chmod a+r %s (it names a PIN source, never a PIN)", path);
    } else {
        doctor_ok(finding, "%s belongs to %s, mode %04o", path, user_name(st.st_uid),
                  st.st_mode & 07777U);
    }
}

/* --- the keystore's folder and file ----------------------------------------------------------- */

static void check_owner(const struct doctor *doctor, const char *path, const struct stat *st,
                        struct finding *finding)
{
    if (!doctor->user_known) {
        doctor_ok(finding, "%s belongs to %s, mode %04o (the server's user is not known: --user)",
                  path, user_name(st->st_uid), st->st_mode & 07777U);
    } else if (st->st_uid == doctor->user) {
        doctor_ok(finding, "%s belongs to %s, as the server runs, mode %04o", path,
                  user_name(st->st_uid), st->st_mode & 07777U);
    } else {
        char owner[64];
        snprintf(owner, sizeof owner, "%s", user_name(st->st_uid));
        doctor_fail(finding, KR_CONFIG, "%s belongs to %s, but the server runs as %s", path, owner,
                    user_name(doctor->user));
        doctor_fix(finding, "chown %s %s", user_name(doctor->user), path);
    }
}

void doctor_keystore_directory(struct doctor *doctor, struct finding *finding)
{
    char buffer[PATH_MAX];
    const char *dir = keystore_directory(doctor, buffer);
    struct stat st;

    if (!dir) {
        doctor_skip(finding, "no keystore is configured");
    } else if (stat(dir, &st) != 0) {
        doctor_fail(finding, KR_IO, "%s: %s", dir, strerror(errno));
        doctor_fix(finding, "make it for the server's user: install -d -m 0700 -o mysql %s", dir);
    } else if (st.st_mode & (S_IWGRP | S_IWOTH)) {
        doctor_fail(finding, KR_CONFIG, "%s can be written to by others than its owner", dir);
        doctor_fix(finding, "chmod go-w %s", dir);
    } else {
        check_owner(doctor, dir, &st, finding);
    }
}

void doctor_keystore_file(struct doctor *doctor, struct finding *finding)
{
    const char *path = keystore_path(doctor);
    struct stat st;

    if (!path) {
        doctor_skip(finding, "no keystore is configured");
    } else if (stat(path, &st) != 0) {
        doctor_fail(finding, errno == ENOENT ? KR_NOT_FOUND : KR_IO, "%s: %s", path,
                    strerror(errno));
        doctor_fix(finding, "p11keyring master create makes a new keyring; if there was one, "
                            "restore its keystore from a backup instead");
    } else if (st.st_mode & 077) {
        doctor_fail(finding, KR_CONFIG, "%s has mode %04o", path, st.st_mode & 07777U);
        doctor_fix(finding, "chmod 600 %s", path);
    } else {
        check_owner(doctor, path, &st, finding);
    }
}

void doctor_keystore_place(struct doctor *doctor, struct finding *finding)
{
    const char *datadir = server_option(&doctor->server, "datadir");
    char buffer[PATH_MAX], real_dir[PATH_MAX], real_data[PATH_MAX];
    const char *dir = keystore_directory(doctor, buffer);

    if (!dir || !datadir || !realpath(dir, real_dir) || !realpath(datadir, real_data)) {
        doctor_skip(finding, "the server's data directory is not known: --server-config FILE");
        return;
    }
    size_t len = strlen(real_data);
    if (strncmp(real_dir, real_data, len) == 0 && (real_dir[len] == '/' || !real_dir[len])) {
        doctor_fail(finding, KR_CONFIG, "the keystore is inside the data directory %s", real_data);
        doctor_fix(finding, "move it out of there: a copy of the data directory must not carry "
                            "its own keys, and a restored one must not bring back old ones");
    } else {
        doctor_ok(finding, "the keystore is outside of the data directory %s", real_data);
    }
}

/* --- leftovers -------------------------------------------------------------------------------- */

static bool starts_with(const char *text, const char *prefix, size_t len)
{
    return strncmp(text, prefix, len) == 0;
}

void doctor_leftovers(struct doctor *doctor, struct finding *finding)
{
    char buffer[PATH_MAX];
    const char *dir = keystore_directory(doctor, buffer);
    const char *name = dir ? strrchr(keystore_path(doctor), '/') + 1 : NULL;
    DIR *stream = dir ? opendir(dir) : NULL;
    const struct dirent *entry;

    if (!stream) {
        doctor_skip(finding, "the keystore's directory cannot be read");
        return;
    }
    doctor_ok(finding, "nothing is left beside the keystore");
    while ((entry = readdir(stream))) {
        size_t len = strlen(name);
        if (!starts_with(entry->d_name, name, len))
            continue;
        if (starts_with(entry->d_name + len, ".new-", 5)) {
            doctor_warn(finding, "%s/%s is left of a master create that was cut off", dir,
                        entry->d_name);
            doctor_fix(finding, "rm %s/%s*, when no master create is running", dir, entry->d_name);
        } else if (strcmp(entry->d_name + len, KR_PAUSE_SUFFIX) == 0) {
            doctor_warn(finding, "%s/%s: a migration has paused servers, or was killed then", dir,
                        entry->d_name);
            doctor_fix(finding, "p11keyring migrate --repair, unless one is running");
        } else if (strcmp(entry->d_name + len, "-journal") == 0) {
            doctor_warn(finding, "%s/%s: a change is being made or was cut off", dir,
                        entry->d_name);
            doctor_fix(finding, "never delete it: the next use of the keystore by its owner rolls "
                                "the change back");
        }
    }
    closedir(stream);
}

/* --- the audit log ---------------------------------------------------------------------------- */

void doctor_audit_log(struct doctor *doctor, struct finding *finding)
{
    const struct kr_config *config = doctor->cli->config;
    KR_AUDIT_OWNED struct kr_audit *audit = NULL;
    struct kr_error err = KR_ERROR_INIT;
    struct kr_audit_head newest;

    if (!doctor->config_complete) {
        doctor_skip(finding, "the configuration is not complete");
        return;
    }
    if (!config->keyring.audit_log) {
        doctor_ok(finding, "none is configured");
        return;
    }
    if (kr_audit_open(config, &audit, &err) == KR_OK &&
        kr_audit_check(audit, &newest, &err) == KR_OK) {
        doctor_ok(finding, "%s can be written; its newest record is number %llu",
                  config->keyring.audit_log, (unsigned long long)newest.seq);
        return;
    }
    doctor_fail_error(finding, &err);
    if (!config->keyring.audit_required)
        finding->verdict = VERDICT_WARNING;
}
