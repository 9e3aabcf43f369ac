/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Any bytes as a bundle, and as its records: what parses lies within its bounds. */
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "wrap/bundle_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool sound)
{
    if (!sound)
        abort();
}

static void check_slot(const struct kr_bundle_slot *slot, const uint8_t *data, size_t size)
{
    const uint8_t *end = slot->body + slot->body_len;
    size_t wrapped = KR_CONTENT_KEY_BYTES + KR_BUNDLE_TAG;
    insist(slot->body > data && end < data + size);
    if (slot->kind == KR_BUNDLE_SLOT_PASSWORDS) {
        insist(slot->custodians >= 1 && slot->custodians <= KR_CUSTODIANS_MAX);
        insist(slot->kdf == KR_BUNDLE_SCRYPT ? slot->cost <= 20 : slot->cost <= 10000000);
    } else {
        wrapped = slot->recipient.modulus_len;
        insist(wrapped >= 384 && wrapped <= KR_RSA_BYTES_MAX);
    }
    insist(slot->wrapped + wrapped == end);
}

static void check_header(const uint8_t *data, size_t size)
{
    static const uint8_t content_key[KR_CONTENT_KEY_BYTES];
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bundle_header header;
    struct kr_bundle *bundle = NULL;
    enum kr_status status = kr_bundle_parse(data, size, &header, &err);
    insist(status == KR_OK || (status == KR_INTEGRITY && err.text[0] && err.hint[0]));
    if (status != KR_OK)
        return;
    insist(header.slot_count >= 1 && header.slot_count <= KR_BUNDLE_SLOTS_MAX);
    for (size_t i = 0; i < header.slot_count; i++)
        check_slot(&header.slots[i], data, size);
    insist(header.info.keyring[sizeof(header.info.keyring) - 1] == '\0');
    /* The corpus was sealed under another key. */
    insist(kr_bundle_open(data, size, &header, content_key, &bundle, &err) == KR_INTEGRITY);
}

static void check_records(const uint8_t *data, size_t size)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bundle_info info = {.keyring = "fuzz", .scope = KR_BUNDLE_ALL};
    struct kr_bundle *bundle = NULL;
    uint8_t *payload = kr_secret_alloc(size + 1);
    struct kr_bundle_record found;
    insist(payload && kr_bundle_new(&info, &bundle, &err) == KR_OK);
    memcpy(payload, data, size);
    if (kr_bundle_take(bundle, &payload, size, &err) == KR_OK) {
        for (size_t i = 0; i < kr_bundle_count(bundle); i++) {
            struct kr_bundle_record record = kr_bundle_get(bundle, i);
            insist(record.bytes >= bundle->payload &&
                   record.bytes + record.len <= bundle->payload + bundle->len);
            insist(kr_bundle_find(bundle, &record, &found) && found.bytes == record.bytes);
        }
    }
    kr_bundle_free(bundle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_header(data, size);
    if (size < 65536)
        check_records(data, size);
    return 0;
}
