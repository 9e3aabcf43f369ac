#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The private Debian sid root that the MySQL tests run in, and openCryptoki's token: Debian 12 has no
# MySQL server, and too old an openCryptoki. Needs root.
#
#   mysql_root.sh build              makes the root when there is none, or when it is stale
#   mysql_root.sh path               prints its folder
#   mysql_root.sh run [-b DIR]... [-u USER] [--] COMMAND...
#                                    runs a command in it; DIR is seen there under the same name
#   mysql_root.sh compile BUILDDIR [cmake option...]
#                                    builds this repository with the root's compiler and libraries
#   mysql_root.sh clean              removes every root that nothing runs in
#
# Each command has a mount namespace of its own, so nothing stays mounted, and is exec'ed: the pid of
# `run` is the pid of the command. The mirror is the one that this machine's apt uses.
set -euo pipefail

SELF=$(realpath "${BASH_SOURCE[0]}")
SUITE=sid
MAX_AGE_DAYS=30
PACKAGES=(
    mysql-server-core mysql-client-core softhsm2 p11-kit p11-kit-modules opensc opensc-pkcs11
    opencryptoki
    gcc libc6-dev make cmake pkg-config gdb openssl
    libssl-dev libinih-dev libp11-dev libp11-kit-dev libsqlite3-dev libjansson-dev
    libsmartcols-dev libisal-dev liblz4-dev zlib1g-dev libmariadb-dev
)

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $1"
    [[ -z ${2:-} ]] || say "hint: $2"
    exit 1
}

# --- the recipe ------------------------------------------------------------------------------------

# The Debian mirror of this machine's apt: "Label Repo-URI" of each index, the first of label Debian.
mirror() {
    local uri
    # shellcheck disable=SC2016 # the field names are apt's
    uri=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian //p' | head -n 1)
    [[ -n $uri ]] || die "this machine's apt knows no Debian mirror" "run: apt-get update"
    printf '%s\n' "$uri"
}

bootstrap() { # DIR
    local proxy
    proxy=$(apt-config dump --format '%F "%v";%n' | grep -E '^Acquire::https?::Proxy ' || true)
    debootstrap --variant=minbase "$SUITE" "$1" "$(mirror)"
    printf '%s\n' "$proxy" 'APT::Install-Recommends "0";' >"$1/etc/apt/apt.conf.d/90p11keyring"
    printf '%s\n' force-unsafe-io 'path-exclude=/usr/share/doc/*' 'path-exclude=/usr/share/man/*' \
        'path-exclude=/usr/share/locale/*' >"$1/etc/dpkg/dpkg.cfg.d/90p11keyring"
    printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d" # no package may start a daemon
    chmod 755 "$1/usr/sbin/policy-rc.d"
}

# A mirror's Release file may be past its date. The signatures are checked in either case.
update_lists() { # DIR
    inside "$1" apt-get -q update -o APT::Update::Error-Mode=any && return
    say "warning: apt-get update in the $SUITE root failed; once more without Acquire::Check-Valid-Until"
    inside "$1" apt-get -q update -o APT::Update::Error-Mode=any -o Acquire::Check-Valid-Until=false
}

fill() { # DIR
    update_lists "$1"
    inside "$1" env DEBIAN_FRONTEND=noninteractive apt-get -q -y install "${PACKAGES[@]}"
    inside "$1" apt-get clean
}

construct() { # DIR
    bootstrap "$1"
    fill "$1"
    works "$1" || die "the $SUITE root has no usable mysqld (8.4 or later is needed)"
}

