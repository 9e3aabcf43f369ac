/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The variable of a server that pauses its keyring, and who may set it. Private to servers. */
#ifndef P11K_SERVERS_PAUSE_SWITCH_H
#define P11K_SERVERS_PAUSE_SWITCH_H

#include "servers/pause.h"

/* KR_PAUSE_ON, KR_PAUSE_WAS_OFF or KR_PAUSE_NONE. */
KR_MUST_USE enum kr_status kr_switch_read(struct kr_server_conn *conn, enum kr_pause_state *ret,
                                          struct kr_error *err);
KR_MUST_USE enum kr_status kr_switch_set(struct kr_server_conn *conn, bool on,
                                         struct kr_error *err);

/* Which privileges the account is short of; "" for none. */
KR_MUST_USE enum kr_status kr_switch_missing(struct kr_server_conn *conn,
                                             char ret[KR_SERVER_PRIVILEGES_TEXT],
                                             struct kr_error *err);

#endif
