package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/pressly/goose/v3"
	"gorm.io/gorm"

	"github.com/flavorsync/flavorsync/migrations"
)

// MigrationStatus is one step of the schema.
type MigrationStatus struct {
	Version   int64
	Name      string     // its file's; "" for one that this binary does not know
	AppliedAt *time.Time // nil: not yet
}

// Up brings the schema to this binary's version. Several processes may call it
// at once: one works, under a lease, and the others wait for it. A schema that
// is newer than this binary is refused.
func (s *Store) Up(ctx context.Context) error {
	if s.Ping(ctx) == nil {
		return nil // every start but the first; it needs neither the lease nor the right to create tables
	}
	return s.migrated(ctx, func(ctx context.Context, p *goose.Provider) error {
		done, err := p.Up(ctx)
		s.logMigrations(ctx, done...)
		return wrapMigration(err, "migrating the database up")
	})
}

// bindingStep is the step with which passwords were bound to their database.
const bindingStep = "_keyset_replicas"

// Down undoes the last step of the schema, and what it held is lost. The step that
// bound passwords to the database needs the keyset, where there are some.
func (s *Store) Down(ctx context.Context) error {
	return s.migrated(ctx, func(ctx context.Context, p *goose.Provider) error {
		at, err := p.GetDBVersion(ctx)
		if err != nil {
			return fmt.Errorf("while reading the schema's version: %w", err)
		}
		steps, err := s.steps()
		if err != nil {
			return err
		}
		for _, step := range steps {
			if step.Version == at && strings.HasSuffix(step.Name, bindingStep) {
				if err := s.unbindDatabase(ctx); err != nil {
					return err
				}
			}
		}
		done, err := p.Down(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return errors.New("the database has no schema: there is nothing to undo")
		}
		if err == nil {
			s.logMigrations(ctx, done)
		}
		return wrapMigration(err, "migrating the database down")
	})
}

// Reset undoes every step of the schema, and all data is lost. Only goose's
// version table and the lease remain.
func (s *Store) Reset(ctx context.Context) error {
	return s.migrated(ctx, func(ctx context.Context, p *goose.Provider) error {
		done, err := p.DownTo(ctx, 0)
		s.logMigrations(ctx, done...)
		return wrapMigration(err, "migrating the database all the way down")
	})
}

func wrapMigration(err error, doing string) error {
	if err != nil {
		return fmt.Errorf("while %s: %w", doing, err)
	}
	return nil
}

func (s *Store) logMigrations(ctx context.Context, done ...*goose.MigrationResult) {
	for _, m := range done {
		s.log.InfoContext(ctx, "database migrated", "step", m.Source.Path, "direction", m.Direction,
			"duration_ms", m.Duration.Milliseconds())
	}
}

// Status lists the steps of the schema, this binary's and those the database
// has besides. It changes nothing, so it needs no lease.
func (s *Store) Status(ctx context.Context) ([]MigrationStatus, error) {
	steps, err := s.steps()
	if err != nil {
		return nil, err
	}
	var applied []struct {
		VersionID int64
		Tstamp    time.Time
	}
	err = s.reader.WithContext(ctx).Table("goose_db_version").Select("version_id", "tstamp").
		Where("version_id > 0").Order("version_id, id").Find(&applied).Error
	if err != nil && !noSuchTable(err) {
		return nil, fmt.Errorf("while reading the schema's version: %w", err)
	}
	for _, a := range applied {
		i := slices.IndexFunc(steps, func(m MigrationStatus) bool { return m.Version == a.VersionID })
		if i < 0 {
			i = len(steps)
			steps = append(steps, MigrationStatus{Version: a.VersionID})
		}
		steps[i].AppliedAt = &a.Tstamp
	}
	return steps, nil
}

// steps are this binary's, in order.
func (s *Store) steps() ([]MigrationStatus, error) {
	files, err := fs.Glob(s.sources(), "*.sql")
	if err != nil {
		return nil, fmt.Errorf("while listing the migrations: %w", err)
	}
	var steps []MigrationStatus
	for _, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			return nil, fmt.Errorf("while listing the migrations: %w", err)
		}
		steps = append(steps, MigrationStatus{Version: version, Name: strings.TrimSuffix(file, ".sql")})
	}
	return steps, nil
}

func (s *Store) sources() fs.FS {
	if s.driver == driverMySQL {
		return migrations.MySQL
	}
	return migrations.SQLite
}

// Ping asks whether the database answers, and whether its schema is exactly
// this binary's.
func (s *Store) Ping(ctx context.Context) error {
	steps, err := s.steps()
	if err != nil {
		return err
	}
	wanted := steps[len(steps)-1].Version
	var found int64
	err = s.reader.WithContext(ctx).Raw("SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version").Scan(&found).Error
	switch {
	case noSuchTable(err) || err == nil && found == 0:
		return errors.New("the database has no schema yet: run flavorsync migrate up")
	case err != nil:
		return fmt.Errorf("while asking the database for its schema's version: %w", err)
	case found < wanted:
		return fmt.Errorf("the database's schema is at version %d, this binary needs %d: run flavorsync migrate up", found, wanted)
	case found > wanted:
		return newerSchema(found, wanted)
	}
	return nil
}

func newerSchema(found, wanted int64) error {
	return fmt.Errorf("the database's schema is at version %d, newer than this binary, which knows %d: use the newer flavorsync", found, wanted)
}

// A migration works under a lease: a row that names who is at it and until
// when, taken by compare-and-set and extended while the work goes on. Goose's
// own locks do not cover the making of its version table, and Galera refuses
// GET_LOCK. The deadline is read from the database's clock, so that the
// clocks of the processes need not agree.
const (
	leaseFor   = 60 * time.Second
	leaseRenew = 15 * time.Second
	leaseWait  = 5 * time.Minute
)

