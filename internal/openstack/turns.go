package openstack

import (
	"context"
	"sync/atomic"

	"github.com/flavorsync/flavorsync/internal/keyed"
)

// turns lets one at a time create a flavor under an id in a region. The undo of
// a creation whose answer was lost would else meet the flavor of the next one,
// and delete it.
type turns struct{ *keyed.Semaphores[place] }

func newTurns() turns { return turns{keyed.New[place](1)} }

// place is where a flavor is created. An empty id is no place to wait for: Nova
// chooses one that nobody else knows.
type place struct{ region, id string }

// turn is held by a creation and its undo: the last to release it ends it.
type turn struct {
	end     func()
	holders atomic.Int32
}

// take waits for the turn at a place, until ctx ends.
func (t turns) take(ctx context.Context, at place) (*turn, error) {
	mine := &turn{end: func() {}}
	mine.holders.Store(1)
	if at.id == "" {
		return mine, nil
	}
	var err error
	if mine.end, err = t.Acquire(ctx, at, 1); err != nil {
		return nil, err
	}
	return mine, nil
}

func (t *turn) share() { t.holders.Add(1) }

func (t *turn) release() {
	if t.holders.Add(-1) == 0 {
		t.end()
	}
}
