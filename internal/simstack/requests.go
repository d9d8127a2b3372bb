package simstack

import "net/http"

// RequestCount is how often one request came. Path is the whole path after the
// service's version prefix, without the query.
type RequestCount struct {
	Service Service `json:"service"`
	Region  string  `json:"region,omitempty"` // of Nova
	Method  string  `json:"method"`
	Path    string  `json:"path"`
	Count   int     `json:"count"`
}

// Requests are the requests since New, Reset or ForgetRequests, sorted.
func (s *Stack) Requests() []RequestCount { return nil }

// Count is how many requests of that method ("" is any) to a path with that
// beginning came; region "" is Keystone and KeyRock and every Nova.
func (s *Stack) Count(service Service, region, method, pathPrefix string) int { return 0 }

// PeakInFlight is the greatest number of calls the region's Nova had at once.
func (s *Stack) PeakInFlight(region string) int { return 0 }

// ForgetRequests sets all counters to zero.
func (s *Stack) ForgetRequests() {}

type requests struct{}

type call struct {
	service Service
	region  *region
	path    string
}

func (s *Stack) answer(w http.ResponseWriter, r *http.Request, c call, serve func(http.ResponseWriter, *http.Request, call)) {
	serve(w, r, c)
}
