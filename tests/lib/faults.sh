# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception
# Faults at the token of a server under load, for servers of either make. Source mariadb.sh or
# mysql.sh first and say what the load is to do:
#
#   PROBE, UNDO        a statement that needs the token, with # for a new number, and what follows it
#   ADMIN              statements that are given now and then
#   known_keys NAME    (function) one line for each key that must never be lost
#   side_job NAME      (function) what is done from outside during a fault
#   may_have_ended NAME  (function) whether the server may have ended by itself
#   start_again NAME   (function) server_start, with what the server's own faults need
#
# then:
#
#   bank_new NAME          makes the tables that the load works on
#   load_start / load_end NAME
#   faults NAME SECONDS steady|kills
#   faults_summary NAME    prints what was done
#
# Faults, their order and length come from P11K_SEED, which is printed.
SEED=${P11K_SEED:-$((${EPOCHREALTIME/./} % 1000000))}
# Half of it without kills, half with them; at least one fault of each kind in each half.
# shellcheck disable=SC2034 # for the scripts
HALF=$((${P11K_FAULT_SECONDS:-2} / 2))
AWAY_SECONDS=${P11K_AWAY_SECONDS:-1}   # the longest absence
FIXED_ROWS=8000
DEADLINE=1 # seconds, of the configuration
export P11K_MOCK_COUNTS=$WORK/mock.counts

# Three waits one after the other, and seven seconds for a busy machine and for statements that ask the
# token many times.
STATEMENT_MS=$((DEADLINE * 3000 + 7000))

# --- the mock --------------------------------------------------------------------------------------

mock_count() { # COUNTER
    local at
    at=$(grep -aboP "$1\\x00" "$P11K_MOCK_COUNTS" | head -n 1 | tr -d '\0')
    od -An -tu8 -j $((${at%%:*} + 32)) -N 8 "$P11K_MOCK_COUNTS" | tr -d ' '
}

# --- the bank --------------------------------------------------------------------------------------

bank_new() { # NAME [TABLE-OPTIONS]
    local options=${2:-}
    sql "$1" "CREATE DATABASE bank CHARACTER SET utf8mb4; USE bank;
        CREATE TABLE accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL) $options;
        CREATE TABLE journal (teller INT, seq INT, giver INT, taker INT, amount INT,
            PRIMARY KEY (teller, seq)) $options;
        CREATE TABLE fixed (id INT PRIMARY KEY, txt TEXT, digest CHAR(64)) $options;
        INSERT INTO accounts WITH RECURSIVE s(i) AS
            (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 100) SELECT i, 0 FROM s;"
    fixed_rows "$1"
}

fixed_rows() { # NAME
    local i
    {
        echo "USE bank; BEGIN;"
        for ((i = 1; i <= FIXED_ROWS; i++)); do
            echo "INSERT INTO fixed SELECT $i, t, SHA2(t, 256) FROM (SELECT REPEAT(SHA2($i, 256), 12) t) x;"
        done
        echo "COMMIT;"
    } | sql "$1" ""
}

# The books balance: each account has what the journal says, and no row changed.
books_balance() { # NAME
    equal "100 0" "$(sql "$1" "SELECT COUNT(*), SUM(balance) FROM bank.accounts" | tr '\t' ' ')" \
        "accounts and their sum"
    equal 0 "$(sql "$1" "SELECT COUNT(*) FROM bank.accounts a WHERE balance <>
        (SELECT COALESCE(SUM(IF(taker = a.id, amount, -amount)), 0) FROM bank.journal
            WHERE giver = a.id OR taker = a.id)")" "accounts that differ from the journal"
    equal "$FIXED_ROWS" "$(sql "$1" "SELECT COUNT(*) FROM bank.fixed WHERE SHA2(txt, 256) = digest")" \
        "good rows"
    equal OK "$(sql "$1" "CHECK TABLE bank.fixed EXTENDED" | cut -f 4)" "CHECK TABLE"
}

