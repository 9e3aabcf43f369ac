#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# benchmark: its form, what it leaves alone, and how it ends early. P11K_GOLDEN=write renews the
# golden file.
# shellcheck source=tests/cli/cli.sh
source "$(dirname "$0")/cli.sh"
mock_keyring bench
sed -i 's/^timeout = .*/timeout = 3000/' "$P11KEYRING_CONF"

# Numbers other than sizes and sessions become N; blanks shrink.
masked() {
    sed -E 's|/.*/files|DIR|; s/  +/ /g; s/ +$//; s/ (in cache|direct) / WHERE /; s/\b[0-9]+\.[0-9.]+\b/N/g; s/^(processors|processor has) .*/\1 N/; s/^([0-9]+ (un)?wrap) [0-9]+/\1 N/' "$OUT"
}

tables_are_golden() {
    expect 0 benchmark token pages bulk --seconds 0.05 --sessions 1,3 --size 1 --threads 2 \
        --directory "$WORK/files"
    [[ -z ${P11K_GOLDEN:-} ]] || masked >"$GOLDEN/benchmark.txt"
    diff -u "$GOLDEN/benchmark.txt" <(masked)
    equal "" "$(grep -v "page cache\|callers had" "$ERR")" "standard error"
}

json_has_the_same() {
    expect 0 benchmark --seconds 0.05 --sessions 2 --size 1 --threads 1 --directory "$WORK/files" --json
    is_json p11keyring.benchmark/1
    equal "bench bench aes-gcm false" \
        "$(json '"\(.token.name) \(.token.label) \(.token.mechanism) \(.interrupted)"')" "result"
    equal "unwrap wrap" "$(json '[.token.rates[].operation] | join(" ")')" "operations"
    json '.token.rates | all(.sessions == 2 and .sessions_open >= 1 and .operations > 0 and
        .per_second > 0 and .p50_us > 0 and .p99_us >= .p50_us)' >/dev/null
    json '.pages | length > 30 and all(.one_page > 0 and .streaming > 0 and .new_context > 0)' \
        >/dev/null
    equal "256 4096 16384 65536" "$(json '[.pages[].size] | unique | join(" ")')" "sizes"
    json '.pages | all((.many_pages == null) == (.cipher | endswith("GCM")))' >/dev/null
    equal "$WORK/files 1048576" "$(json '"\(.bulk.directory) \(.bulk.size)"')" "file"
    json '.bulk.rates | length == 7 and
        all(.threads == 1 and .gb_per_second > 0 and .gb_per_cpu_second > 0)' >/dev/null
    json '.lockstep == "on" and .processors > 0 and (.openssl | length > 4)' >/dev/null
}

calls_that_write() {
    local name sum=0
    for name in C_CreateObject C_GenerateKey C_GenerateKeyPair C_SetAttributeValue C_DestroyObject; do
        sum=$((sum + $(mock_calls "$name")))
    done
    echo "$sum"
}

writes_nothing() {
    local before writes wraps
    tool key create 7 >/dev/null
    before=$(keyring_digest)
    writes=$(calls_that_write)
    wraps=$(mock_calls C_Encrypt)
    expect 0 benchmark token --seconds 0.2 --sessions 1,2
    equal "$before" "$(keyring_digest)" "the keystore's folder"
    equal "$writes" "$(calls_that_write)" "calls that change the token"
    wraps=$(($(mock_calls C_Encrypt) - wraps))
    ((wraps > 0 && wraps <= 2 * (1024 + 2))) || die "$wraps wraps"
}

# Each call of the token takes so long that the machine's speed does not matter.
sessions_work_together() {
    mock_rules "delay C_Decrypt 20"
    expect 0 benchmark token --seconds 1 --sessions 1,8 --json
    mock_rules ""
    json '[.token.rates[] | select(.operation == "unwrap") | .per_second] | .[1] > 2 * .[0]' \
        >/dev/null || die "8 sessions are not faster: $(<"$OUT")"
    json '[.token.rates[] | select(.operation == "unwrap") | .p50_us] | all(. >= 20000)' >/dev/null
}

few_sessions_are_told() {
    mock_rules "limit-sessions 2"
    expect 0 benchmark token --seconds 0.2 --sessions 1,4 --json
    mock_rules ""
    contains "$ERR" "4 callers had"
}

