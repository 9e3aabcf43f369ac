#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# The audit log as an auditor meets it.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
token_up audit
cp -p "$KEYRING/pin" "$KEYRING/good-pin"
LOG=$KEYRING/keyring/audit.log

set_option() { # OPTION VALUE
    sed -i "/^$1 = /d; s|^\[keyring\]|&\n$1 = $2|" "$P11KEYRING_CONF"
}

without_a_log() {
    tool master create >/dev/null
    refuses 1 "no audit log is configured" "audit-log" audit show
    refuses 1 "no audit log is configured" "audit-log" audit verify
    set_option audit-log syslog
    refuses 1 "goes to syslog" "oldest first" audit verify
    set_option audit-log "$LOG"
}

events() { # of the log, all of them
    jq -r '.event + ":" + .outcome + (if .id then ":" + .id else "" end)' "$LOG" | tr '\n' ' '
}

operations_are_recorded() {
    expect 0 key create 1
    expect 0 key rotate 1
    expect 0 key disable 1
    expect 7 key rotate 1
    expect 0 key enable 1
    equal "log-start:ok keyring-open:begun token-login:ok keyring-open:ok key-create:ok:1" \
        "$(events | cut -d' ' -f1-5)" "the first events"
    equal "key-create:ok key-rotate:ok key-disable:ok key-rotate:failed key-enable:ok" \
        "$(jq -r 'select(.id) | .event + ":" + .outcome' "$LOG" | xargs)" "events of the key"
    equal 640 "$(stat -c %a "$LOG")" "mode"
    equal nobody "$(stat -c %U "$LOG")" "owner"
    equal "$(jq -s length "$LOG")" "$(jq -r .seq "$LOG" | tail -1)" "number of the last record"
}

# The hashes again, by a program that shares no code with ours.
an_independent_check_agrees() {
    local line prev=0000000000000000000000000000000000000000000000000000000000000000
    while read -r line; do
        equal "$prev" "$(jq -r .prev <<<"$line")" "link"
        prev=$(jq -cjS 'del(.hash)' <<<"$line" | sha256sum | cut -d' ' -f1)
        equal "$prev" "$(jq -r .hash <<<"$line")" "hash"
    done < <(head -12 "$LOG")
}

shown() {
    local day
    day=$(date -u +%Y-%m-%d)
    expect 0 audit show
    grep -qE '^ *SEQ +TIME +EVENT +OUTCOME +USER +PROGRAM +SUBJECT' "$OUT" || die "$(head -1 "$OUT")"
    contains "$OUT" "mariadb 1 version 3"
    contains "$OUT" "is disabled"
    expect 0 audit show --event key-rotate --json
    is_json p11keyring.audit.show/1
    equal "ok failed" "$(json '[.records[].outcome] | join(" ")')" "rotations"
    expect 0 audit show --since "$day" --event key-create --json
    equal 1 "$(json '.records | length')" "records of today"
    expect 0 audit show --since 2199-01-01 --json
    equal 0 "$(json '.records | length')" "records to come"
    refuses 2 "--since" "2026-01-31" audit show --since yesterday
}

verified() {
    expect 0 audit verify
    contains "$OUT" "ok: the chain is whole"
    expect 0 audit verify --json
    is_json p11keyring.audit.verify/1
    equal "0 1 0" "$(json '"\(.damage | length) \(.first) \(.torn_count)"')" "verdict"
    # The keystore knows the last change; what came after it is said to be later.
    equal "$(jq -r 'select(.event == "key-enable") | .seq' "$LOG")" "$(json .anchor)" "anchor"
    equal "$(jq -s length "$LOG")" "$(json '.anchor + .after_anchor_count')" "the last record"
}

# Runs with a copy of the log that a filter has edited, and puts it back.
with_edited() { # FILTER-COMMAND EXIT-CODE TEXT
    cp -p "$LOG" "$WORK/log.saved"
    cp -p "$LOG.head" "$WORK/head.saved"
    eval "$1" <"$WORK/log.saved" >"$LOG"
    expect "$2" audit verify
    contains "$OUT" "$3"
    expect "$2" audit verify --json
    cp -p "$WORK/log.saved" "$LOG"
    cp -p "$WORK/head.saved" "$LOG.head"
}

damage_is_told_by_line() {
    with_edited "sed '7s/\"ok\"/\"no\"/'" 6 "audit.log:7: its content does not fit its hash"
    with_edited "sed 6d" 6 "audit.log:6: records 6 to 6 are missing before it"
    with_edited "sed '4s/.*/nonsense/'" 6 "audit.log:4: it is no JSON object"
    # Whoever cuts the end off and tidies up beside it is betrayed by the keystore.
    with_edited "rm $LOG.head; head -5" 6 "which the keystore knows"
    expect 0 audit verify
}

forge() {
    local line prev=0000000000000000000000000000000000000000000000000000000000000000
    rm "$LOG.head"
    while read -r line; do
        line=$(jq -cS --arg prev "$prev" 'del(.hash) | .prev = $prev | .actor.uid = 4711' <<<"$line")
        prev=$(printf %s "$line" | sha256sum | cut -d' ' -f1)
        jq -cS --arg hash "$prev" '.hash = $hash' <<<"$line"
    done
}

