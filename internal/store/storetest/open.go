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

// MySQLEnv names the MariaDB server the tests may use, as
// user:password@tcp(host:port)/ ; they create databases of their own there.
const MySQLEnv = "FLAVORSYNC_TEST_MYSQL_DSN"

// Open is a new, empty, migrated database with a keyset of its own, and gone
// when the test ends. For "mysql" without a server it skips the test, and fails
// it where CI is "true".
func Open(t testing.TB, driver string) *store.Store {
	t.Helper()
	s := Connect(t, driver, DSN(t, driver), Keyset(t))
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
func Connect(t testing.TB, driver, dsn string, keyset *store.Keyset) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Driver: driver, DSN: dsn, Keyset: keyset, Log: slog.New(slog.DiscardHandler)})
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
func DSN(t testing.TB, driver string) string {
	t.Helper()
	if driver != "mysql" {
		return filepath.Join(t.TempDir(), "flavorsync.db")
	}
	server := os.Getenv(MySQLEnv)
	if server == "" {
		const missing = MySQLEnv + " is not set: there is no MariaDB to test with (scripts/mariadb starts one)"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	cfg, err := mysql.ParseDSN(server)
	if err != nil {
		t.Fatalf("%s is not user:password@tcp(host:port)/", MySQLEnv)
	}
	name := "flavorsync_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:16]
	// A collation that tells neither case nor accents apart, as many servers
	// have by default: the tables must not depend on it.
	administer(t, cfg, "CREATE DATABASE "+name+" CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
	t.Cleanup(func() { administer(t, cfg, "DROP DATABASE "+name) })
	own := cfg.Clone()
	own.DBName = name
	return own.FormatDSN()
}

func administer(t testing.TB, cfg *mysql.Config, statement string) {
	t.Helper()
	cfg = cfg.Clone()
	cfg.DBName = ""
	db, err := sql.Open("mysql", cfg.FormatDSN())
	if err != nil {
		t.Fatalf("connecting to the test's MariaDB: %v", err)
	}
	defer func() { _ = db.Close() }() // nothing is left to lose
	if _, err := db.ExecContext(context.WithoutCancel(t.Context()), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
