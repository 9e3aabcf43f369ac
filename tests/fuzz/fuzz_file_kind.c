/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Any bytes as the beginning of a file: they are of one kind. The first byte chooses a name. */
#include <stdlib.h>

#include "formats/file_kind.h"
#include "formats/key_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_key(uint32_t id, const char *digits, unsigned bits, void *context)
{
    size_t *room = context;
    if (id < 1 || !digits || (bits != 128 && bits != 192 && bits != 256) || *room < bits / 4)
        abort();
    *room -= bits / 4;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"x",         "t.ibd",    "t.MAD",
                                        "#ib.dblwr", "keys.cfp", "binlog.000001"};
    size_t room = size;
    if (size < 1)
        return 0;
    const char *name = names[data[0] % (sizeof(names) / sizeof(*names))];
    enum kr_file_kind kind = kr_file_kind_of(data + 1, size - 1, size - 1, name);
    if (kind >= KR_FILE_KINDS || !kr_file_kind_name(kind))
        abort();
    kr_key_list_parse((const char *)data + 1, size - 1, data[0] & 1, check_key, &room);
    return 0;
}