# A chain that is made anew from the start is whole, but not the one that the keystore knows.
a_forged_chain_is_told() {
    with_edited forge 6 "is not the one that the keystore knows"
    expect 0 audit verify
}

rotated_logs_are_read_in_order() {
    mv "$LOG" "$LOG.1"
    expect 0 key rotate 1
    equal log-continue "$(head -1 "$LOG" | jq -r .event)" "first event of the new file"
    expect 3 audit verify
    contains "$OUT" "not checked: records 1 to"
    expect 0 audit verify "$LOG.1" "$LOG"
    expect 6 audit verify "$LOG" "$LOG.1"
    cat "$LOG" >>"$LOG.1" && mv "$LOG.1" "$LOG" && own "$LOG"
    expect 0 audit verify
}

# "ok" is never said of what was not checked.
without_the_token() {
    mv "$KEYRING/tokens" "$KEYRING/tokens.away"
    as_server mkdir "$KEYRING/tokens"
    expect 3 audit verify
    contains "$OUT" "not checked: the end of the log"
    lacks "$OUT" "ok:"
    rmdir "$KEYRING/tokens"
    mv "$KEYRING/tokens.away" "$KEYRING/tokens"
    equal failed "$(jq -r 'select(.event == "keyring-open") | .outcome' "$LOG" | tail -1)" "outcome"
    expect 0 audit verify
}

a_refused_pin_is_recorded() {
    printf 0000000000 >"$KEYRING/pin"
    expect 5 key rotate 1
    equal "failed auth" "$(jq -r 'select(.event == "token-login") | .outcome + " " + .error.class' \
        "$LOG" | tail -1)" "login"
    cp -p "$KEYRING/good-pin" "$KEYRING/pin"
    expect 0 token unguard
    equal "begun ok" "$(jq -r 'select(.event == "token-unguard") | .outcome' "$LOG" | xargs)" "unguard"
}

require_refuses() {
    set_option audit-policy require
    mv "$LOG" "$LOG.aside"
    as_server mkdir "$LOG"
    refuses 7 "audit-policy = require" "" key rotate 1
    rmdir "$LOG"
    mv "$LOG.aside" "$LOG"
    set_option audit-policy warn
    expect 0 key rotate 1
}

warn_goes_on() {
    mv "$LOG" "$LOG.aside"
    as_server mkdir "$LOG"
    expect 0 key rotate 1
    contains "$ERR" "warning: the audit log cannot be written, and events go unrecorded"
    equal 1 "$(grep -c "audit log cannot be written" "$ERR")" "warnings"
    rmdir "$LOG"
    mv "$LOG.aside" "$LOG"
}

status_and_doctor_tell() {
    expect 0 status
    grep -qE "^audit log +$LOG$" "$OUT" || die "no audit log in: $(<"$OUT")"
    expect 0 status --json
    equal "true true" "$(json '"\(.audit_writable) \(.audit_last > 10)"')" "audit log"
    mv "$LOG" "$LOG.aside"
    as_server mkdir "$LOG"
    tool doctor --json >"$OUT" 2>"$ERR" || true
    equal warning "$(json '.checks[] | select(.check == "audit log") | .result')" "verdict"
    expect 3 status
    contains "$ERR" "the audit log cannot be written"
    rmdir "$LOG"
    mv "$LOG.aside" "$LOG"
}

no_secret_inside() {
    lacks "$LOG" "$(<"$KEYRING/good-pin")"
    lacks "$LOG" "$(<"$KEYRING/so-pin")"
    cp "$LOG" "$WORK/planted"
    cat "$KEYRING/good-pin" >>"$WORK/planted"
    contains "$WORK/planted" "$(<"$KEYRING/good-pin")"
}

master_keys_are_recorded() {
    expect 0 master rotate
    local old
    old=$(jq -r 'select(.event == "master-rotate" and .outcome == "ok") | .master' "$LOG")
    equal "p11keyring:test:2" "$old" "new master key"
    equal ok "$(jq -r 'select(.event == "rewrap") | .outcome' "$LOG")" "rewrap"
    expect 0 master retire p11keyring:test:1 --without-evidence --confirm p11keyring:test:1
    equal "begun ok" "$(jq -r 'select(.event == "master-retire") | .outcome' "$LOG" | xargs)" "retire"
    equal "without evidence of use" "$(jq -r 'select(.event == "master-retire") | .detail' "$LOG" |
        sort -u)" "the grounds"
    expect 0 audit verify
}

check "without a log the commands say so" without_a_log
check "operations are recorded, with who and when" operations_are_recorded
check "jq and sha256sum come to the same hashes" an_independent_check_agrees
check "the log is shown, by time and event" shown
check "a whole chain verifies up to what the keystore knows" verified
check "damage is told by its line" damage_is_told_by_line
check "a chain made anew is told" a_forged_chain_is_told
check "rotated logs are read in order" rotated_logs_are_read_in_order
check "without the token only the chain is checked" without_the_token
check "a refused PIN and its guard are recorded" a_refused_pin_is_recorded
check "audit-policy = require refuses" require_refuses
check "audit-policy = warn goes on and says so" warn_goes_on
check "status and doctor tell how the log stands" status_and_doctor_tell
check "the life of master keys is recorded" master_keys_are_recorded
check "no secret is in the log" no_secret_inside
finish
