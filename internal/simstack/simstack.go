// Package simstack is a simulated OpenStack federation in one process, for the
// demo and the tests: one Keystone (identity v3), one FIWARE KeyRock and, for
// each region, one Nova (compute v2.1 to 2.93) with its own flavors. It answers
// as the real ones do (observed on Zed), and fails when a test orders it to.
//
// One listener serves them all:
//
//	/identity/v3            Keystone
//	/idm/user               KeyRock's user endpoint, ?access_token=T
//	/compute/{region}/v2.1  the Nova of that region
//	/_sim/                  the control below
//
// Users, in domain Default: admin/admin-secret (project admin) and
// operator/operator-secret (project operators) have the role admin,
// member/member-secret and reader/reader-secret (project demo) may list and show
// only. IdM tokens: manager, owner-spain2, owner-trento, owner-lannion2, user.
//
// # Control over HTTP
//
// Everything a test can order in Go can be ordered over HTTP too. It is not
// authenticated: serve it on loopback only.
//
//	POST   /_sim/faults    {"region": "Trento", "service": "nova", "kind": "hang",
//	                        "method": "GET", "path": "/flavors", "delay": "200ms",
//	                        "after": 0, "times": 1}      201 {"id": "1"}
//	GET    /_sim/faults    200 {"faults": [...]}, those still in force
//	DELETE /_sim/faults    204, clears all and every delay; /_sim/faults/{id} clears one
//	POST   /_sim/delay     {"region": "Trento", "delay": "200ms"}   204; region "" is every region
//	GET    /_sim/requests  200 {"requests": [{"service", "region", "method", "path", "count"}],
//	                            "peak": {"Trento": 4}}; ?region= and ?service= select
//	DELETE /_sim/requests  204, forgets them
//	POST   /_sim/regions   {"name": "Prague"}  201
//	POST   /_sim/identities {"token": "t", "user": {KeyRock's answer}}  201
//	POST   /_sim/reset     204, back to how it was made
//
// Durations are Go's ("200ms"). All fields of a fault but kind are optional.
package simstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Collation says which texts a Nova's database takes for equal.
type Collation int

// The collations.
const (
	Exact Collation = iota // byte by byte, as on SQLite
	Blind                  // without case and accents, as MariaDB's utf8_general_ci
)

// Options are how a Stack is made. The zero value is the demo's federation:
// Spain2, Trento and Lannion2, comparing exactly.
type Options struct {
	Regions    []string             // nil: Spain2, Trento, Lannion2
	Collation  Collation            // of every Nova ...
	Collations map[string]Collation // ... but these
	MaxLimit   int                  // Nova's longest page; 0: 1000
	TokenLife  time.Duration        // of a Keystone token; 0: one hour
	// TokenCache is how long a Nova goes on believing a token it has seen after
	// Keystone revoked it; 0: five minutes, as the real one; negative: not at all.
	TokenCache time.Duration
	Now        func() time.Time // nil: time.Now
	// Beside is what else is served, each by the first part of its paths, which it
	// does not see.
	Beside map[string]http.Handler
}

// Stack is a running federation. Its methods may be called from any goroutine.
type Stack struct {
	opts Options

	mu      sync.RWMutex
	base    string // scheme://host[:port] of the listener; "": that of each request
	regions map[string]*region
	order   []string // the regions as they were added
	// endpoints are the compute endpoints that are not the region's own Nova;
	// "" is none at all.
	endpoints  map[string]string
	generation int // counts the changes of what the catalog holds

	keystone keystone
	keyrock  keyrock
	faults   faults
	requests requests
}

// New makes a Stack. It listens nowhere yet: see Start and Handler.
func New(opts Options) *Stack {
	if opts.Regions == nil {
		opts.Regions = []string{"Spain2", "Trento", "Lannion2"}
	}
	opts.Regions = slices.Clone(opts.Regions)
	opts.MaxLimit = cmp.Or(opts.MaxLimit, 1000)
	opts.TokenLife = cmp.Or(opts.TokenLife, time.Hour)
	opts.TokenCache = cmp.Or(opts.TokenCache, 5*time.Minute)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Stack{opts: opts}
	s.Reset()
	return s
}

// Reset puts everything back to how New made it: regions, flavors, tokens,
// identities, faults, delays and counters. Calls that hang are let go.
func (s *Stack) Reset() {
	s.ClearFaults()
	s.ForgetRequests()
	s.keystone.reset()
	s.keyrock.reset()
	s.mu.Lock()
	s.regions, s.order, s.endpoints = map[string]*region{}, nil, map[string]string{}
	s.generation++
	s.mu.Unlock()
	for _, name := range s.opts.Regions {
		s.AddRegion(name)
	}
}

