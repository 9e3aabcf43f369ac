# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The tokens of the matrix, all of Debian packages. `start_token TOKEN` makes an empty one in
# $WORK/TOKEN, headless and private, with random PINs, and a configuration for it. What the others
# need to know of it is then in $WORK/TOKEN/state, to be sourced:
#
#   MODULE URI INIT_ARGS   how it is found
#   VERSION                what is under test, for the documents
#   AS_SERVER              the command that runs its arguments as the server's user and where the
#                          token is; as_server and tool use it
# shellcheck disable=SC2034,SC2153,SC2154 # for the sourcing script, from common.sh

TOKENS=(softhsm2 nss opencryptoki tpm2)
LIB=/usr/lib/$(gcc -print-multiarch)
MYSQL_ROOT=$ROOT/tests/lib/mysql_root.sh

start_token() { # TOKEN
    KEYRING=$WORK/$1
    mkdir -p "$KEYRING/keyring"
    random_hex 4 >"$KEYRING/pin"
    random_hex 4 >"$KEYRING/so-pin"
    chmod 700 "$KEYRING" "$KEYRING/keyring"
    chmod 600 "$KEYRING/pin" "$KEYRING/so-pin"
    own "$KEYRING"
    URI=pkcs11:token=matrix INIT_ARGS=
    export P11KEYRING_CONF=$KEYRING/p11keyring.conf
    "start_$1"
    declare -p KEYRING MODULE URI INIT_ARGS VERSION AS_SERVER P11KEYRING_CONF >"$KEYRING/state"
    declare -p SOFTHSM2_CONF TPM2_PKCS11_STORE TPM2_PKCS11_TCTI DBUS_SESSION_BUS_ADDRESS \
        >>"$KEYRING/state" 2>/dev/null || true
}

configure() {
    cat >"$P11KEYRING_CONF" <<CONF
[token:matrix]
module = $MODULE
uri = $URI
pin-source = file:$KEYRING/pin
${INIT_ARGS:+init-args = $INIT_ARGS}

[keyring]
name = matrix
keystore = $KEYRING/keyring/matrix.keystore
CONF
    own "$P11KEYRING_CONF"
}

init_token() {
    tool token init --label matrix --so-pin-source "file:$KEYRING/so-pin"
}

package_version() { # PACKAGE [dpkg option]
    # shellcheck disable=SC2016 # the field's name is dpkg's
    dpkg-query "${@:2}" -W -f '${source:Upstream-Version}' "$1"
}

start_softhsm2() {
    MODULE=$SOFTHSM_MODULE
    VERSION="$(package_version softhsm2) (Debian 12)"
    mkdir "$KEYRING/tokens"
    export SOFTHSM2_CONF=$KEYRING/softhsm2.conf
    sed "s|@TOKENDIR@|$KEYRING/tokens|" "$ROOT/softhsm-conf/softhsm2.conf.in" >"$SOFTHSM2_CONF"
    own "$KEYRING"
    configure
    init_token
}

start_nss() {
    MODULE=$LIB/libsoftokn3.so URI=pkcs11:token=NSS%20Certificate%20DB
    VERSION="$(package_version libnss3) (Debian 12)"
    INIT_ARGS="configdir='sql:$KEYRING/db' certPrefix='' keyPrefix='' secmod='' flags= updatedir=''"
    mkdir "$KEYRING/db"
    own "$KEYRING"
    configure
    as_server certutil -N -d "sql:$KEYRING/db" -f "$KEYRING/pin"
}

# The daemon between TPM and module lets several processes use the TPM, and more keys than it has
# room for, as the kernel's /dev/tpmrm0 does. It has a message bus of its own.
start_tpm2() {
    local tpm=$KEYRING/tpm
    MODULE=$LIB/pkcs11/libtpm2_pkcs11.so
    VERSION="$(package_version libtpm2-pkcs11-1), swtpm $(package_version swtpm) (Debian 12)"
    mkdir "$tpm" "$KEYRING/store"
    cp "$("$ROOT/tests/lib/packages.sh" unpacked)/tpm2-abrmd" "$tpm/"
    own "$KEYRING"
    export TPM2_PKCS11_STORE=$KEYRING/store TPM2_PKCS11_TCTI=tabrmd:bus_type=session
    export DBUS_SESSION_BUS_ADDRESS=unix:path=$tpm/bus
    as_server swtpm socket --tpm2 --tpmstate "dir=$tpm" --flags startup-clear --daemon \
        --server "type=unixio,path=$tpm/tpm" --ctrl "type=unixio,path=$tpm/tpm.ctrl" \
        --pid "file=$tpm/swtpm.pid"
    as_server dbus-daemon --session --address="$DBUS_SESSION_BUS_ADDRESS" --fork --print-pid \
        >"$tpm/bus.pid"
    start_abrmd
    configure
    init_token
}

start_abrmd() {
    background "${AS_SERVER[@]}" "$KEYRING/tpm/tpm2-abrmd" --session \
        --tcti="swtpm:path=$KEYRING/tpm/tpm"
    mv "$WORK/background.$background_pid.pid" "$KEYRING/abrmd.pid"
    eventually 10 on_bus com.intel.tss2.Tabrmd
}

on_bus() { # NAME
    as_server dbus-send --session --print-reply --dest=org.freedesktop.DBus \
        /org/freedesktop/DBus org.freedesktop.DBus.NameHasOwner "string:$1" | grep -q 'boolean true'
}

# In the MySQL root: Debian 12's has no AES-GCM, and its daemon insists on fixed paths.
start_opencryptoki() {
    local root
    MODULE=$LIB/pkcs11/libopencryptoki.so
    "$MYSQL_ROOT" build
    root=$("$MYSQL_ROOT" path)
    VERSION="$(package_version opencryptoki --root="$root") (Debian sid)"
    cp "$ROOT/tests/matrix/slotd.sh" "$KEYRING/"
    "$MYSQL_ROOT" run -b "$WORK" -- unshare --ipc \
        bash "$KEYRING/slotd.sh" "$KEYRING/slotd.pid" "$RUN_AS"
    AS_SERVER=(nsenter --target "$(<"$KEYRING/slotd.pid")" --mount --ipc --root --wd=/
        setpriv --reuid="$RUN_AS" --regid="$(id -g "$RUN_AS")" --init-groups --)
    configure
    init_opencryptoki
}

# A new soft token has the SO PIN 87654321 and wants both PINs changed.
init_opencryptoki() {
    local -x OLD=87654321 SO PIN
    SO=$(<"$KEYRING/so-pin") PIN=$(<"$KEYRING/pin")
    as_server pkcs11-tool --module "$MODULE" --init-token --slot-index 0 --label matrix \
        --so-pin env:OLD
    as_server pkcs11-tool --module "$MODULE" --token-label matrix --login --login-type so \
        --so-pin env:OLD --change-pin --new-pin env:SO
    as_server pkcs11-tool --module "$MODULE" --token-label matrix --login --login-type so \
        --so-pin env:SO --init-pin --new-pin env:PIN
}
