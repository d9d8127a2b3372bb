package openstack

import (
	"context"
	"sync"
)

// turns lets one at a time create a flavor under an id in a region. The undo of
// a creation whose answer was lost would else meet the flavor of the next one,
// and delete it.
type turns struct {
	mu     sync.Mutex
	queues map[place]*queue
}

// place is where a flavor is created. An empty id has no queue: Nova chooses
// one that nobody else knows.
type place struct{ region, id string }

// queue is who creates at a place, kept as long as somebody does or wants to.
type queue struct {
	first chan struct{} // holds what the one whose turn it is put in
	users int
}

// turn is held by a creation and its undo: the last to release it ends it.
type turn struct {
	turns   *turns
	at      place
	queue   *queue
	holders int // turns.mu
}

// take waits for the turn at a place, until ctx ends.
func (t *turns) take(ctx context.Context, at place) (*turn, error) {
	mine := &turn{turns: t, at: at, holders: 1}
	if at.id == "" {
		return mine, nil
	}
	mine.queue = t.enter(at)
	select {
	case mine.queue.first <- struct{}{}:
		return mine, nil
	case <-ctx.Done():
		t.leave(at, mine.queue)
		return nil, ctx.Err()
	}
}

func (t *turn) share() {
	t.turns.mu.Lock()
	defer t.turns.mu.Unlock()
	t.holders++
}

func (t *turn) release() {
	t.turns.mu.Lock()
	t.holders--
	over := t.holders == 0 && t.queue != nil
	t.turns.mu.Unlock()
	if over {
		<-t.queue.first
		t.turns.leave(t.at, t.queue)
	}
}

func (t *turns) enter(at place) *queue {
	t.mu.Lock()
	defer t.mu.Unlock()
	q, ok := t.queues[at]
	if !ok {
		q = &queue{first: make(chan struct{}, 1)}
		if t.queues == nil {
			t.queues = make(map[place]*queue)
		}
		t.queues[at] = q
	}
	q.users++
	return q
}

func (t *turns) leave(at place, q *queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(t.queues, at)
	}
}