# --- the load --------------------------------------------------------------------------------------

faults_dir() {
    mkdir -p "$WORK/$1.faults"
    echo "$WORK/$1.faults"
}

add_to() { # NAME COUNTER NUMBER
    local file
    file=$(faults_dir "$1")/$2
    echo $(($(cat "$file" 2>/dev/null || echo 0) + $3)) >"$file"
}

at_least() { # NAME COUNTER NUMBER
    local file
    file=$(faults_dir "$1")/$2
    [[ $(cat "$file" 2>/dev/null || echo 0) -ge $3 ]] || echo "$3" >"$file"
}

sum_of() { # NAME COUNTER
    cat "$(faults_dir "$1")/$2" 2>/dev/null || echo 0
}

load_start() { # NAME
    local dir
    dir=$(faults_dir "$1")
    end_process "$dir/load.pid" KILL
    [[ ! -e $dir/log ]] || cat "$dir/log" >>"$dir/all.log"
    : >"$dir/log"
    : >"$dir/calm"
    "$BUILD/tests/load/p11k_load" "$WORK/$1/socket" "$dir/log" "$SEED" "$FIXED_ROWS" "$PROBE" \
        "$UNDO" "${ADMIN[@]}" >"$dir/sums" 2>&1 &
    echo $! >"$dir/load.pid"
    recovered "$1" "$(now)" >/dev/null
    begin_calm "$1"
}

# Ends the load and judges it.
load_end() { # NAME
    local dir pid word
    dir=$(faults_dir "$1")
    end_calm "$1"
    pid=$(<"$dir/load.pid")
    kill "$pid"
    wait_gone "$pid" 90 || die "the load does not end"
    rm "$dir/load.pid"
    cat "$dir/sums"
    for word in $(<"$dir/sums"); do
        case $word in
        *_slowest=*) at_least "$1" "${word%=*}" "${word#*=}" ;;
        *) add_to "$1" "${word%=*}" "${word#*=}" ;;
        esac
    done
    lacks "$dir/log" "wrong "
    no_plain_failure "$dir/log"
    contains "$dir/sums" "wrong=0 stuck=0"
    nothing_slow "$1"
    no_error_in_calm "$1"
}

# What needs no key fails only with its connection (client.c knows those errors), or in a start with
# innodb_force_recovery.
no_plain_failure() { # LOG
    awk '/^(teller|reader) [1-9]/ && ($2 < 2000 || $2 > 2999) && $2 !~ /^(1053|1598|1881|1927)$/ {
        if (bad++ < 10) print } END { exit bad > 0 }' "$1" || die "these need no key and failed"
}

