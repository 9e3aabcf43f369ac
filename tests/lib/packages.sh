#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Installs the Debian packages that are missing, and only then touches apt:
#
#   packages.sh demo-mariadb, demo-mysql
#                         what a build and that half of softhsm-conf/demo.sh need
#   packages.sh tests     what tests/run.sh needs as well
#   packages.sh soak      what tests/soak.sh needs as well
#   packages.sh unpacked  prints the folder of programs that are unpacked but never installed
#
# Debian's mariadb-server and tpm2-abrmd are never installed, since that would make and start system
# services: the files that the tests want of them and of mariadb-client are unpacked into a cache.
set -euo pipefail

BUILD_AND_DEMO=(
    gcc libc6-dev make cmake pkg-config
    libssl-dev libinih-dev libp11-dev libp11-kit-dev libsqlite3-dev libjansson-dev
    libsmartcols-dev libisal-dev liblz4-dev zlib1g-dev libmariadbd-dev libmariadb-dev
    softhsm2 opensc mariadb-server-core mariadb-client-core openssl
)
TESTS=(
    libcmocka-dev mariadb-backup debootstrap gdb sqlite3 strace jq groff-base opensc-pkcs11
    shellcheck cppcheck libnss3 libnss3-tools libsnappy1v5 liblzo2-2
    swtpm libtpm2-pkcs11-1 libtss2-tcti-swtpm0 libtss2-tcti-tabrmd0 dbus-daemon dbus-bin
)
SOAK=(clang clang-tidy libclang-rt-14-dev linux-perf sysbench valgrind)

say() { printf '%s\n' "$*" >&2; }

installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# A foreign source that does not answer is no reason to stop, as long as Debian's own lists are
# there: what counts is whether the install succeeds.
apt_update_once() {
    [[ -z ${P11K_APT_UPDATED:-} ]] || return 0
    export P11K_APT_UPDATED=1
    say "updating the package lists ..."
    if ! apt-get -q update >"$log" 2>&1; then
        say "note: apt-get update had problems (going on with the lists that there are)"
    fi
}

install_missing() {
    local missing=() package
    for package in "$@"; do
        installed "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        say "error: these Debian packages are missing: ${missing[*]}"
        say "hint: as root, run: apt-get install --no-install-recommends ${missing[*]}"
        exit 1
    fi
    apt_update_once
    say "installing: ${missing[*]}"
    if ! DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
        "${missing[@]}" >>"$log" 2>&1; then
        cat "$log" >&2
        say "error: apt-get could not install: ${missing[*]}"
        say "hint: see apt's messages above; Debian 12 (bookworm) has all of these packages"
        exit 1
    fi
}

unpacked_dir() {
    local cache=${XDG_CACHE_HOME:-/var/cache}
    [[ -w $cache ]] || cache=${HOME:-/nonexistent}/.cache
    printf '%s/p11keyring-tests/mariadb-%s\n' "$cache" \
        "$(dpkg-query -W -f '${Version}' mariadb-server-core | tr ':' '_')"
}

unpack() { # PACKAGE[=VERSION] FILE
    local dir work
    dir=$(unpacked_dir)
    [[ ! -f $dir/$(basename "$2") ]] || return 0
    work=$(mktemp -d)
    chmod 755 "$work"
    ((EUID != 0)) || apt_update_once
    say "downloading ${1/=/ } (unpacked into $dir, not installed)"
    if ! (cd "$work" && apt-get -q download "$1" >>"$log" 2>&1); then
        cat "$log" >&2
        say "error: apt-get could not download ${1/=/ }"
        exit 1
    fi
    dpkg-deb -x "$work"/*.deb "$work/root"
    install -D -t "$dir" "$work/root/$2"
    rm -rf "$work"
}

unpack_services() {
    local version
    version=$(dpkg-query -W -f '${Version}' mariadb-server-core)
    unpack "mariadb-server=$version" usr/lib/mysql/plugin/file_key_management.so
    unpack "mariadb-client=$version" usr/bin/mariadb-binlog
    unpack tpm2-abrmd usr/sbin/tpm2-abrmd
    local way
    for way in bzip2 lz4 lzma lzo snappy; do
        unpack "mariadb-plugin-provider-$way=$version" "usr/lib/mysql/plugin/provider_$way.so"
    done
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
case ${1:-} in
demo-mariadb) install_missing "${BUILD_AND_DEMO[@]}" ;;
demo-mysql) install_missing "${BUILD_AND_DEMO[@]}" debootstrap ;;
tests)
    install_missing "${BUILD_AND_DEMO[@]}" "${TESTS[@]}"
    unpack_services
    ;;
soak)
    install_missing "${BUILD_AND_DEMO[@]}" "${TESTS[@]}" "${SOAK[@]}"
    unpack_services
    ;;
unpacked) unpacked_dir ;;
*)
    say "usage: packages.sh demo-mariadb|demo-mysql|tests|soak|unpacked"
    exit 2
    ;;
esac
