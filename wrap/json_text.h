/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* JSON strings of foreign bytes. */
#ifndef P11K_WRAP_JSON_TEXT_H
#define P11K_WRAP_JSON_TEXT_H

#include <jansson.h>

/* JSON text of foreign bytes (labels): what is no printable UTF-8 becomes '?'. Never NULL but for
 * lack of memory; NULL gives null. */
json_t *kr_json_text(const char *text);

/* For __attribute__((cleanup)): `KR_JSON object = json_object();` */
void kr_json_cleanup(json_t **json);
#define KR_JSON __attribute__((cleanup(kr_json_cleanup))) json_t *

#endif