// AddRegion adds a region with an empty Nova to the federation and to
// Keystone's catalog. A region that is there already stays as it is.
func (s *Stack) AddRegion(name string) {
	collation, ok := s.opts.Collations[name]
	if !ok {
		collation = s.opts.Collation
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.regions[name] == nil {
		s.regions[name] = newRegion(name, collation)
		s.order = append(s.order, name)
		s.generation++
	}
}

// RemoveRegion takes a region, its Nova and its endpoints away.
func (s *Stack) RemoveRegion(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.regions, name)
	delete(s.endpoints, name)
	s.generation++
	s.order = slices.DeleteFunc(s.order, func(n string) bool { return n == name })
}

// Regions are the names of the regions, as they were added.
func (s *Stack) Regions() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.order)
}

// SetEndpoint makes Keystone's catalog name that compute endpoint for the
// region instead of its own Nova's; "" leaves the region without one.
// It panics when there is no such region.
func (s *Stack) SetEndpoint(region, endpoint string) {
	s.must(region)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints[region] = endpoint
	s.generation++
}

// AddFlavor puts f into the region's Nova as an operator would have done, and
// gives a non-public one to those projects (ids). It panics when there is no
// such region, or when id or name is taken there.
func (s *Stack) AddFlavor(region string, f flavor.NovaFlavor, projects ...string) {
	if err := s.must(region).seed(f, projects); err != nil {
		panic(fmt.Sprintf("simstack: adding flavor %s to %s: %v", f.ID, region, err))
	}
}

// DeleteFlavor takes a flavor away behind everybody's back. It says whether it
// was there.
func (s *Stack) DeleteFlavor(region, id string) bool { return s.must(region).remove(id) }

// Flavors are the flavors in the region's Nova, non-public ones too, by id.
// It panics when there is no such region.
func (s *Stack) Flavors(region string) []flavor.NovaFlavor { return s.must(region).list() }

// Access are the ids of the projects a non-public flavor was given to, sorted.
func (s *Stack) Access(region, id string) []string { return s.must(region).access(id) }

func (s *Stack) must(name string) *region {
	if r := s.region(name); r != nil {
		return r
	}
	panic("simstack: there is no region " + name)
}

func (s *Stack) region(name string) *region {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.regions[name]
}

// Start serves the Stack at addr (host:port; port 0 is a free one) until stop
// is called. stop cuts whatever still runs.
func (s *Stack) Start(addr string) (baseURL string, stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("while listening for the simulated federation: %w", err)
	}
	baseURL = "http://" + listener.Addr().String()
	s.SetBaseURL(baseURL)
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return context.Background() },
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("the simulated federation stopped serving", "error", err)
		}
	}()
	return baseURL, func() { server.Close(); <-done }, nil
}

// SetBaseURL says where the Handler is served (scheme://host:port), for the
// catalog and for the URLs below. Without it the catalog names the host that
// the request named. Start calls it.
func (s *Stack) SetBaseURL(base string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base = strings.TrimSuffix(base, "/")
}

func (s *Stack) baseURL() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.base
}

// baseFor is the base URL of the answer to r.
func (s *Stack) baseFor(r *http.Request) string {
	if base := s.baseURL(); base != "" {
		return base
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// KeystoneURL is where Keystone answers, with its version.
func (s *Stack) KeystoneURL() string { return s.baseURL() + "/identity/v3" }

// KeyRockURL is KeyRock's user endpoint.
func (s *Stack) KeyRockURL() string { return s.baseURL() + "/idm/user" }

// NovaURL is the region's compute endpoint, as in Keystone's catalog.
func (s *Stack) NovaURL(region string) string { return s.baseURL() + novaPath(region) }

func novaPath(region string) string { return "/compute/" + url.PathEscape(region) + "/v2.1" }

// Handler serves the whole federation.
func (s *Stack) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Stack) serve(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	switch first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/"); first {
	case "_sim":
		s.serveControl(w, r, rest)
	case "identity":
		s.answer(w, r, call{service: Keystone, path: unversioned(rest, "v3")}, s.serveKeystone)
	case "idm":
		s.answer(w, r, call{service: KeyRock, path: "/" + rest}, s.serveKeyRock)
	case "compute":
		name, rest, _ := strings.Cut(rest, "/")
		region := s.region(name)
		if region == nil {
			http.Error(w, "there is no region "+name, http.StatusNotFound)
			return
		}
		s.answer(w, r, call{service: Nova, region: region, path: unversioned(rest, "v2.1")}, s.serveNova)
	default:
		if beside := s.opts.Beside[first]; beside != nil {
			http.StripPrefix("/"+first, beside).ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	}
}

// unversioned is a path without its version, for faults and counters.
func unversioned(path, version string) string {
	if first, rest, _ := strings.Cut(path, "/"); first == version {
		path = rest
	}
	return "/" + path
}
