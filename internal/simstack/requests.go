package simstack

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// RequestCount is how often one request came. Path is the whole path after the
// service's version prefix, without the query.
type RequestCount struct {
	Service Service `json:"service"`
	Region  string  `json:"region,omitempty"` // of Nova
	Method  string  `json:"method"`
	Path    string  `json:"path"`
	Count   int     `json:"count"`
}

// maxDistinct bounds the memory of a demo that runs for long: further paths
// are counted together, as path "...".
const maxDistinct = 20000

type requests struct {
	mu       sync.Mutex
	counts   map[RequestCount]int // keys have Count 0
	inFlight map[string]int       // by region
	peak     map[string]int
	arrived  chan struct{} // closed by the next request, where one waits for it
}

func (q *requests) begin(method string, c call) {
	key := RequestCount{Service: c.service, Region: c.regionName(), Method: method, Path: c.path}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.inFlight == nil {
		q.inFlight = map[string]int{}
	}
	if q.counts == nil {
		q.counts, q.peak = map[RequestCount]int{}, map[string]int{}
	}
	if _, known := q.counts[key]; !known && len(q.counts) >= maxDistinct {
		key.Path = "..."
	}
	q.counts[key]++
	if q.arrived != nil {
		close(q.arrived)
		q.arrived = nil
	}
	if key.Region != "" {
		q.inFlight[key.Region]++
		q.peak[key.Region] = max(q.peak[key.Region], q.inFlight[key.Region])
	}
}

func (q *requests) end(c call) {
	if c.region == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inFlight[c.region.name]--
}

// Requests are the requests since New, Reset or ForgetRequests, sorted.
func (s *Stack) Requests() []RequestCount {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	list := make([]RequestCount, 0, len(s.requests.counts))
	for key, n := range s.requests.counts {
		key.Count = n
		list = append(list, key)
	}
	slices.SortFunc(list, func(a, b RequestCount) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Region, b.Region),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	return list
}

// Count is how many requests of that method ("" is any) to a path with that
// beginning came; service "" is any, region "" is any and none.
func (s *Stack) Count(service Service, region, method, pathPrefix string) (n int) {
	for _, q := range s.Requests() {
		if (service == "" || q.Service == service) && (region == "" || q.Region == region) &&
			(method == "" || q.Method == method) && strings.HasPrefix(q.Path, pathPrefix) {
			n += q.Count
		}
	}
	return n
}

// Await lasts until Count of the same arguments is at least n: so many calls have
// come, though they need not have been answered. The only error is that of ctx.
func (s *Stack) Await(ctx context.Context, n int, service Service, region, method, pathPrefix string) error {
	for {
		s.requests.mu.Lock()
		if s.requests.arrived == nil {
			s.requests.arrived = make(chan struct{})
		}
		next := s.requests.arrived
		s.requests.mu.Unlock()
		if s.Count(service, region, method, pathPrefix) >= n {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return fmt.Errorf("while waiting for %d calls of %s %s: %w", n, service, region, ctx.Err())
		}
	}
}

// PeakInFlight is the greatest number of calls the region's Nova had at once.
func (s *Stack) PeakInFlight(region string) int {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	return s.requests.peak[region]
}

func (s *Stack) peaks() map[string]int {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	peaks := map[string]int{}
	maps.Copy(peaks, s.requests.peak)
	return peaks
}

// ForgetRequests sets all counters to zero; the calls that still run count
// towards the next peak.
func (s *Stack) ForgetRequests() {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	s.requests.counts, s.requests.peak = nil, nil
}
