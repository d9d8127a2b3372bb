package identity

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// fetched is what a provider publishes, fetched when it is first needed and
// again on demand, yet not twice within pause: whoever asks sooner gets the last
// outcome. Callers who ask together share one fetch, which goes on when the
// first of them leaves. It is safe for concurrent use.
type fetched[T any] struct {
	fetch func(context.Context) (T, error) // must bound its own time
	pause time.Duration
	now   func() time.Time

	flights singleflight.Group

	mu    sync.Mutex
	asked time.Time // when the last fetch began
	good  time.Time // when the last fetch began that brought value; zero: none has
	value T
	err   error // of the last fetch
}

// known is the value that there is, and since when; zero time where there is none.
func (f *fetched[T]) known() (T, time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.value, f.good
}

// again fetches anew, or tells the outcome of less than pause ago, and from when
// on it may be asked again. With an error, the value is the last good one.
func (f *fetched[T]) again(ctx context.Context) (value T, next time.Time, err error) {
	select {
	case <-f.start(ctx):
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.value, f.asked.Add(f.pause), f.err
	case <-ctx.Done():
		value, _ = f.known()
		return value, time.Time{}, context.Cause(ctx)
	}
}

// start begins a fetch, unless one is under way or was begun less than pause ago.
func (f *fetched[T]) start(ctx context.Context) <-chan singleflight.Result {
	return f.flights.DoChan("", func() (any, error) {
		now := f.now()
		f.mu.Lock()
		soon := !f.asked.IsZero() && now.Before(f.asked.Add(f.pause))
		if !soon {
			f.asked = now
		}
		f.mu.Unlock()
		if soon {
			return nil, nil
		}
		value, err := f.fetch(context.WithoutCancel(ctx))
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.err = err; err == nil {
			f.value, f.good = value, now
		}
		return nil, nil
	})
}
