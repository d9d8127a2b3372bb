// Package store keeps the regions, the catalogue and the stored intents of
// flavor changes, in SQLite or in MariaDB (and what speaks its protocol).
//
// Everything happens in Write and Read: a closure over one transaction, run
// again as a whole when the database could not serialize it. A read inside
// Write locks what it finds, so read-modify-write loses nothing. Both databases
// pass the same suite, storetest.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	gormmysql "gorm.io/driver/mysql"
	gormsqlite "gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"modernc.org/sqlite"
)

// Config says which database, and how.
type Config struct {
	Driver string // "sqlite" or "mysql"
	// DSN is a file's name for SQLite, and for MariaDB what go-sql-driver
	// takes: user:password@tcp(host:3306)/flavorsync. It is never printed.
	DSN    string
	Keyset *Keyset      // nil: regions can be neither read nor written
	Log    *slog.Logger // nil: slog.Default()
	// Observe, where it is not nil, is told of every transaction when it has ended,
	// under the context of who asked. It must not take long.
	Observe func(context.Context, Transaction)
	// Committing is called before each COMMIT of what was written; nil but in
	// tests, which end the process there.
	Committing func()
}

// Store is an open database. Its methods may be called side by side.
type Store struct {
	driver  string
	file    string // SQLite's
	writer  *gorm.DB
	reader  *gorm.DB
	migrate func() (*sql.DB, error)
	keyset  *Keyset
	// database is the id that passwords are bound to; nil before BindKeyset.
	database atomic.Pointer[string]
	log      *slog.Logger
	now      func() time.Time
	broken   atomic.Int64 // since when no connection has done its work, in ns since 1970; 0: one has
	cat      catalogueCache
	inv      inventoryCache
	told     bell                               // rings when this process has written events
	observe  func(context.Context, Transaction) // nil: nobody is told
	rotated  func(step string) error            // nil but in tests of Rotate

	committing func() // nil but in tests
}

const (
	driverSQLite = "sqlite"
	driverMySQL  = "mysql"
)

