package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// What an operator got wrong must be told in words that help, and never with
// the password.
func TestOpenTellsWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("this is not a database, though it is long enough to be taken for one"), 0o600); err != nil {
		t.Fatal(err)
	}
	const password = "hunter2"
	for _, test := range []struct{ driver, dsn, words string }{
		{"", "x", "must be sqlite or mysql"},
		{"postgres", "x", "must be sqlite or mysql"},
		{"sqlite", "", "name of a file"},
		{"sqlite", "a\x00b", "name of a file"},
		{"sqlite", ":memory:", "must be a file"},
		{"sqlite", "file:x.db?_pragma=x", "plain name"},
		{"sqlite", filepath.Join(dir, "missing", "x.db"), "does not exist: create it"},
		{"sqlite", filepath.Join(file, "x.db"), "directory"},
		{"sqlite", dir, "is a directory"},
		{"sqlite", file, "not a database"},
		{"mysql", "", "user:password@tcp(host:3306)/database"},
		{"mysql", "flavorsync.db", "user:password@tcp(host:3306)/database"},
		{"mysql", "user:" + password + "@tcp(127.0.0.1:1)/", "user:password@tcp(host:3306)/database"},
		{"mysql", "user:" + password + "tcp(127.0.0.1:1)/db", "user:password@tcp(host:3306)/database"},
		{"mysql", "mysql://user:" + password + "@127.0.0.1/db", "user:password@tcp(host:3306)/database"},
		{"mysql", "user:" + password + "@tcp(127.0.0.1:1)/db?tls=" + password, "user:password@tcp(host:3306)/database"},
		{"mysql", "user:" + password + "@tcp(127.0.0.1:1)/db", "127.0.0.1:1"},
	} {
		s, err := Open(t.Context(), Config{Driver: test.driver, DSN: test.dsn, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			t.Errorf("Open(%q, %q) = nil", test.driver, test.dsn)
			_ = s.Close()
			continue
		}
		if !strings.Contains(err.Error(), test.words) || strings.Contains(err.Error(), password) {
			t.Errorf("Open(%q, %q) = %q, wanted %q and no password", test.driver, test.dsn, err, test.words)
		}
	}
}

// Others on the machine may not read the database.
func TestSQLiteFileMode(t *testing.T) {
	name := filepath.Join(t.TempDir(), "flavorsync.db")
	s, err := Open(t.Context(), Config{Driver: driverSQLite, DSN: name})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the database file: %v, %v", st.Mode(), err)
	}
}

// The operator's own parameters stay, and ours cannot be switched off.
func TestMySQLConfig(t *testing.T) {
	cfg, err := mysqlConfig("u:p@tcp(h:3306)/db?parseTime=false&charset=latin1&sql_mode=''&clientFoundRows=false&tls=skip-verify&readTimeout=3s&wsrep_sync_wait=1", "dsn")
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.Apply(); err != nil {
		t.Fatal(err)
	}
	dsn := cfg.FormatDSN()
	for _, wanted := range []string{
		"u:p@tcp(h:3306)/db?", "parseTime=true", "clientFoundRows=true", "charset=utf8mb4", "collation=utf8mb4_bin", "interpolateParams=true",
		"tls=skip-verify", "readTimeout=3s", "wsrep_sync_wait=1", "time_zone=%27%2B00%3A00%27", "STRICT_ALL_TABLES",
	} {
		if !strings.Contains(dsn, wanted) {
			t.Errorf("%s has no %s", dsn, wanted)
		}
	}
}

// What is not told apart is either given up too soon or tried for 30 seconds.
func TestRetryable(t *testing.T) {
	for _, number := range []uint16{1213, 1205, 1020, 1047} {
		if err := fmt.Errorf("while x: %w", &mysql.MySQLError{Number: number}); !retryable(err) {
			t.Errorf("%v is not tried again", err)
		}
	}
	for _, err := range []error{&mysql.MySQLError{Number: 1062}, mysql.ErrInvalidConn, errors.New("1213")} {
		if retryable(err) {
			t.Errorf("%v is tried again", err)
		}
	}
}

// A closure that fails once with a deadlock runs again as a whole, in a new
// transaction, though it has hidden the failure.
func TestWriteRunsAgain(t *testing.T) {
	s, err := Open(t.Context(), Config{Driver: driverSQLite, DSN: filepath.Join(t.TempDir(), "x.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	runs := 0
	var first *Tx
	err = s.Write(t.Context(), func(tx *Tx) error {
		if runs++; runs == 1 {
			first = tx
			_ = tx.wrap(&mysql.MySQLError{Number: 1213}, "testing")
			if _, err := tx.Flavors(); !retryable(err) {
				t.Errorf("a call after the deadlock = %v", err)
			}
			return nil
		}
		if tx == first {
			t.Error("the second run got the transaction of the first")
		}
		return nil
	})
	if err != nil || runs != 2 {
		t.Errorf("Write = %v after %d runs", err, runs)
	}
}
