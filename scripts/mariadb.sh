# shellcheck shell=bash
#
# What `mariadb` and `galera` have in common: how their MariaDBs are set up, and
# who may use them. It is sourced, after service.sh.
#
# The user `flavorsync` may do everything, over TCP and over the socket.

# shellcheck disable=SC2034  # who sources it uses it
PASSWORD=flavorsync-secret

# settings USER DATA: into SETTINGS, for a server that runs as USER. It is nobody's
# data: nothing waits for a disk. Character set and collation are those of Debian's
# own configuration, which is not read here.
settings() {
    SETTINGS=(--no-defaults --user="$1" --datadir="$2" --performance-schema=off
        --innodb-flush-log-at-trx-commit=0 --innodb-flush-method=nosync --sync-frm=0 --innodb-use-native-aio=0
        --innodb-log-file-size=32M --innodb-buffer-pool-size=128M
        --character-set-server=utf8mb4 --collation-server=utf8mb4_general_ci --max-connections=500 --skip-name-resolve)
}

# create DIRECTORY USER: the system tables and users of a server that runs as USER,
# in DIRECTORY/data, from the cache if it has them.
create() {
    local kept user data=$1/data
    kept=$CACHE/mariadb-$(cache_key "$2" "$(cat "${BASH_SOURCE[0]}")")
    rm -rf "$data"
    ! cached "$kept" "$data" || return 0
    settings "$2" "$data"
    FLAVORSYNC_SERVICE=$1/ quietly "$1/log" mariadb-install-db "${SETTINGS[@]}" \
        --auth-root-authentication-method=socket --auth-root-socket-user="$(id -un)" --skip-test-db
    {
        echo "flush privileges;"
        # From where a client connects depends on the name it used.
        for user in "'flavorsync'@'127.0.0.1'" "'flavorsync'@'localhost'"; do
            echo "create user $user identified by '$PASSWORD';"
            echo "grant all privileges on *.* to $user with grant option;"
        done
    } >"$1/users.sql"
    FLAVORSYNC_SERVICE=$1/ quietly "$1/log" mariadbd "${SETTINGS[@]}" --bootstrap <"$1/users.sql"
    cache "$data" "$kept"
}

mariadb_runs() { mariadbd --version >/dev/null 2>&1; }

# Debian's programs come first.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