// Open opens the database, and creates the file where it is SQLite's and not
// there yet. It does not migrate: see Up.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{driver: cfg.Driver, keyset: cfg.Keyset, log: cfg.Log, observe: cfg.Observe, now: time.Now, cat: newCatalogueCache(), inv: newInventoryCache()}
	s.committing = cfg.Committing
	if s.log == nil {
		s.log = slog.Default()
	}
	var err error
	switch cfg.Driver {
	case driverSQLite:
		err = s.openSQLite(ctx, cfg.DSN)
	case driverMySQL:
		err = s.openMySQL(ctx, cfg.DSN)
	default:
		return nil, fmt.Errorf("database.driver is %q: it must be sqlite or mysql", cfg.Driver)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close closes every connection.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*gorm.DB{s.writer, s.reader} {
		if db == nil {
			continue
		}
		pool, err := db.DB()
		if err == nil {
			err = pool.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// SQLite has one writer: with one connection that begins IMMEDIATE, writers
// queue in the process and none is refused after it has read. Readers have
// connections of their own, which cannot write.
func (s *Store) openSQLite(ctx context.Context, name string) error {
	if err := prepareFile(name); err != nil {
		return err
	}
	s.file = name
	// A process-wide switch, against a file name that would smuggle in SQL.
	sqlite.StrictPragmas(true)
	writer, err := sqliteDSN(name, url.Values{"_txlock": {"immediate"}})
	if err != nil {
		return err
	}
	reader, err := sqliteDSN(name, url.Values{"_query_only": {"1"}})
	if err != nil {
		return err
	}
	open := func(dsn string, connections int) (*gorm.DB, error) {
		pool, err := sql.Open(driverSQLite, dsn)
		if err != nil {
			return nil, fmt.Errorf("while opening the database file %s: %w", name, err)
		}
		pool.SetMaxOpenConns(connections)
		pool.SetMaxIdleConns(connections)
		// Turning WAL on waits for no other process that is at it: SQLite answers
		// BUSY at once, whatever the timeout.
		if err := s.retry(ctx, func() error { return pool.PingContext(ctx) }); err != nil {
			return nil, errors.Join(fmt.Errorf("while opening the database file %s: %w", name, err), pool.Close())
		}
		return openGORM(sqliteDialector{gormsqlite.New(gormsqlite.Config{DriverName: driverSQLite, Conn: pool})})
	}
	// The writer first: it turns WAL on.
	if s.writer, err = open(writer, 1); err != nil {
		return err
	}
	if s.reader, err = open(reader, 8); err != nil {
		return err
	}
	s.migrate = func() (*sql.DB, error) { return sql.Open(driverSQLite, writer) }
	return nil
}

// prepareFile creates name for its owner alone (SQLite gives its -wal and -shm
// files the same mode), and tells what is wrong where it cannot be one.
func prepareFile(name string) error {
	switch {
	case name == "" || strings.ContainsRune(name, 0):
		return errors.New("database.dsn is empty: for sqlite it is the name of a file, such as flavorsync.db")
	case strings.HasPrefix(name, ":memory:"):
		return errors.New("database.dsn is :memory:, but the database must be a file: several connections share it")
	case strings.HasPrefix(name, "file:"):
		return fmt.Errorf("database.dsn is the URI %s: for sqlite it is the plain name of a file, such as flavorsync.db", name)
	}
	dir := filepath.Dir(name)
	if st, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the directory %s of the database file %s does not exist: create it, or change database.dsn", dir, name)
	} else if err != nil {
		return fmt.Errorf("while looking at the directory of the database file: %w", err)
	} else if !st.IsDir() {
		return fmt.Errorf("%s, where the database file %s should be, is not a directory", dir, filepath.Base(name))
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator's own configuration names it
	if err != nil {
		return fmt.Errorf("while opening the database file: %w", err)
	}
	return f.Close()
}

// sqliteDSN is the URI of the file name, whatever characters it has.
func sqliteDSN(name string, more url.Values) (string, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return "", fmt.Errorf("while finding the database file %s: %w", name, err)
	}
	query := url.Values{
		"_journal_mode": {"WAL"},
		"_busy_timeout": {"5000"},
		"_foreign_keys": {"on"},
		"_synchronous":  {"normal"},
		// Else times are stored as Go's String(), monotonic clock and all.
		"_time_format": {"sqlite"},
		"_timezone":    {"UTC"},
		"_dqs":         {"0"},
	}
	maps.Copy(query, more)
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode(), nil
}

func (s *Store) openMySQL(ctx context.Context, dsn string) error {
	cfg, err := mysqlConfig(dsn, "database.dsn")
	if err != nil {
		return err
	}
	cfg.Logger = driverLog{s.log}
	idle, err := suit(ctx, cfg)
	if err != nil {
		return fmt.Errorf("while connecting to the database %s at %s: %w", cfg.DBName, cfg.Addr, err)
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return fmt.Errorf("while reading database.dsn for %s: %w", cfg.Addr, err)
	}
	open := func(connections int) (*gorm.DB, error) {
		pool := sql.OpenDB(connector)
		pool.SetMaxOpenConns(connections)
		pool.SetMaxIdleConns(connections)
		// Below every proxy's own limit, and soon balanced again after a fail-over.
		pool.SetConnMaxLifetime(3 * time.Minute)
		pool.SetConnMaxIdleTime(idle)
		db, err := openGORM(gormmysql.New(gormmysql.Config{Conn: pool}))
		if err != nil {
			return nil, errors.Join(err, pool.Close())
		}
		return db, nil
	}
	// Writers that wait for a lock keep no reader from a connection.
	if s.writer, err = open(16); err != nil {
		return err
	}
	if s.reader, err = open(16); err != nil {
		return err
	}
	patient := cfg.Clone() // a migration may take its time
	patient.ReadTimeout, patient.WriteTimeout = 0, 0
	s.migrate = func() (*sql.DB, error) {
		connector, err := mysql.NewConnector(patient)
		if err != nil {
			return nil, fmt.Errorf("while reading database.dsn for %s: %w", patient.Addr, err)
		}
		return sql.OpenDB(connector), nil
	}
	return nil
}

// idleFor is how long a session may leave a transaction lying. A process that stands
// still in one, stopped or on a machine that swaps, would else keep its locks from all
// others for as long as it does.
const idleFor = 5 * time.Second

// suit sets for the sessions what only some servers know, and says how long a connection
// may wait to be used.
//
// Those of Galera wait, at the beginning of each transaction and of each statement
// outside one, for what other nodes had committed before. Connections may go to any
// node, and of a hundred callers side by side one did not find what it had just written.
// It costs 20 to 50 µs.
func suit(ctx context.Context, cfg *mysql.Config) (idle time.Duration, err error) {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return 0, err
	}
	pool := sql.OpenDB(connector)
	defer func() { _ = pool.Close() }() // nothing was written
	rows, err := pool.QueryContext(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('wsrep_on', 'idle_transaction_timeout')")
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	known := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return 0, err
		}
		known[name] = value
	}
	if known["wsrep_on"] == "ON" {
		cfg.Params["wsrep_sync_wait"] = "7" // reads, updates and deletes, inserts
	}
	if _, mariadb := known["idle_transaction_timeout"]; mariadb {
		cfg.Params["idle_transaction_timeout"] = strconv.Itoa(int(idleFor.Seconds()))
		return time.Minute, rows.Err()
	}
	// MySQL makes no difference between a session in a transaction and any other.
	cfg.Params["wait_timeout"] = strconv.Itoa(2 * int(idleFor.Seconds()))
	return idleFor, rows.Err()
}

