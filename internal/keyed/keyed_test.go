package keyed

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// A key lets as much in as it may and no more, is in no other key's way, and is
// forgotten when nobody is at it.
func TestAcquire(t *testing.T) {
	s := New[string](3)
	one, err := s.Acquire(t.Context(), "a", 2)
	if err != nil {
		t.Fatal(err)
	}
	gone, leave := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() {
		_, err := s.Acquire(gone, "a", 2)
		waiting <- err
	}()
	for s.Users("a") != 2 {
		select {
		case err := <-waiting:
			t.Fatalf("more is let in than there is room for: %v", err)
		default:
		}
	}
	leave()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("who went away is told %v", err)
	}
	two, err := s.Acquire(t.Context(), "a", 1)
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.Acquire(t.Context(), "b", 3)
	if err != nil || s.Keys() != 2 {
		t.Errorf("%d keys, %v", s.Keys(), err)
	}
	one()
	two()
	other()
	if s.Keys() != 0 || s.Users("a") != 0 {
		t.Errorf("%d keys are kept", s.Keys())
	}
}

// However many come at once, one at a time is at a key.
func TestOneAtATime(t *testing.T) {
	s := New[int](1)
	var at [2]atomic.Int32
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			key := i % len(at)
			release, err := s.Acquire(t.Context(), key, 1)
			if err != nil {
				t.Error(err)
				return
			}
			if n := at[key].Add(1); n != 1 {
				t.Errorf("%d are at it", n)
			}
			at[key].Add(-1)
			release()
		})
	}
	wg.Wait()
	if s.Keys() != 0 {
		t.Errorf("%d keys are kept", s.Keys())
	}
}
