// Package storetest opens databases for tests, and holds the suite that every
// one of them must pass.
package storetest

import (
	"context"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/store"
)

// Drivers are the databases that tests go through.
var Drivers = []string{"sqlite", "mysql"}

// Databases are those, and Galera for what it makes a difference to: each
// connection of a store goes to another node than the one before.
var Databases = []string{"sqlite", "mysql", "galera"}

// DriverOf is the driver that such a database is opened with.
func DriverOf(database string) string {
	if database == "galera" {
		return "mysql"
	}
	return database
}

// MySQLEnv names the MariaDB server the tests may use, as
// user:password@tcp(host:port)/ ; they create databases of their own there.
const MySQLEnv = "FLAVORSYNC_TEST_MYSQL_DSN"

// Open is a new, empty, migrated database with a keyset of its own, and gone
// when the test ends. Without a server for it the test is skipped, and fails
// where CI is "true".
func Open(t testing.TB, database string) *store.Store {
	t.Helper()
	s := Connect(t, database, DSN(t, database), Keyset(t))
	ctx := context.WithoutCancel(t.Context())
	if err := s.Up(ctx); err != nil {
		t.Fatalf("migrating the test's database: %v", err)
	}
	if err := s.BindKeyset(ctx); err != nil {
		t.Fatalf("binding the keyset of the test's database: %v", err)
	}
	return s
}

// Connect is one more store on the database at dsn, as another process would
// have. It does not migrate.
func Connect(t testing.TB, database, dsn string, keyset *store.Keyset) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Driver: DriverOf(database), DSN: dsn, Keyset: keyset, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("opening the test's database: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing the test's database: %v", err)
		}
	})
	return s
}

// Keyset is a new keyset in a file of the test's own.
func Keyset(t testing.TB) *store.Keyset {
	t.Helper()
	keyset, _, err := store.LoadKeyset(filepath.Join(t.TempDir(), "keyset.json"), nil)
	if err != nil {
		t.Fatalf("making the test's keyset: %v", err)
	}
	return keyset
}

// DSN names a new database without any table, for store.Config and for
// configuration files. See Open.
func DSN(t testing.TB, database string) string {
	t.Helper()
	switch database {
	case "galera":
		return Spread(t, GaleraDSNs(t)...)
	case "mysql":
		server := os.Getenv(MySQLEnv)
		if server == "" {
			unavailable(t, MySQLEnv+" is not set: there is no MariaDB to test with (scripts/mariadb starts one)")
		}
		cfg := parse(t, MySQLEnv, server)
		return with(cfg, create(t, cfg))
	}
	return filepath.Join(t.TempDir(), "flavorsync.db")
}

// unavailable skips the test, or fails it where CI is "true".
func unavailable(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func parse(t testing.TB, variable, server string) *mysql.Config {
	t.Helper()
	cfg, err := mysql.ParseDSN(server)
	if err != nil {
		t.Fatalf("%s is not user:password@tcp(host:port)/", variable)
	}
	return cfg
}

// create makes a database on that server, and drops it when the test ends.
func create(t testing.TB, server *mysql.Config) (name string) {
	t.Helper()
	name = "flavorsync_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:16]
	// A collation that tells neither case nor accents apart, as many servers
	// have by default: the tables must not depend on it.
	administer(t, server, "CREATE DATABASE "+name+" CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
	t.Cleanup(func() { administer(t, server, "DROP DATABASE "+name) })
	return name
}

// with is the DSN of a database of that name on the server.
func with(server *mysql.Config, name string) string {
	own := server.Clone()
	own.DBName = name
	return own.FormatDSN()
}

// administer has the server do that, on one connection.
func administer(t testing.TB, server *mysql.Config, statements ...string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	db, err := sql.Open("mysql", with(server, ""))
	if err != nil {
		t.Fatalf("connecting to the test's database server: %v", err)
	}
	defer func() { _ = db.Close() }() // nothing is left to lose
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatalf("connecting to the test's database server: %v", err)
	}
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}
