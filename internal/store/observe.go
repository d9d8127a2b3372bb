package store

import (
	"context"
	"time"
)

// Transaction is one of Write or Read that has ended, as Config.Observe is told of
// it. No statement and no value is in it.
type Transaction struct {
	Write    bool
	Attempts int // 1, and one more for each time that the database could not serialize it
	Started  time.Time
	Took     time.Duration // the pauses between the attempts included
	Err      error         // why it was not committed; a *flavor.Error where a rule said no
}

// observed is retry, of which Config.Observe is told.
func (s *Store) observed(ctx context.Context, write bool, attempt func() error) error {
	if s.observe == nil {
		return s.retry(ctx, attempt)
	}
	t := Transaction{Write: write, Started: time.Now()}
	t.Err = s.retry(ctx, func() error {
		t.Attempts++
		return attempt()
	})
	t.Took = time.Since(t.Started)
	s.observe(ctx, t)
	return t.Err
}

// CatalogueAge is how long ago the snapshot of the catalogue was compared with the
// database; false where there is none yet. One that nobody reads ages.
func (s *Store) CatalogueAge() (time.Duration, bool) {
	snap := s.cat.snapshot.Load()
	if snap == nil {
		return 0, false
	}
	return s.now().Sub(snap.checked), true
}
