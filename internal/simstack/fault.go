package simstack

import (
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
	TooMany      Kind = "429" // with Retry-After
	ServerError  Kind = "500"
	Unavailable  Kind = "503"
	HTML         Kind = "html" // 200 with a web page
	Nonsense     Kind = "json" // 200 with JSON of another kind
	Cut          Kind = "cut"  // done, but the connection breaks after half of the answer
	Lost         Kind = "lost" // done, but the connection breaks before the answer
	// Vanish deletes the flavor that the request names (in its path) just
	// before the request is served; VanishAfter once it has been.
	Vanish      Kind = "vanish"
	VanishAfter Kind = "vanish-after"
	Slow        Kind = "slow" // nothing but the Delay
)

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

// Fault orders the services of a region to fail; region "" is all of them, and
// Keystone and KeyRock, which belong to none. Of several that match a call the
// oldest strikes.
func (s *Stack) Fault(region string, f Fault) (clear func()) { return func() {} }

// ClearFaults takes every fault and delay back.
func (s *Stack) ClearFaults() {}

// Delay makes every answer of that region's Nova take so long; region "" is
// every region there is now. 0 ends it.
func (s *Stack) Delay(region string, d time.Duration) {}

type faults struct{}
