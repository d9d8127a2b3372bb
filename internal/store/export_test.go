package store

import "time"

// SetClock replaces the clock by which snapshots grow old.
func SetClock(s *Store, now func() time.Time) { s.now = now }

// Ahead makes s believe that it has written one version more than the database
// it reads from has applied.
func Ahead(s *Store) { s.cat.written(s.cat.version.Load()+1, true) }
