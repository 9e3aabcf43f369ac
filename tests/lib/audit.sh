# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The audit log that a server of either make and the tool write. Source mariadb.sh or mysql.sh first.
#
#   audit_on               gives the selected keyring a log, $(audit_log)
#   audit_story            prints it, "PROGRAM EVENT OUTCOME[ ID]" a line, without what begins
#   has_in_order FILE LINE...
#   audit_verified         it is one whole chain without the PIN

audit_log() { echo "$KEYRING/keyring/audit.log"; }

audit_on() { sed -i "s|^\[keyring\]|&\naudit-log = $(audit_log)|" "$P11KEYRING_CONF"; }

audit_story() {
    jq -r 'select(.outcome != "begun") | .actor.program + " " + .event + " " + .outcome +
        (if .id then " \(.id)" else "" end)' "$(audit_log)"
}

has_in_order() { # FILE LINE...
    local line at=0 found
    for line in "${@:2}"; do
        found=$(tail -n +$((at + 1)) "$1" | grep -nxF -- "$line" | sed -n '1s/:.*//p') ||
            die "no '$line' behind line $at of: $(<"$1")"
        at=$((at + found))
    done
}

audit_verified() {
    tool audit verify >"$WORK/verdict" || die "$(<"$WORK/verdict")"
    lacks "$(audit_log)" "$(<"$KEYRING/pin")"
}
