package openstack

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// slots bounds the HTTP calls in flight: to each region, and over all of them.
// Regions are told apart by name, not by host: they may share one.
type slots struct {
	all       chan struct{}
	perRegion int
	waiting   atomic.Int64 // for one to come free

	mu    sync.Mutex
	lanes map[string]*lane
}

// lane is the slots of one region, kept as long as somebody holds or wants one.
type lane struct {
	calls chan struct{}
	users int
}

func newSlots(all, perRegion int) *slots {
	return &slots{all: make(chan struct{}, all), perRegion: perRegion, lanes: make(map[string]*lane)}
}

// busyError says that no slot came free in time. It wraps the context's error.
type busyError struct {
	region bool // the region's own slots; else those over all regions
	limit  int
	cause  error
}

func (e *busyError) Error() string {
	if e.region {
		return fmt.Sprintf("no slot of the region's %d came free: %v", e.limit, e.cause)
	}
	return fmt.Sprintf("no slot of %d came free: %v", e.limit, e.cause)
}

func (e *busyError) Unwrap() error { return e.cause }

// acquire waits for a slot of region, then for one over all regions: in this
// order a region that hangs holds no more than its own slots. release gives
// both back and must be called once.
func (s *slots) acquire(ctx context.Context, region string) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := s.enter(region)
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	select {
	case l.calls <- struct{}{}:
	case <-ctx.Done():
		s.leave(region, l)
		return nil, &busyError{region: true, limit: s.perRegion, cause: ctx.Err()}
	}
	select {
	case s.all <- struct{}{}:
	case <-ctx.Done():
		<-l.calls
		s.leave(region, l)
		return nil, &busyError{limit: cap(s.all), cause: ctx.Err()}
	}
	return func() {
		<-s.all
		<-l.calls
		s.leave(region, l)
	}, nil
}

func (s *slots) enter(region string) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.lanes[region]
	if !ok {
		l = &lane{calls: make(chan struct{}, s.perRegion)}
		s.lanes[region] = l
	}
	l.users++
	return l
}

func (s *slots) leave(region string, l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(s.lanes, region)
	}
}
