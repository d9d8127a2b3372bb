package simstack

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Service is one of the simulated services.
type Service string

// The services.
const (
	Keystone Service = "keystone"
	Nova     Service = "nova"
	KeyRock  Service = "keyrock"
)

// Kind is what goes wrong.
type Kind string

// The kinds of faults. Where it is not said otherwise the request has no effect.
const (
	Refuse       Kind = "refuse" // the connection is reset before anything is answered
	Hang         Kind = "hang"   // no answer until the client goes or the fault is cleared; then served
	Unauthorized Kind = "401"
	Denied       Kind = "403"
	NotFound     Kind = "404"
	Conflict     Kind = "409"
	TooMany      Kind = "429" // with Retry-After: 1
	ServerError  Kind = "500"
	Unavailable  Kind = "503"
	HTML         Kind = "html" // 200 with a web page
	Nonsense     Kind = "json" // 200 with JSON of another kind
	Cut          Kind = "cut"  // done, but the connection breaks after half of the answer
	Lost         Kind = "lost" // done, but the connection breaks before the answer
	// Vanish deletes the flavor that the request names (in its path) just
	// before the request is served; VanishAfter once it has been, and a flavor
	// that the request creates too. Requests that name no flavor do not count.
	Vanish      Kind = "vanish"
	VanishAfter Kind = "vanish-after"
	Slow        Kind = "slow" // nothing but the Delay
)

var kinds = []Kind{
	Refuse, Hang, Unauthorized, Denied, NotFound, Conflict, TooMany, ServerError, Unavailable,
	HTML, Nonsense, Cut, Lost, Vanish, VanishAfter, Slow,
}

// Fault is an order to fail.
type Fault struct {
	Service Service // "": Nova where a region is named, else any
	Kind    Kind
	Method  string // "": any
	// Path is the beginning of the path after the service's version prefix, such as
	// "/flavors" or "/auth/tokens" (KeyRock: "/user"); "": any.
	Path  string
	Delay time.Duration // before the fault strikes
	After int           // so many matching calls are served first
	Times int           // strikes so often; 0: until it is cleared
}

// faults are the orders in force, in the order they were given.
type faults struct {
	any    atomic.Bool // is there one? Spares the lock where there is none
	mu     sync.Mutex
	last   int
	orders []*order
}

type order struct {
	Fault
	id      string
	region  string
	skip    int           // matching calls still to be served
	left    int           // strikes left; 0: no limit
	spent   bool          // struck Times times; kept for those that hang
	cleared chan struct{} // closed when it is
}

// Fault orders the services of a region to fail; region "" is all of them, and
// Keystone and KeyRock, which belong to none. Of several that match a call the
// oldest strikes. It panics on a kind that does not exist.
func (s *Stack) Fault(region string, f Fault) (cancel func()) {
	if !slices.Contains(kinds, f.Kind) {
		panic("simstack: there is no kind of fault " + string(f.Kind))
	}
	id := s.addFault(region, f)
	return func() { s.clearFault(id) }
}

func (s *Stack) addFault(region string, f Fault) (id string) {
	if f.Service == "" && region != "" {
		f.Service = Nova
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.last++
	o := &order{Fault: f, id: strconv.Itoa(s.faults.last), region: region, skip: f.After, left: f.Times, cleared: make(chan struct{})}
	s.faults.orders = append(s.faults.orders, o)
	s.faults.any.Store(true)
	return o.id
}

func (s *Stack) clearFault(id string) bool {
	return s.clearFaults(func(o *order) bool { return o.id == id }) > 0
}

// ClearFaults takes every fault and delay back, and lets go what hangs.
func (s *Stack) ClearFaults() {
	s.clearFaults(func(*order) bool { return true })
	s.Delay("", 0)
}

func (s *Stack) clearFaults(which func(*order) bool) (n int) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.orders = slices.DeleteFunc(s.faults.orders, func(o *order) bool {
		if which(o) {
			close(o.cleared)
			n++
			return true
		}
		return false
	})
	s.faults.any.Store(len(s.faults.orders) > 0)
	return n
}