// lease is the row, as one process sees it.
type lease struct {
	db    *gorm.DB
	owner string
	now   string // SQL: seconds since 1970
}

var leaseTable = map[string]struct{ create, seed, now string }{
	driverSQLite: {
		`CREATE TABLE IF NOT EXISTS migration_lease (name TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, deadline INTEGER NOT NULL)`,
		`INSERT OR IGNORE INTO migration_lease (name, owner, deadline) VALUES ('schema', '', 0)`,
		`unixepoch()`,
	},
	driverMySQL: {
		`CREATE TABLE IF NOT EXISTS migration_lease (name VARCHAR(64) NOT NULL PRIMARY KEY, owner VARCHAR(255) NOT NULL,
			deadline BIGINT NOT NULL) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
		`INSERT IGNORE INTO migration_lease (name, owner, deadline) VALUES ('schema', '', 0)`,
		`UNIX_TIMESTAMP()`,
	},
}

// migrated runs work under the lease, and not at all on a schema that is newer
// than this binary.
func (s *Store) migrated(ctx context.Context, work func(context.Context, *goose.Provider) error) (err error) {
	// Goose needs a connection and the lease another, more than SQLite's writer has.
	pool, err := s.migrate()
	if err != nil {
		return fmt.Errorf("while connecting to migrate: %w", err)
	}
	pool.SetMaxOpenConns(2)
	defer func() { err = errors.Join(err, pool.Close()) }()

	host, _ := os.Hostname() // it only helps to read the row
	table := leaseTable[s.driver]
	l := lease{
		db:    s.writer.Session(&gorm.Session{NewDB: true}),
		owner: fmt.Sprintf("%.100s %d %s", host, os.Getpid(), uuid.NewString()),
		now:   table.now,
	}
	for _, statement := range []string{table.create, table.seed} {
		err := s.retry(ctx, func() error { return l.db.WithContext(ctx).Exec(statement).Error })
		if err != nil {
			return fmt.Errorf("while preparing to migrate: %w", err)
		}
	}
	if err := s.take(ctx, l); err != nil {
		return err
	}
	held, drop := context.WithCancelCause(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		l.keep(held, drop)
	}()
	defer func() {
		drop(nil)
		<-renewed
		err = errors.Join(err, s.release(ctx, l))
		s.cat.forget()
		s.inv.snapshot.Store(nil)
	}()

	dialect := goose.DialectSQLite3
	if s.driver == driverMySQL {
		dialect = goose.DialectMySQL
	}
	provider, err := goose.NewProvider(dialect, pool, s.sources(), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("while reading the migrations: %w", err)
	}
	found, known, err := provider.GetVersions(held)
	if err != nil {
		return fmt.Errorf("while reading the schema's version: %w", err)
	}
	if found > known {
		return newerSchema(found, known)
	}
	err = work(held, provider)
	if cause := context.Cause(held); err != nil && cause != nil {
		err = errors.Join(err, cause)
	}
	return err
}

// errLeaseHeld is why another try is worth it.
var errLeaseHeld = errors.New("another process is migrating the database")

func (s *Store) take(ctx context.Context, l lease) error {
	pause := &backoff.ExponentialBackOff{
		InitialInterval: 20 * time.Millisecond, Multiplier: 1.5, MaxInterval: time.Second, RandomizationFactor: 0.5,
	}
	told := false
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		taken, err := l.extend(ctx)
		switch {
		case err == nil && taken:
			return struct{}{}, nil
		case err == nil:
			if !told {
				s.log.InfoContext(ctx, "waiting for another process that is migrating the database")
				told = true
			}
			return struct{}{}, errLeaseHeld
		case retryable(err):
			return struct{}{}, err
		}
		return struct{}{}, backoff.Permanent(err)
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(leaseWait))
	if err == nil {
		return nil
	}
	if told {
		var owner string
		if l.db.WithContext(context.WithoutCancel(ctx)).Raw(`SELECT owner FROM migration_lease WHERE name = 'schema'`).Scan(&owner).Error == nil {
			return fmt.Errorf("%w (%s): %w", errLeaseHeld, owner, err)
		}
	}
	return fmt.Errorf("while taking the lease to migrate: %w", err)
}

// extend takes the lease, or keeps what we have; false where it is another's.
func (l lease) extend(ctx context.Context) (bool, error) {
	set := l.db.WithContext(ctx).Exec(fmt.Sprintf(
		`UPDATE migration_lease SET owner = ?, deadline = %[1]s + ? WHERE name = 'schema' AND (owner = ? OR deadline <= %[1]s)`, l.now),
		l.owner, int64(leaseFor/time.Second), l.owner)
	return set.RowsAffected == 1, set.Error
}

// keep extends the lease until ctx ends, and ends it when the lease is lost.
func (l lease) keep(ctx context.Context, drop context.CancelCauseFunc) {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	until := time.Now().Add(leaseFor)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			switch kept, err := l.extend(ctx); {
			case err == nil && kept:
				until = now.Add(leaseFor)
			case err == nil, time.Now().After(until.Add(-leaseRenew)):
				drop(errors.New("the lease to migrate was lost to another process, or the database did not answer in time to extend it"))
				return
			}
		}
	}
}

func (s *Store) release(ctx context.Context, l lease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := s.retry(ctx, func() error {
		return l.db.WithContext(ctx).Exec(`UPDATE migration_lease SET owner = '', deadline = 0 WHERE name = 'schema' AND owner = ?`, l.owner).Error
	})
	if err != nil {
		return fmt.Errorf("while giving the lease to migrate back (it ends by itself within %v): %w", leaseFor, err)
	}
	return nil
}
