package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// Tx is one transaction. It belongs to the closure it was given to, and to one
// goroutine. Its methods answer *flavor.Error with CodeNotFound or CodeConflict
// where that is the matter; any other error is the database's.
type Tx struct {
	ctx     context.Context
	db      *gorm.DB
	s       *Store
	write   bool
	changed bool       // the catalogue was
	looked  bool       // the inventory was
	events  []eventRow // to be written at its end
	failed  error      // why nothing may be done in this transaction any more
}

// retryFor is how long a transaction is tried again that the database could not
// serialize; reconnectFor where the connection broke: about as long as it takes to give
// up a node of a cluster. Where no connection could be had for longer, everybody is told
// at once.
const (
	retryFor     = 30 * time.Second
	reconnectFor = 3 * time.Second
)

// errUndecided is for a connection that broke while committing: nobody knows whether
// the database did, so it must not be done again blindly.
var errUndecided = errors.New("the connection to the database broke while it was committing: whether it has is not known")

// Write runs fn in a transaction that may write, and commits if fn returns nil.
// What fn reads is locked until then. fn runs again from its start, in a new
// transaction, whenever the database could not serialize it, or the connection broke
// before it was asked to commit: it must have no effect but through tx, and begin with
// fresh variables. It must not call Write itself (with SQLite that would wait for
// itself).
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error {
	// Every row read is locked, and Installations lock the row they hang on:
	// READ COMMITTED then has all the isolation this needs, without the gap
	// locks that make concurrent inserts of InnoDB's default level deadlock.
	opts := &sql.TxOptions{}
	if s.driver == driverMySQL {
		opts.Isolation = sql.LevelReadCommitted
	}
	return s.observed(ctx, true, func() error {
		tx, err := s.begin(ctx, s.writer, opts)
		if err != nil {
			return err
		}
		tx.write = true
		return tx.run(fn)
	})
}

// Read runs fn in a transaction that cannot write and sees one state of the
// database, the last committed before its first read. Like Write it may run fn
// again.
func (s *Store) Read(ctx context.Context, fn func(*Tx) error) error {
	opts := &sql.TxOptions{ReadOnly: true}
	if s.driver == driverMySQL {
		opts.Isolation = sql.LevelRepeatableRead
	}
	return s.observed(ctx, false, func() error {
		tx, err := s.begin(ctx, s.reader, opts)
		if err != nil {
			return err
		}
		return tx.run(fn)
	})
}

// retry is the one place where the store tries again.
func (s *Store) retry(ctx context.Context, attempt func() error) error {
	pause := &backoff.ExponentialBackOff{
		InitialInterval:     2 * time.Millisecond,
		Multiplier:          1.6,
		MaxInterval:         250 * time.Millisecond,
		RandomizationFactor: 0.8,
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := attempt()
		switch {
		case err == nil || retryable(err):
			s.broken.Store(0)
		case !lost(err) || s.brokenFor() > reconnectFor:
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(retryFor))
	return err
}

// brokenFor is how long connections have broken, and none has done its work.
func (s *Store) brokenFor() time.Duration {
	now := time.Now().UnixNano()
	s.broken.CompareAndSwap(0, now)
	return time.Duration(now - s.broken.Load())
}

func (s *Store) begin(ctx context.Context, db *gorm.DB, opts *sql.TxOptions) (*Tx, error) {
	begun := db.WithContext(ctx).Begin(opts)
	if begun.Error != nil {
		return nil, fmt.Errorf("while beginning a transaction: %w", begun.Error)
	}
	return &Tx{ctx: ctx, db: begun, s: s}, nil
}

func (tx *Tx) run(fn func(*Tx) error) error {
	done := false
	defer func() {
		if !done { // also when fn panics; that the rollback fails changes nothing
			tx.db.Rollback()
		}
	}()
	err := fn(tx)
	if tx.failed != nil && !undone(err) {
		// fn has swallowed it, or made another error of it. After a deadlock
		// MariaDB has undone everything and a COMMIT would be of nothing.
		err = tx.failed
	}
	if err != nil {
		return err
	}
	var version int64
	if tx.changed {
		if version, err = tx.countUp(); err != nil {
			return err
		}
	}
	if len(tx.events) > 0 {
		if err := tx.writeEvents(); err != nil {
			return err
		}
	}
	if tx.write && tx.s.committing != nil {
		tx.s.committing()
	}
	done = true
	err = tx.db.Commit().Error
	if len(tx.events) > 0 {
		tx.s.told.ring() // also where it failed: as below
	}
	if tx.changed {
		// Also where it failed: whether it took place may be unknown.
		tx.s.cat.written(version, err == nil)
	}
	if tx.looked {
		tx.s.inv.writes.Add(1)
	}
	if tx.write && lost(err) {
		return fmt.Errorf("%w: %w", errUndecided, err)
	}
	if err != nil {
		return fmt.Errorf("while committing: %w", err)
	}
	return nil
}

// rows is where every read begins: inside Write it locks what it finds.
func (tx *Tx) rows() *gorm.DB {
	if tx.write {
		return tx.db.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate})
	}
	return tx.db
}

var errReadOnly = errors.New("a write inside Store.Read: use Store.Write")

// ready says whether the transaction can go on; a method that writes asks it
// with write true.
func (tx *Tx) ready(write bool) error {
	if tx.failed == nil && write && !tx.write {
		tx.failed = errReadOnly
	}
	return tx.failed
}

// wrap says what was being done when err came, and notes an error after which
// the transaction is lost.
func (tx *Tx) wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("while %s: %w", fmt.Sprintf(format, args...), err)
	if undone(err) {
		tx.failed = err
	}
	return err
}

// undone says whether after err nothing is left of the transaction.
func undone(err error) bool { return retryable(err) || lost(err) }

// micros is t as both databases keep it: UTC, whole microseconds, without a
// monotonic clock.
func micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
