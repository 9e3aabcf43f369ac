/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Any bytes as an envelope: what parses lies within its bounds, and only what was sealed opens. */
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "wrap/envelope_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool sound)
{
    if (!sound)
        abort();
}

static void check_header(const struct kr_envelope_header *header, const uint8_t *data, size_t size)
{
    insist(header->wrap_count >= 1 && header->wrap_count <= KR_ENVELOPE_WRAPS_MAX);
    for (size_t i = 0; i < header->wrap_count; i++) {
        const struct kr_wrap *wrap = &header->wraps[i];
        insist(wrap->mechanism >= KR_WRAP_AES_GCM && wrap->mechanism <= KR_WRAP_RSA_SHA1);
        insist(wrap->master_id.len >= 1 && wrap->master_id.len <= KR_OBJECT_ID_MAX);
        insist(wrap->wrapped_len >= 1 && wrap->wrapped_len <= KR_WRAPPED_MAX);
        insist(wrap->wrapped > data && wrap->wrapped + wrap->wrapped_len < data + size);
    }
    insist(header->payload_len >= 1 && header->payload_len <= KR_ENVELOPE_PAYLOAD_MAX);
    insist(size <= KR_ENVELOPE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t uuid[16], key[KR_SEALING_KEY_BYTES];
    const struct kr_envelope_context context = {.keyring = "default",
                                                .uuid = uuid,
                                                .ns = "mariadb",
                                                .id = "1",
                                                .owner = "",
                                                .version = 1,
                                                .cipher = "aes-cbc"};
    struct kr_error err = KR_ERROR_INIT;
    struct kr_envelope_header header;
    uint8_t *opened = NULL;
    size_t len = 0;
    enum kr_status status = kr_envelope_parse(data, size, &header, &err);
    insist(status == KR_OK || (status == KR_INTEGRITY && err.text[0] && err.hint[0]));
    if (status == KR_OK)
        check_header(&header, data, size);
    /* The corpus was sealed under another key. */
    insist(kr_envelope_open_with(key, &context, data, size, &opened, &len, &err) == KR_INTEGRITY);
    insist(!opened && len == 0);
    return 0;
}
