package store

import "time"

// SetClock replaces the clock by which snapshots grow old.
func SetClock(s *Store, now func() time.Time) { s.now = now }
