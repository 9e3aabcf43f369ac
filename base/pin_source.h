/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Where a PIN, or a password, comes from. Never from argv or a system variable: those name a
 * source.
 *
 *   file:/path       a file of the PIN alone (one trailing newline is dropped); it must belong to
 *                    root or to us (to anybody if we are root) and be open to nobody else
 *   cred:NAME        systemd credential: $CREDENTIALS_DIRECTORY/NAME, same checks
 *   env:NAME         an environment variable, wiped and removed from the environment when first
 *                    read: not while other threads use the environment
 *   fd:N             an inherited descriptor, read to its end when first asked and left open
 *                    (what env and fd gave is kept for later sources of the same name)
 *   prompt           asked for on /dev/tty
 *
 * A bare absolute path is taken as file:. The identity of a source is what the PIN guard compares
 * to see that an admin has changed it: inode and change time of a file, never a hash of the PIN.
 * Functions may be called from any thread.
 */
#ifndef P11K_BASE_PIN_SOURCE_H
#define P11K_BASE_PIN_SOURCE_H

#include <stddef.h>

#include "base/status.h"

struct kr_pin_source;

#define KR_PIN_MAX 255
#define KR_PIN_IDENTITY_MAX 512

/* Parses only; nothing is read. KR_CONFIG on unknown forms, without quoting `spec`, which may be a
 * PIN in the wrong place. `what` is the prompt's subject ("PIN for token db1"), copied; messages
 * call it a password or a passphrase if `what` does. */
KR_MUST_USE enum kr_status kr_pin_source_new(const char *spec, const char *what,
                                             struct kr_pin_source **ret, struct kr_error *err);
/* NULL is accepted. */
void kr_pin_source_free(struct kr_pin_source *source);

/* Checks what can be checked without reading the PIN: existence, owner and mode of a file, that a
 * variable is set, that there is a terminal. */
KR_MUST_USE enum kr_status kr_pin_source_check(struct kr_pin_source *source, struct kr_error *err);

/* The PIN in secret memory, NUL-terminated; the caller frees it with kr_secret_free(). A file is
 * read anew each time, the other sources once (the PIN then stays in secret memory of the source).
 * A file's identity is taken from the very descriptor that is read. KR_CONFIG, KR_IO; KR_REFUSED
 * when a prompt was interrupted. */
KR_MUST_USE enum kr_status kr_pin_source_read(struct kr_pin_source *source, char **ret_pin,
                                              size_t *ret_len, struct kr_error *err);

/* One line without secrets that changes when the source does, e.g.
 * "file:/etc/pin inode=123:45 ctime=1700000000.000000000" (inode as device:number); for env and fd
 * it is constant; for a prompt it is new with each kr_pin_source_new(). The first call after a read
 * is about the file that was read, any other about the file as it is now. `ret` holds
 * KR_PIN_IDENTITY_MAX bytes. KR_CONFIG as kr_pin_source_check(). */
KR_MUST_USE enum kr_status kr_pin_source_identity(struct kr_pin_source *source, char *ret,
                                                  struct kr_error *err);

/* The source as configured, a bare path as "file:/etc/pin", for messages. Owned by the source. */
const char *kr_pin_source_name(const struct kr_pin_source *source);

#endif