// mysqlConfig is dsn with the parameters this package needs. No error repeats
// any of it, since a slip of the pen puts the password anywhere.
func mysqlConfig(dsn, setting string) (*mysql.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil || cfg.DBName == "" || cfg.Net != "tcp" && cfg.Net != "unix" {
		return nil, fmt.Errorf("%s cannot be understood: write it as user:password@tcp(host:3306)/database", setting)
	}
	cfg.ParseTime = true
	cfg.Loc = time.UTC
	cfg.ClientFoundRows = true   // an UPDATE that changes nothing counts its row, as on SQLite
	cfg.InterpolateParams = true // one round trip instead of three
	cfg.MultiStatements = false
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	// A server that went away without a word (a host that is off, a firewall
	// that forgot) is noticed no other way. Longer than a wait for a lock.
	if cfg.ReadTimeout == 0 {
		cfg.ReadTimeout = 15 * time.Second
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = 15 * time.Second
	}
	cfg.Collation = "utf8mb4_bin"
	if err := cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_bin")); err != nil {
		return nil, fmt.Errorf("while completing %s: %w", setting, err)
	}
	if cfg.Params == nil {
		cfg.Params = map[string]string{}
	}
	cfg.Params["time_zone"] = "'+00:00'"
	cfg.Params["innodb_lock_wait_timeout"] = "10"
	// Without it a value that is too long is cut silently.
	cfg.Params["sql_mode"] = "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"
	return cfg, nil
}

// driverLog is where the driver of MySQL tells of connections that broke: by itself
// it writes lines of its own to stderr.
type driverLog struct{ *slog.Logger }

// Print is mysql.Logger's.
func (l driverLog) Print(v ...any) {
	l.Warn("the database's driver complains", "error", strings.TrimSpace(fmt.Sprintln(v...)))
}

// openGORM keeps GORM to what is asked of it: no transaction of its own, no
// statement in a log (they hold values). It prepares no statements either:
// inside a transaction database/sql cannot use them again, and GORM hands the
// failure of one caller's cancelled preparation to the others that wait.
func openGORM(d gorm.Dialector) (*gorm.DB, error) {
	db, err := gorm.Open(d, &gorm.Config{
		SkipDefaultTransaction: true,
		TranslateError:         true,
		DisableAutomaticPing:   true,
		Logger:                 logger.Discard,
	})
	if err != nil {
		return nil, fmt.Errorf("while asking the database for its version: %w", err)
	}
	return db, nil
}

// sqliteDialector translates the errors of modernc's driver: GORM's own
// translation reads fields that they do not export.
type sqliteDialector struct{ gorm.Dialector }

func (d sqliteDialector) Translate(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() {
		case 1555, 2067: // SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE
			return gorm.ErrDuplicatedKey
		case 787: // SQLITE_CONSTRAINT_FOREIGNKEY
			return gorm.ErrForeignKeyViolated
		}
	}
	return err
}

// retryable says whether err means that the database could not serialize a
// transaction, and has undone it or lets us undo it: run it again.
func retryable(err error) bool {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		switch e.Number {
		case 1213, // deadlock; on Galera also a conflict found at commit
			1205, // lock wait timeout
			1020, // the row has changed since it was read
			1047: // Galera: the node is not ready for use yet
			return true
		}
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()&0xff == 5 // SQLITE_BUSY, whatever the reason
	}
	return false
}

// lost says whether err means that the connection broke, or that none was to be had:
// what was not committed by then is undone.
func lost(err error) bool {
	if errors.Is(err, errUndecided) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		switch e.Number {
		case 1053, // the server is shutting down
			1040, // it has too many connections
			1927: // it has ended this one
			return true
		}
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// noSuchTable says whether err is the answer of a database that has not been
// migrated.
func noSuchTable(err error) bool {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number == 1146
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()&0xff == 1 && strings.Contains(e.Error(), "no such table")
	}
	return false
}
