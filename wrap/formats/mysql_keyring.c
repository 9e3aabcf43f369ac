/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The files of MySQL's own keyrings. */
#include "formats/mysql_keyring.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/hex.h"

static void set_id(struct kr_mysql_keyring_key *key, const char *id, size_t len)
{
    if (len >= sizeof(key->id))
        len = sizeof(key->id) - 1;
    for (size_t i = 0; i < len; i++)
        key->id[i] = id[i] >= 0x20 && id[i] < 0x7f ? id[i] : '?';
    key->id[len] = '\0';
}

/* --- component_keyring_file ----------------------------------------------------------------------
 */

static struct kr_mysql_keyring_part part_of(const json_t *text)
{
    return (struct kr_mysql_keyring_part){json_string_value(text), json_string_length(text)};
}

static const char *visit_element(const json_t *element, kr_mysql_keyring_visitor visit,
                                 void *context)
{
    const json_t *id = json_object_get(element, "data_id"),
                 *user = json_object_get(element, "user");
    const json_t *data = json_object_get(element, "data");
    struct kr_mysql_keyring_key key = {.owned = json_string_length(user) > 0,
                                       .bits = json_string_length(data) / 2 * 8,
                                       .name = part_of(id),
                                       .user = part_of(user),
                                       .type = part_of(json_object_get(element, "data_type")),
                                       .data = part_of(data)};
    if (!json_is_string(id) || !json_is_string(user) || !json_is_string(data))
        return "one of its keys lacks id, user or data";
    set_id(&key, json_string_value(id), json_string_length(id));
    visit(&key, context);
    return NULL;
}

const char *kr_mysql_keyring_json(const char *text, size_t len, kr_mysql_keyring_visitor visit,
                                  void *context)
{
    json_error_t error;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error), *element;
    const json_t *elements = json_object_get(root, "elements");
    const char *problem = NULL;
    size_t i;
    if (!root)
        problem = "it is no JSON";
    else if (!json_is_array(elements))
        problem = "it has no list of keys";
    json_array_foreach(elements, i, element)
    {
        if (!problem)
            problem = visit_element(element, visit, context);
    }
    json_decref(root);
    return problem;
}

/* --- keyring_file --------------------------------------------------------------------------------
 */

enum { LENGTHS = 5, LENGTHS_BYTES = LENGTHS * 8, DIGEST_BYTES = 32, END_BYTES = 3 };
enum { TOTAL, ID, TYPE, USER, DATA };
#define VERSION_1 "Keyring file version:1.0"
#define VERSION_2 "Keyring file version:2.0"
enum { VERSION_BYTES = sizeof(VERSION_1) - 1 };

static void take_part(const char **at, uint64_t len, struct kr_mysql_keyring_part *ret)
{
    *ret = (struct kr_mysql_keyring_part){*at, (size_t)len};
    *at += len;
}

/* The length of the key at `bytes`, 0 when it does not fit. */
static size_t visit_key(const uint8_t *bytes, size_t room, kr_mysql_keyring_visitor visit,
                        void *context)
{
    uint64_t lengths[LENGTHS], sum = LENGTHS_BYTES;
    const char *at = (const char *)bytes + LENGTHS_BYTES;
    struct kr_mysql_keyring_key key;
    if (room < LENGTHS_BYTES)
        return 0;
    memcpy(lengths, bytes, LENGTHS_BYTES);
    for (int i = ID; i < LENGTHS; i++) {
        if (lengths[i] > room)
            return 0;
        sum += lengths[i];
    }
    if (lengths[TOTAL] > room || sum > lengths[TOTAL] || lengths[TOTAL] - sum >= 8)
        return 0;
    key = (struct kr_mysql_keyring_key){
        .owned = lengths[USER] > 0, .bits = (size_t)lengths[DATA] * 8, .obfuscated = true};
    take_part(&at, lengths[ID], &key.name);
    take_part(&at, lengths[TYPE], &key.type);
    take_part(&at, lengths[USER], &key.user);
    take_part(&at, lengths[DATA], &key.data);
    set_id(&key, key.name.at, key.name.len);
    visit(&key, context);
    return (size_t)lengths[TOTAL];
}

static bool digest_agrees(const uint8_t *bytes, size_t len)
{
    uint8_t digest[DIGEST_BYTES];
    return EVP_Digest(bytes, len, digest, NULL, EVP_sha256(), NULL) &&
           memcmp(digest, bytes + len, DIGEST_BYTES) == 0;
}

const char *kr_mysql_keyring_plugin(const uint8_t *bytes, size_t len,
                                    kr_mysql_keyring_visitor visit, void *context, bool *ret_digest)
{
    size_t at = VERSION_BYTES, after = 0;
    if (len >= VERSION_BYTES && memcmp(bytes, VERSION_2, VERSION_BYTES) == 0)
        after = DIGEST_BYTES;
    else if (len < VERSION_BYTES || memcmp(bytes, VERSION_1, VERSION_BYTES) != 0)
        return "its version is not known";
    if (len < VERSION_BYTES + END_BYTES + after ||
        memcmp(bytes + len - after - END_BYTES, "EOF", END_BYTES) != 0)
        return "its end is missing";
    size_t end = len - after - END_BYTES;
    while (at < end) {
        size_t taken = visit_key(bytes + at, end - at, visit, context);
        if (taken == 0)
            return "one of its keys is damaged";
        at += taken;
    }
    *ret_digest = after && digest_agrees(bytes, end + END_BYTES);
    return after && !*ret_digest ? "its digest is another one" : NULL;
}

/* --- the key itself ------------------------------------------------------------------------------
 */

bool kr_mysql_keyring_open(const struct kr_mysql_keyring_key *key, uint8_t *ret)
{
    static const char pattern[] = "*305=Ljt0*!@$Hnm(*-9-w;:";
    if (!key->obfuscated)
        return kr_hex_decode(key->data.at, key->data.len, ret);
    for (size_t i = 0; i < key->data.len; i++)
        ret[i] = (uint8_t)(key->data.at[i] ^ pattern[i % (sizeof(pattern) - 1)]);
    return true;
}
