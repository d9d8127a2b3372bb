package httpapi

import (
	"sync"
	"time"
)

// streams are those that are open. They end with the service, not with their
// clients' patience: a shutdown waits for every request that runs.
type streams struct {
	ended chan struct{} // closed where there are to be none any more
	end   sync.Once

	mu   sync.Mutex
	of   map[string]int // by their caller
	open int
}

func newStreams() *streams {
	return &streams{ended: make(chan struct{}), of: map[string]int{}}
}

// enter counts one more of the caller's, until leave.
func (s *streams) enter(caller string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[caller] >= streamsPerCaller {
		return nil, tooMany(time.Minute, "you have %d streams of events open: end one before you begin another", streamsPerCaller)
	}
	s.of[caller]++
	s.open++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
		if s.of[caller]--; s.of[caller] == 0 {
			delete(s.of, caller)
		}
	}, nil
}

// Streams is how many streams of events are open.
func (s *Server) Streams() int {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	return s.streams.open
}

func (s *Server) endStreams() { s.streams.end.Do(func() { close(s.streams.ended) }) }