interrupt() {
    local before
    before=$(mock_calls C_Decrypt)
    background "${AS_SERVER[@]}" "$WORK/bin/p11keyring" benchmark --seconds 60 --sessions 1 --json \
        >"$OUT" 2>"$ERR"
    eventually 20 more_decrypts "$before"
    kill -TERM "$background_pid" # bash has its background jobs ignore SIGINT
    fails_with 8 wait "$background_pid"
    contains "$ERR" "the result is not complete"
    equal "true 0" "$(json '"\(.interrupted) \(.token.rates | length)"')" "result"
}

more_decrypts() { (($(mock_calls C_Decrypt) > $1 + 10)); }

without_configuration() {
    expect 0 benchmark pages --seconds 0.05 --config /dev/null
    contains "$OUT" "aes256-ctr"
    P11KEYRING_CONF=$WORK/empty.conf TMPDIR=$WORK/files expect 0 benchmark --seconds 0.05 --size 1 \
        --json
    contains "$ERR" "the token is left out"
    equal null "$(jq .token "$OUT")" "token"
    P11KEYRING_CONF=$WORK/empty.conf expect 1 benchmark token
    contains "$ERR" "no PKCS#11 module is configured"
}

failures() {
    refuses 1 "there is no keystore" "master create" benchmark --keystore "$KEYRING/keyring/none"
    token_away
    refuses 4 "" "token list" benchmark token
    refuses 4 "" "token list" benchmark
    token_back
    mock_rules "fail C_Decrypt 0x30"
    refuses 4 "CKR_DEVICE_ERROR" "" benchmark token
    mock_rules ""
    cp "$KEYRING/so-pin" "$KEYRING/pin"
    refuses 5 "" "" benchmark token
    cp "$KEYRING/good-pin" "$KEYRING/pin"
}

# Files without a name take their place only as long as they are open.
leaves_no_file() {
    expect 0 benchmark bulk --size 1 --directory "$WORK/files"
    equal "" "$(ls -A "$WORK/files")" "files that were left"
    refuses 1 "cannot make a temporary file in $WORK/none: No such file" "--directory" \
        benchmark bulk --directory "$WORK/none"
}

interrupt_bulk() {
    background "${AS_SERVER[@]}" "$WORK/bin/p11keyring" benchmark bulk --size 1024 --json \
        --directory "$WORK/files" --progress=none >"$OUT" 2>"$ERR"
    eventually 20 has_written "$background_pid"
    kill -TERM "$background_pid"
    fails_with 8 wait "$background_pid"
    equal true "$(json .interrupted)" "interrupted"
    equal "" "$(ls -A "$WORK/files")" "files that were left"
}

has_written() { # PID
    (($(sed -n 's/^write_bytes: //p; s/^wchar: //p' "/proc/$1/io" | sort -n | tail -1) > 1 << 20))
}

usage() {
    local list
    refuses 2 "takes the parts token" "" benchmark tokens
    for list in 0 1,1 2,1 65 a '1,' ,1 1,2x 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17; do
        refuses 2 "--sessions is a list of rising numbers" "1,2,4,8" benchmark token --sessions "$list"
    done
    for list in 0 0.001 -1 x 1x 3601 nan inf; do
        refuses 2 "--seconds is a number" "" benchmark pages --seconds "$list"
    done
    refuses 2 "--size is a number" "" benchmark bulk --size 0
    refuses 2 "--threads is a number" "" benchmark bulk --threads 65
    refuses 2 "no token 'other' is configured" "" benchmark token --token other
}

: >"$WORK/empty.conf"
mkdir "$WORK/files"
own "$WORK/files"
check "the tables are as they were" tables_are_golden
check "JSON has the same, and where it was measured" json_has_the_same
check "neither token nor keystore is changed, and wraps are few" writes_nothing
check "several sessions work at the same time" sessions_work_together
check "a token with fewer sessions than asked for is told" few_sessions_are_told
check "a signal ends it at once, with exit code 8 and what there is" interrupt
check "the bulk part leaves no file" leaves_no_file
check "a signal ends the bulk part, too, and no file is left" interrupt_bulk
check "ciphers are measured without a configuration" without_configuration
check "usage errors are refused" usage
check "no keyring, no token, a broken one, a wrong PIN: each its exit code" failures
finish