// strike is the fault that this call meets, nil if none.
func (s *Stack) strike(method string, c call) *order {
	if !s.faults.any.Load() {
		return nil
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	for i, o := range s.faults.orders {
		if !o.matches(method, c) {
			continue
		}
		if o.skip > 0 {
			o.skip--
			continue
		}
		if o.left > 0 {
			if o.left--; o.left == 0 {
				o.spent = true
				if o.Kind != Hang {
					s.faults.orders = slices.Delete(s.faults.orders, i, i+1)
					s.faults.any.Store(len(s.faults.orders) > 0)
				}
			}
		}
		return o
	}
	return nil
}

func (o *order) matches(method string, c call) bool {
	creates := c.service == Nova && method == http.MethodPost && c.path == "/flavors"
	switch {
	case o.spent, o.Service != "" && o.Service != c.service, o.region != "" && o.region != c.regionName(),
		o.Method != "" && o.Method != method, !strings.HasPrefix(c.path, o.Path):
		return false
	case o.Kind == Vanish:
		return c.flavorID() != ""
	case o.Kind == VanishAfter:
		return c.flavorID() != "" || creates
	}
	return true
}

// Delay makes every answer of that region's Nova take so long; region "" is
// every region there is now. 0 ends it. It panics when there is no such region.
func (s *Stack) Delay(region string, d time.Duration) {
	if region != "" {
		s.must(region).delay.Store(int64(d))
		return
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, r := range s.regions {
		r.delay.Store(int64(d))
	}
}

// call is what is known of a request before it is served.
type call struct {
	service Service
	region  *region // of Nova
	path    string  // after the service's version prefix
}

func (c call) regionName() string {
	if c.region == nil {
		return ""
	}
	return c.region.name
}

// flavorID is the id of the flavor in the path.
func (c call) flavorID() string {
	rest, ok := strings.CutPrefix(c.path, "/flavors/")
	if c.service != Nova || !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "/")
	if id == "detail" {
		return ""
	}
	return id
}

// answer counts the call, and serves it or does what a fault orders.
func (s *Stack) answer(w http.ResponseWriter, r *http.Request, c call, serve func(http.ResponseWriter, *http.Request, call)) {
	s.requests.begin(r.Method, c)
	defer s.requests.end(c)
	fault := s.strike(r.Method, c)
	var delay time.Duration
	if c.region != nil {
		delay = time.Duration(c.region.delay.Load())
	}
	if fault == nil && delay == 0 {
		serve(w, r, c)
		return
	}
	// The server learns that the client has gone only once the body is read.
	body, _ := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	r.Body = io.NopCloser(bytes.NewReader(body))
	wait(r, delay, nil)
	if fault == nil {
		serve(w, r, c)
		return
	}
	wait(r, fault.Delay, fault.cleared)
	switch fault.Kind {
	case Refuse:
		reset(w)
	case Hang:
		select {
		case <-r.Context().Done():
			reset(w)
		case <-fault.cleared:
			serve(w, r, c)
		}
	case HTML:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, "<!doctype html>\n<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>\n")
	case Nonsense:
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"hello": 1}`)
	case Cut:
		done := httptest.NewRecorder()
		serve(done, r, c)
		maps.Copy(w.Header(), done.Header())
		full := done.Body.Bytes()
		w.Header().Set("Content-Length", strconv.Itoa(max(len(full), 2)))
		w.WriteHeader(done.Code)
		w.Write(full[:len(full)/2])
		_ = http.NewResponseController(w).Flush() // the connection breaks now anyhow
		panic(http.ErrAbortHandler)
	case Lost:
		serve(httptest.NewRecorder(), r, c)
		reset(w)
	case Vanish:
		c.region.remove(c.flavorID())
		serve(w, r, c)
	case VanishAfter:
		done := httptest.NewRecorder()
		serve(done, r, c)
		id := c.flavorID()
		if id == "" {
			var created struct{ Flavor struct{ ID string } }
			if json.Unmarshal(done.Body.Bytes(), &created) == nil {
				id = created.Flavor.ID
			}
		}
		c.region.remove(id)
		maps.Copy(w.Header(), done.Header())
		w.WriteHeader(done.Code)
		w.Write(done.Body.Bytes())
	case Slow:
		serve(w, r, c)
	default:
		code, _ := strconv.Atoi(string(fault.Kind))
		s.fail(w, r, c, code)
	}
}

// fail answers an error as that service words it.
func (s *Stack) fail(w http.ResponseWriter, r *http.Request, c call, code int) {
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	message := "ordered by a test: " + http.StatusText(code)
	switch c.service {
	case Nova:
		novaRequestID(w)
		if code == http.StatusUnauthorized {
			s.novaUnauthorized(w, r)
			return
		}
		novaError(w, code, message)
	default:
		keystoneRequestID(w)
		if code == http.StatusUnauthorized {
			s.keystoneUnauthorized(w, r)
			return
		}
		keystoneError(w, code, message)
	}
}

// wait lasts d, or until the client goes or the fault is cleared.
func wait(r *http.Request, d time.Duration, cleared <-chan struct{}) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-cleared:
	case <-r.Context().Done():
	}
}

// reset breaks the connection without an answer: with a TCP reset where there
// is such a connection.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the close is a polite one
	}
	conn.Close()
}