nothing_slow() { # NAME
    awk -v most="$((STATEMENT_MS * 1000))" '$4 - $3 > most { print; n++ } END { exit n > 0 }' \
        "$(faults_dir "$1")/log" || die "statements took longer than $STATEMENT_MS ms"
    local word
    for word in $(<"$(faults_dir "$1")/sums"); do
        [[ $word != *_slowest=* ]] || ((${word#*=} <= STATEMENT_MS)) || die "too slow: $word ms"
    done
}

# --- times -----------------------------------------------------------------------------------------

now() { echo "${EPOCHREALTIME/./}"; }

begin_calm() { now >"$(faults_dir "$1")/calm.since"; }

end_calm() { # NAME
    local dir
    dir=$(faults_dir "$1")
    [[ ! -s $dir/calm.since ]] || echo "$(<"$dir/calm.since") $(now)" >>"$dir/calm"
    rm -f "$dir/calm.since"
}

# Statements that began and ended while nothing was wrong with the token; 2006 is an earlier kill, 4085
# a purge of binary logs that met a rotation of another connection.
no_error_in_calm() { # NAME
    awk 'FNR == NR { from[NR] = $1; to[NR] = $2; n = NR; next }
        $2 != 0 && $2 != 2006 && $2 != 4085 { for (i = 1; i <= n; i++) if ($3 >= from[i] && $4 <= to[i]) { print; bad++ } }
        END { exit bad > 0 }' "$(faults_dir "$1")/calm" "$(faults_dir "$1")/log" ||
        die "these failed although the token was there"
}

# Milliseconds from SINCE, or from the first probe after it, to the first one that worked.
recovery() { # NAME SINCE
    awk -v since="$2" '$1 == "probe" && $4 > since {
            if (!from) from = $3 > since ? $3 : since
            if ($2 == 0) { print int(($4 - from) / 1000); found = 1; exit }
        } END { exit !found }' "$(faults_dir "$1")/log"
}

recovered() { # NAME SINCE
    local end=$((SECONDS + 40))
    until recovery "$1" "$2"; do
        ((SECONDS < end)) || die "no probe works: $(tail -n 3 "$(faults_dir "$1")/log")"
        sleep 0.05
    done
}

# Milliseconds that the server itself may need on a busy machine: the slowest probe in calm, or the
# slowest statement since then that needs no token.
busy_ms() { # NAME SINCE
    awk -v since="$2" '
        FNR == NR { from[NR] = $1; to[NR] = $2; n = NR; next }
        $1 == "probe" && $2 == 0 { for (i = 1; i <= n; i++)
            if ($3 >= from[i] && $4 <= to[i] && $4 - $3 > most) most = $4 - $3 }
        ($1 == "teller" || $1 == "reader") && $4 > since && $4 - $3 > most { most = $4 - $3 }
        END { print int(most / 1000) }' "$(faults_dir "$1")/calm" "$(faults_dir "$1")/log"
}

# --- faults ----------------------------------------------------------------------------------------

CKRS=0x2,0x3,0x5,0x6,0x30,0x31,0x32,0x50,0x82,0x90,0x91,0xb0,0xb1,0xb3,0xe0,0xe1,0x101,0x190,0x1a0,0x80000001
OPERATIONS=C_GenerateRandom,C_GenerateKey,C_EncryptInit,C_Encrypt,C_DecryptInit,C_Decrypt

# Lines "FAULT MILLISECONDS KILL RULES" (see tests/mock/control.h), enough for SECONDS: each kind once
# before any comes again, and with KILLS every third of them with a kill at a random moment.
fault_plan() { # SECONDS KILLS
    awk -v seed="$SEED" -v seconds="$1" -v kills="$2" -v away="$AWAY_SECONDS" -v ckrs="$CKRS" \
        -v operations="$OPERATIONS" '
        function below(n) { return int(rand() * n) }
        function rules(fault,    gone) {
            split("slot-gone|token-gone|chaos " below(1e6) " 1000 * 0x32", gone, "|")
            if (fault == "away") return gone[1 + below(3)]
            if (fault == "hang") return "hang *"
            if (fault == "delay") return "delay * " 1 + below(10)
            if (fault == "single") return "chaos " below(1e6) " 50 * " ckrs
            if (fault == "throttle") return "chaos " below(1e6) " 500 " operations " 0x30,delay=20"
            if (fault == "general") return "chaos " below(1e6) " 300 " operations " 0x5"
            return "chaos " below(1e6) " 100 * lose-session"
        }
        function one(fault,    most, ms, kill) {
            most = fault == "away" || away < 10 ? away : 10
            ms = 400 + below(most * 1000 - 400)
            kill = kills && n_th++ % 3 == 1
            if (kill) ms = below(ms)
            print fault, ms, kill, rules(fault)
            return ms + 500
        }
        BEGIN {
            srand(seed)
            n = split("away hang delay single throttle lost general", f)
            while (sum < seconds * 1000)
                for (i = n; i > 0; i--) {
                    j = 1 + below(i)
                    swap = f[i]; f[i] = f[j]; f[j] = swap
                    sum += one(f[i])
                }
        }'
}

one_fault() { # NAME FAULT MILLISECONDS KILL RULES
    local job since from injected
    injected=$(mock_count injected)
    end_calm "$1"
    from=$(now)
    mock_rules "$5"
    side_job "$1" &
    job=$!
    pause "$3"
    (($4 == 0)) || server_kill "$1"
    mock_rules ""
    since=$(now)
    wait "$job"
    add_to "$1" faults 1
    ! was_felt "$1" "$from" "$injected" || add_to "$1" felt 1
    if server_lives "$1" "$4"; then
        back_in_time "$1" "$2" "$since"
    else
        start_again "$1"
        recovered "$1" "$since" >/dev/null
    fi
    begin_calm "$1"
    pause 300
}

# The fault changed what a call returned, or what became of a probe.
was_felt() { # NAME SINCE INJECTED-BEFORE
    (($(mock_count injected) > $3)) ||
        awk -v since="$2" '$1 == "probe" && $4 > since && ($2 != 0 || $4 - $3 > 200000) { n++ }
            END { exit !n }' "$(faults_dir "$1")/log"
}

# False after a kill, or after MySQL's own rule, which may come before the kill; a server that ended
# otherwise is a failure.
server_lives() { # NAME KILLED
    if (($2)); then
        add_to "$1" kills 1
        may_have_ended "$1" || keep_log "$1"
    elif alive "$(server_pid "$1")"; then
        return
    elif may_have_ended "$1"; then
        add_to "$1" ended_by_rule 1
    else
        tail -n 30 "$(server_log "$1")"
        die "the server ended"
    fi
    return 1
}

back_in_time() { # NAME FAULT SINCE
    local took
    took=$(recovered "$1" "$3")
    at_least "$1" recovery_slowest "$took"
    ((took <= 2000 + $(busy_ms "$1" "$3"))) || die "$2: back after $took ms only"
}

keep_log() { cat "$(server_log "$1")" >>"$(faults_dir "$1")/error.log"; }

# A start that start_again has seen to may have ended so, and once more when it replayed the log.
log_is_clean() { # NAME
    local log half_made
    log=$(faults_dir "$1")/error.log
    half_made=$(sum_of "$1" half_made)
    keep_log "$1"
    if ((half_made == 0)); then
        ! grep -aE 'got signal|got exception|[Aa]ssert|corrupt|\[FATAL\]' "$log" || die "see above"
    else
        (($(grep -ac 'got signal' "$log") <= 2 * half_made)) || die "more aborts than half-made tables"
    fi
}

no_key_lost() { # NAME
    local dir
    dir=$(faults_dir "$1")
    known_keys "$1" >"$dir/keys.now"
    touch "$dir/keys"
    if grep -vxF -f "$dir/keys.now" "$dir/keys"; then die "these keys are lost"; fi
    cp "$dir/keys.now" "$dir/keys"
}

# All of a plan. A steady server has at the end what it had after a third of it, see server_size.
faults() { # NAME SECONDS steady|kills
    local dir fault ms kill rules kills=0 n=0 before=
    dir=$(faults_dir "$1")
    [[ $3 != kills ]] || kills=1
    fault_plan "$2" "$kills" >"$dir/plan"
    load_start "$1"
    no_key_lost "$1"
    while read -r fault ms kill rules <&3; do
        echo "$fault for $ms ms, kill $kill: $rules"
        one_fault "$1" "$fault" "$ms" "$kill" "$rules"
        no_key_lost "$1"
        n=$((n + 1))
        ((n * 3 < $(wc -l <"$dir/plan"))) || before=${before:-$(server_size "$1")}
    done 3<"$dir/plan"
    [[ $3 != steady ]] || stays_flat "$1" "$before"
    load_end "$1"
    books_balance "$1"
}

# --- memory, threads, files, sessions --------------------------------------------------------------

# Resident memory in KiB, threads and open files of the server, and sessions open at the token.
server_size() { # NAME
    local pid
    pid=$(server_pid "$1")
    awk '/^VmRSS|^Threads/ { printf "%s ", $2 }' "/proc/$pid/status"
    echo "$(find "/proc/$pid/fd" -mindepth 1 | wc -l) $(mock_count sessions-open)"
}

stays_flat() { # NAME SIZE-BEFORE
    local after
    after=$(server_size "$1")
    echo "memory, threads, files, sessions $2, at the end $after" | tee "$(faults_dir "$1")/size"
    awk -v before="$2" -v after="$after" 'BEGIN { split(before, b); split(after, a)
        exit !(a[1] <= b[1] + 32768 && a[2] <= b[2] + 8 && a[3] <= b[3] + 32 && a[4] <= b[4] + 8) }' ||
        die "the server grew"
}

# --- what else can happen --------------------------------------------------------------------------

# After a kill, a start while the token is away says so; with the token back all is there.
refused_start() { # NAME
    load_start "$1"
    end_calm "$1"
    server_kill "$1"
    keep_log "$1"
    mock_rules token-gone
    server_refuses "$1" "no token matches"
    mock_rules ""
    server_start "$1"
    recovered "$1" "$(now)" >/dev/null
    begin_calm "$1"
    no_key_lost "$1"
    load_end "$1"
    books_balance "$1"
}

put_pin() { # PIN
    printf '%s' "$1" >"$KEYRING/pin.new"
    chmod 600 "$KEYRING/pin.new"
    own "$KEYRING/pin.new"
    mv "$KEYRING/pin.new" "$KEYRING/pin"
}

no_session_left() { (($(mock_count sessions-open) == 0)); }

attempts_reach() { (($(mock_count C_Login) >= $1)); }

# The token is lost while its PIN file is wrong: one attempt, and none until the file is put right.
wrong_pin() { # NAME
    local pin before since took ADMIN=("SELECT 1") # a new binary log would end mysqld, by its rule
    pin=$(<"$KEYRING/pin")
    load_start "$1"
    end_calm "$1"
    put_pin "wrong-$pin"
    before=$(mock_count C_Login)
    mock_rules slot-gone
    eventually 20 no_session_left
    mock_rules ""
    eventually 20 attempts_reach $((before + 1))
    sleep 2
    equal $((before + 1)) "$(mock_count C_Login)" "attempts to log in"
    contains "$(server_log "$1")" CKR_PIN_INCORRECT
    put_pin "$pin"
    since=$(now)
    took=$(recovered "$1" "$since")
    ((took <= 2000 + $(busy_ms "$1" "$since"))) || die "back after $took ms only"
    equal $((before + 2)) "$(mock_count C_Login)" "attempts to log in"
    begin_calm "$1"
    load_end "$1"
}

# --- the sum ---------------------------------------------------------------------------------------

faults_summary() { # NAME
    local name=$1 counter
    printf '%s, seed %s:' "$name" "$SEED"
    for counter in faults felt kills ended_by_rule half_made statements wrong lost probes probes_failed admin \
        admin_failed; do
        printf ' %s %s,' "${counter//_/ }" "$(sum_of "$name" "$counter")"
    done
    for counter in plain probes admin recovery; do
        printf ' %s at most %s ms,' "$counter" "$(sum_of "$name" "${counter}_slowest")"
    done
    printf ' injected %s, wrong PINs %s; %s\n' "$(mock_count injected)" "$(mock_count wrong-pins)" \
        "$(cat "$(faults_dir "$name")/size" 2>/dev/null)"
}

# The test did something: most faults were felt, and some kills fell into one.
enough_faults() { # NAME
    local faults felt
    faults=$(sum_of "$1" faults)
    felt=$(sum_of "$1" felt)
    ((faults >= 10 && felt * 3 >= faults)) || die "only $felt of $faults faults were felt"
    (($(sum_of "$1" kills) > 0)) || die "no kill fell into a fault"
    (($(sum_of "$1" probes) >= faults)) || die "the load did not run"
    equal 1 "$(mock_count wrong-pins)" "logins with a wrong PIN, in all"
}