works() { # DIR
    local version
    version=$(chroot "$1" /usr/sbin/mysqld --version 2>/dev/null | grep -oE 'Ver [0-9]+\.[0-9]+' || true)
    version=${version#Ver }
    [[ -n $version ]] || return 1
    ((${version%.*} * 100 + ${version#*.} >= 804)) &&
        [[ -e $1/usr/lib/mysql/plugin/component_keyring_file.so ]]
}

# --- the cache -------------------------------------------------------------------------------------

cache_dir() {
    local cache=${XDG_CACHE_HOME:-/var/cache}
    printf '%s/p11keyring-tests\n' "$cache"
}

# Changes with the recipe.
stamp() {
    {
        declare -p SUITE PACKAGES
        declare -f bootstrap fill
    } | sha256sum | cut -c 1-12
}

root_dir() { printf '%s/mysql-root-%s\n' "$(cache_dir)" "$(stamp)"; }

fresh() { # DIR
    [[ -n $(find "$1.complete" -mtime "-$MAX_AGE_DAYS" 2>/dev/null) ]] && works "$1"
}

# Whoever runs something in a root holds this lock shared.
in_use() { # DIR
    [[ -e $1.lock ]] && ! flock -xn "$1.lock" true
}

remove_root() { # DIR
    rm -rf --one-file-system "$1" "$1.complete" "$1.lock"
}

# Roots of other recipes, and what an interrupted build left. Called under the build lock.
remove_others() {
    local dir
    for dir in "$(cache_dir)"/mysql-root-*; do
        [[ -d $dir && $dir != "$(root_dir)" ]] || continue
        in_use "$dir" || remove_root "$dir"
    done
}

# Builds beside the final name and renames; a root that is merely old is kept if that fails.
build_root() {
    local dir new log
    dir=$(root_dir)
    new=$dir.new
    log=$new.log
    say "building the Debian $SUITE root with MySQL in $dir (about two minutes) ..."
    rm -rf --one-file-system "$new"
    if ! "$SELF" construct "$new" >"$log" 2>&1; then
        if [[ -e $dir.complete ]] && works "$dir"; then
            say "warning: rebuilding it failed (see $log); going on with the old one"
            return
        fi
        tail -n 25 "$log" >&2
        die "the $SUITE root could not be built" "see $log"
    fi
    remove_root "$dir"
    mv "$new" "$dir"
    touch "$dir.complete" "$dir.lock"
    grep '^warning:' "$log" >&2 || true
    rm -f "$log"
}

build() {
    ((EUID == 0)) || die "the MySQL tests need root (chroot and mount namespaces)"
    [[ -n $(command -v debootstrap) ]] || die "debootstrap is missing" "apt-get install debootstrap"
    mkdir -p "$(cache_dir)"
    exec 8>"$(cache_dir)/mysql-root.lock"
    flock 8
    fresh "$(root_dir)" && return
    ! in_use "$(root_dir)" || {
        say "warning: the root is stale, but in use: not rebuilt now"
        return
    }
    build_root
    remove_others
}

clean() {
    local dir
    for dir in "$(cache_dir)"/mysql-root-*; do
        [[ -d $dir ]] || continue
        ! in_use "$dir" || die "something runs in $dir"
        remove_root "$dir"
    done
    rm -f "$(cache_dir)"/mysql-root-*.log
}

# --- running in it ---------------------------------------------------------------------------------

# In a new mount namespace: kernel file systems, empty temporary folders, the folders to share. Ends
# by exec. Mount points under /tmp and /var/tmp vanish with the namespace, others stay, empty.
enter() { # DIR USER [SHARED-DIR...] -- COMMAND...
    local root=$1 user=$2
    shift 2
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    mount -t tmpfs -o mode=1777 tmpfs "$root/var/tmp"
    while [[ $1 != -- ]]; do
        mkdir -p "$root$1"
        mount --rbind "$1" "$root$1"
        shift
    done
    shift
    # shellcheck disable=SC2016 # expanded in the root
    exec chroot --userspec="$user:$(id -g "$user")" --groups= "$root" \
        /bin/sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$PWD" "$@"
}

# As root, and what the command leaves running ends with it.
inside() { # DIR COMMAND...
    local dir=$1
    shift
    unshare --mount --pid --fork --kill-child "$SELF" enter "$dir" root -- "$@"
}

existing_root() {
    [[ -e $(root_dir).complete ]] || die "there is no $SUITE root yet" "tests/lib/mysql_root.sh build"
    root_dir
}

run() { # [-b DIR]... [-u USER] [--] COMMAND...
    local dir user=root shared=() option
    dir=$(existing_root)
    while getopts "b:u:" option; do
        case $option in
        b) shared+=("$(realpath "$OPTARG")") ;;
        u) user=$OPTARG ;;
        *) exit 2 ;;
        esac
    done
    shift $((OPTIND - 1))
    exec 7>"$dir.lock"
    flock -s 7
    exec unshare --mount "$SELF" enter "$dir" "$user" "${shared[@]}" -- "$@"
}

compile() { # BUILDDIR [cmake option...]
    local source target=$1
    source=$(dirname "$SELF")/../..
    shift
    mkdir -p "$target"
    target=$(realpath "$target")
    source=$(realpath "$source")
    ("$SELF" run -b "$source" -b "$target" cmake -S "$source" -B "$target" "$@" &&
        "$SELF" run -b "$source" -b "$target" cmake --build "$target" -j "$(nproc)") \
        >"$target/compile.log" 2>&1 || {
        tail -n 40 "$target/compile.log" >&2
        die "the build in the $SUITE root failed" "see $target/compile.log"
    }
    # Shown, but no error: its compiler is newer than the one that the warnings are settled with.
    grep 'warning:' "$target/compile.log" >&2 || true
}

case ${1:-} in
build) build ;;
path) existing_root ;;
run) run "${@:2}" ;;
compile) compile "${@:2}" ;;
clean) clean ;;
construct) construct "$2" ;; # called by build
enter) enter "${@:2}" ;;     # called by inside and run
*)
    say "usage: mysql_root.sh build|path|clean"
    say "       mysql_root.sh run [-b DIR]... [-u USER] [--] COMMAND..."
    say "       mysql_root.sh compile BUILDDIR [cmake option...]"
    exit 2
    ;;
esac
