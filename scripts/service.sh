# shellcheck shell=bash
#
# What the scripts that run services have in common; it is sourced.
#
# A service is a directory: its configuration, its data, port, pid and log.
# Every process that works for it has that directory in its environment, as
# FLAVORSYNC_SERVICE=DIRECTORY/, by which it is found again even when the
# script that started it was killed before it could write a pid down.

# SCRIPT is the script's, for its messages.
SCRIPT=${0##*/}

# CACHE is where what takes long to make is kept between runs; empty: nowhere.
CACHE=${FLAVORSYNC_CACHE-${XDG_CACHE_HOME:-$HOME/.cache}/flavorsync}

say() { printf '%s: %s\n' "$SCRIPT" "$*" >&2; }
die() { say "$*"; exit 1; }

# cache_key TEXT...: a name for what is made from those texts, and from the
# installed versions of the packages in PACKAGES.
cache_key() {
    {
        printf '%s\n' "$@"
        dpkg-query -W -f '${Package} ${Version}\n' "${PACKAGES[@]}" 2>/dev/null || true
    } | sha256sum | cut -c 1-20
}

# cached KEPT TO: a copy of what an earlier run has kept; fails if there is none,
# or no CACHE is wanted.
cached() {
    [ -n "$CACHE" ] && [ -d "$1" ] || return 1
    cp -a "$1" "$2" 2>/dev/null || { rm -rf "$2"; return 1; }
}

# cache FROM KEPT: keep a copy of directory FROM as KEPT, whole or not at all.
# What nobody has made anew for a month is let go.
cache() {
    [ -n "$CACHE" ] || return 0
    local part=$CACHE/.part.$BASHPID
    mkdir -p "$CACHE"
    if cp -a "$1" "$part"; then mv -T "$part" "$2" 2>/dev/null || true; fi
    rm -rf "$part"
    find "$CACHE" -mindepth 1 -maxdepth 1 -ctime +30 -exec rm -rf {} +
}

# processes DIRECTORY: the pids of all that works for it or below it.
processes() {
    local found
    found=$(grep -lszF -- "FLAVORSYNC_SERVICE=$1/" /proc/[0-9]*/environ || true)
    for found in $found; do
        found=${found#/proc/}
        echo "${found%/environ}"
    done
}

# pid_of DIRECTORY: the pid of the service's first process, if it runs.
pid_of() {
    local pid
    pid=$(cat "$1/pid" 2>/dev/null) && [ -n "$pid" ] &&
        grep -qszF -- "FLAVORSYNC_SERVICE=$1/" "/proc/$pid/environ" && echo "$pid"
}

# parent PID
parent() { sed -n 's/^PPid:\t//p' "/proc/$1/status" 2>/dev/null || true; }

# stop [--now] DIRECTORY...: end all that works for these directories. Only the
# first process of each is asked: it knows how to end the others. What has not
# gone after 15 s, or with --now everything at once, is killed.
stop() {
    local now='' dir pid i pids=() left
    [ "$1" != --now ] || { now=yes; shift; }
    for dir; do
        for pid in $(processes "$dir"); do
            [ "$pid" = $$ ] || pids+=("$pid")
        done
    done
    if [ -z "$now" ]; then
        for pid in "${pids[@]}"; do
            [[ " ${pids[*]} " == *" $(parent "$pid") "* ]] || kill "$pid" 2>/dev/null || true
        done
        for ((i = 0; i < 150; i++)); do
            left=()
            for pid in "${pids[@]}"; do [ ! -d "/proc/$pid" ] || left+=("$pid"); done
            [ ${#left[@]} -gt 0 ] || break
            sleep 0.1
        done
    fi
    # Twice, for what was just being started.
    for i in 1 2; do
        for dir; do
            for pid in $(processes "$dir"); do
                [ "$pid" = $$ ] || kill -KILL "$pid" 2>/dev/null || true
            done
        done
    done
    for dir; do rm -f "$dir/pid"; done
}

# listening PORT: whether somebody accepts connections there.
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port: one that nobody listens at, below those that the kernel gives to
# outgoing connections. Somebody may still be faster: start_at tries again.
free_port() {
    local port
    while port=$((20000 + SRANDOM % 12000)); listening "$port"; do :; done
    echo "$port"
}

# start_at DIRECTORY READY PREPARE [ARGUMENT...]: run a service at the port that
# is in its directory, if one is, and return when its log says READY, so that
# the port is its own. The function PREPARE DIRECTORY PORT ARGUMENT... writes
# its configuration and puts its command into COMMAND. Where a file "chosen"
# lies beside the port, another one may be taken instead.
start_at() {
    local dir=$1 ready=$2 prepare=$3 port pid tries i; shift 3
    local -a COMMAND
    ! pid_of "$dir" >/dev/null || return 0
    # What a killed one has left behind stands in the way.
    [ -z "$(processes "$dir")" ] || stop --now "$dir"
    for ((tries = 0; tries < 20; tries++)); do
        port=$(cat "$dir/port" 2>/dev/null || true)
        if [ -n "$port" ] && listening "$port"; then
            [ -e "$dir/chosen" ] || die "port $port is taken: cannot start ${dir##*/}"
            free_port >"$dir/port"
            continue
        fi
        "$prepare" "$dir" "$port" "$@"
        : >"$dir/log"
        FLAVORSYNC_SERVICE=$dir/ setsid "${COMMAND[@]}" >>"$dir/log" 2>&1 </dev/null 9>&- &
        pid=$!
        echo "$pid" >"$dir/pid"
        for ((i = 0; i < 600; i++)); do
            ! grep -qF -- "$ready" "$dir/log" || return 0
            [ -d "/proc/$pid" ] || break
            sleep 0.1
        done
        [ -e "$dir/chosen" ] || break
        grep -qi 'address already in use' "$dir/log" || break
        free_port >"$dir/port"
    done
    tail -n 20 "$dir/log" >&2
    die "${dir##*/} does not start; its log is above"
}

# quietly LOG COMMAND...: run with the output in LOG, and show it on failure.
quietly() {
    local log=$1; shift
    "$@" >>"$log" 2>&1 9>&- || { tail -n 40 "$log" >&2; die "failed: $*"; }
}

# install_packages: what is missing of PACKAGES, by apt.
install_packages() {
    local package missing=()
    for package in "${PACKAGES[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] ||
            missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "cannot install ${missing[*]}: no apt-get here"
    [ "$(id -u)" = 0 ] || die "cannot install ${missing[*]}: not root"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    local get=(apt-get -q -y -o DPkg::Lock::Timeout=300)
    "${get[@]}" --no-install-recommends install "${missing[@]}" >/dev/null 2>&1 || {
        "${get[@]}" update
        "${get[@]}" --no-install-recommends install "${missing[@]}"
    } >&2
}
