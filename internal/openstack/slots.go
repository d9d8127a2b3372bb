package openstack

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/flavorsync/flavorsync/internal/keyed"
)

// slots bounds the HTTP calls in flight: to each region, and over all of them.
// Regions are told apart by name, not by host: they may share one.
type slots struct {
	all       chan struct{}
	perRegion int
	regions   *keyed.Semaphores[string]
	waiting   atomic.Int64 // for one to come free
}

func newSlots(all, perRegion int) *slots {
	return &slots{all: make(chan struct{}, all), perRegion: perRegion, regions: keyed.New[string](int64(perRegion))}
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
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	leave, err := s.regions.Acquire(ctx, region, 1)
	if err != nil {
		return nil, &busyError{region: true, limit: s.perRegion, cause: err}
	}
	select {
	case s.all <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, &busyError{limit: cap(s.all), cause: ctx.Err()}
	}
	return func() {
		<-s.all
		leave()
	}, nil
}
