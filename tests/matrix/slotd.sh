#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Starts openCryptoki's daemon with one soft token and empty state, for use in the MySQL root and in
# mount and IPC namespaces of its own: everything that it keeps is in memory and ends with it.
#
#   slotd.sh PIDFILE USER      USER may use the token
set -euo pipefail

private() { # FOLDER MODE
    mount -t tmpfs -o "mode=$2" tmpfs "$1"
}

replace() { # FILE: by standard input
    local new
    new=/run/$(basename "$1")
    cat >"$new"
    mount --bind "$new" "$1"
}

private /dev/shm 1777
private /run 755
private /var/lib/opencryptoki 770
private /var/log/opencryptoki 770
mkdir -p /run/lock/opencryptoki/swtok /run/opencryptoki /var/lib/opencryptoki/swtok/TOK_OBJ
replace /etc/opencryptoki/opencryptoki.conf <<CONF
version opencryptoki-3.27
slot 0
{
    stdll = libpkcs11_sw.so
    tokversion = 3.12
}
CONF
# The library looks into the group's list of members, not at the process's groups.
sed "s/^pkcs11:.*/&,$2/" /etc/group | replace /etc/group
chown pkcsslotd:pkcs11 /run/opencryptoki
chmod 710 /run/opencryptoki
chown -R root:pkcs11 /var/lib/opencryptoki /run/lock/opencryptoki
chmod -R 770 /var/lib/opencryptoki /run/lock/opencryptoki
pkcsslotd
cp /run/opencryptoki/pkcsslotd.pid "$1"
