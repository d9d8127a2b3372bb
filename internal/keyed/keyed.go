// Package keyed bounds how many are at one thing at a time, for many things that
// are told apart by a key.
package keyed

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Semaphores is a semaphore for each key, which is there for as long as somebody
// holds it or waits for it.
type Semaphores[K comparable] struct {
	size int64
	mu   sync.Mutex
	used map[K]*used
}

type used struct {
	*semaphore.Weighted
	users int
}

// New makes semaphores that let a weight of size in, at each key.
func New[K comparable](size int64) *Semaphores[K] {
	return &Semaphores[K]{size: size, used: map[K]*used{}}
}

// Acquire waits until there is room for weight at key; who came first is let in
// first. release gives it back, and must be called once. The error is ctx's.
func (s *Semaphores[K]) Acquire(ctx context.Context, key K, weight int64) (release func(), err error) {
	at := s.enter(key)
	if err := at.Acquire(ctx, weight); err != nil {
		s.leave(key, at)
		return nil, err
	}
	return func() {
		at.Release(weight)
		s.leave(key, at)
	}, nil
}

// Users is how many hold key, or wait for it.
func (s *Semaphores[K]) Users(key K) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.used[key]; at != nil {
		return at.users
	}
	return 0
}

// Keys is how many keys are held, or waited for.
func (s *Semaphores[K]) Keys() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.used)
}

func (s *Semaphores[K]) enter(key K) *used {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.used[key]
	if at == nil {
		at = &used{Weighted: semaphore.NewWeighted(s.size)}
		s.used[key] = at
	}
	at.users++
	return at
}

func (s *Semaphores[K]) leave(key K, at *used) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.users--; at.users == 0 {
		delete(s.used, key)
	}
}
