package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

var errHeld = errors.New("held by another process")

// HoldAlone makes this process the only one that serves from a SQLite database,
// until release or the end of the process, however it ends. It fails where
// another one does. What it holds is the lock of a file beside the database,
// which stays: SQLite's own locks are on the database itself, and a file that
// comes and goes can be locked twice. MariaDB serves many: nothing is held.
func (s *Store) HoldAlone() (release func() error, err error) {
	if s.driver != driverSQLite {
		return func() error { return nil }, nil
	}
	// One file has one lock, whatever way leads to it.
	file, err := filepath.EvalSymlinks(s.file)
	if err != nil {
		return nil, fmt.Errorf("while finding the database file: %w", err)
	}
	name := file + ".lock"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // beside the file that the operator's configuration names
	if err != nil {
		return nil, fmt.Errorf("while opening the lock of the database file: %w", err)
	}
	switch err := lock(f); {
	case errors.Is(err, errHeld):
		return nil, errors.Join(fmt.Errorf("another process serves from the database file %s (it holds %s): stop it, or choose another database.dsn; "+
			"for several processes use a MariaDB", file, name), f.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("while locking %s: %w", name, err), f.Close())
	}
	return sync.OnceValue(f.Close), nil
}
