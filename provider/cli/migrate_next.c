/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* By the two kinds of keyring. */
#include "migrate_next.h"

#include <string.h>

static bool is(const struct kr_store_kind *kind, const char *name)
{
    return strcmp(kind->name, name) == 0;
}

static void add(json_t *steps, const char *text)
{
    json_array_append_new(steps, json_string(text));
}

static void use_ours(const struct kr_store_kind *from, json_t *steps)
{
    if (is(from, "file-key-management"))
        add(steps,
            "a server that used the key file: take plugin_load_add = file_key_management and "
            "its options out of its option file, put plugin_load_add = "
            "pkcs11_key_management in, and restart it; only one of them may be loaded");
    else if (!is(from, "p11keyring"))
        add(steps, "a server that used the source: name component_keyring_pkcs11 alone in its "
                   "manifest, take the old keyring out of manifest and option file, and restart "
                   "it; only one keyring may be loaded");
    else
        add(steps, "a server that used the source: name the other configuration to its plugin or "
                   "component, and restart it");
    add(steps, "a server that uses the destination already sees the keys by itself");
}

static void use_file_key_management(json_t *steps)
{
    add(steps, "a server that is to use the file: take plugin_load_add = pkcs11_key_management and "
               "its options out of its option file, put plugin_load_add = file_key_management, "
               "file_key_management_filename, file_key_management_encryption_algorithm (the "
               "cipher of the keys) and for an encrypted file file_key_management_filekey in, and "
               "restart it");
    add(steps, "a server that uses the file already must be restarted to see the keys");
}

static void use_component_keyring_file(json_t *steps)
{
    add(steps, "a server that is to use the file: name component_keyring_file alone in its "
               "manifest, the file in component_keyring_file.cnf, and restart it; only one "
               "keyring may be loaded");
    add(steps, "a server that uses the file already must be restarted to see the keys");
}

void migrate_next(const struct kr_store_kind *from, const struct kr_store_kind *to, json_t *steps)
{
    if (is(to, "p11keyring"))
        use_ours(from, steps);
    else if (is(to, "file-key-management"))
        use_file_key_management(steps);
    else
        use_component_keyring_file(steps);
    if (from->is_clear && !to->is_clear)
        add(steps, "the source is as it was, and so are its backups: once the server runs without "
                   "it, rotate the keys, let the data be encrypted anew, and destroy it");
    else
        add(steps, "the source is as it was: keep it until the server runs without it");
}
