package httpapi

import (
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// remembered bounds how many callers, and how many addresses, have a limit of
// their own at one time; the longest silent is forgotten first.
const remembered = 10_000

// guessesAtOnce bounds the logins of one address that are being checked at one
// time, and with it how far parallel guessing can run ahead of the limit.
const guessesAtOnce = 64

// callerLimits holds each caller to so many requests in a second.
type callerLimits struct {
	perSecond int
	limiters  *lru.Cache[string, *rate.Limiter]
	now       func() time.Time
}

func newCallerLimits(perSecond int) *callerLimits {
	return &callerLimits{perSecond, newCache[*rate.Limiter](), time.Now}
}

// newCache cannot fail: its size is above 0.
func newCache[T any]() *lru.Cache[string, T] {
	cache, _ := lru.New[string, T](remembered)
	return cache
}

func (l *callerLimits) take(caller string) error {
	limiter := getOrAdd(l.limiters, caller, func() *rate.Limiter {
		return rate.NewLimiter(rate.Limit(l.perSecond), l.perSecond)
	})
	if limiter.AllowN(l.now(), 1) {
		return nil
	}
	return tooMany(time.Second, "more than %d requests in a second: wait a moment", l.perSecond)
}

// failureLimits holds each address to so many refused credentials of one kind in
// a minute. Who is over it is let in again when one is free, whatever they bring.
type failureLimits struct {
	perMinute int
	message   string
	addresses *lru.Cache[string, *failures]
	now       func() time.Time
	// over is until when some address is over its limit, in Unix nanoseconds.
	// Before that a caller's address matters; else none is looked up.
	over atomic.Int64
}

type failures struct {
	limiter *rate.Limiter
	mu      sync.Mutex
	running int // logins that are being checked
}

func newFailureLimits(perMinute int, message string) *failureLimits {
	return &failureLimits{perMinute: perMinute, message: message, addresses: newCache[*failures](), now: time.Now}
}

func (l *failureLimits) of(address string) *failures {
	return getOrAdd(l.addresses, network(address), func() *failures {
		return &failures{limiter: rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)}
	})
}

// wait is how long it takes until one more failure is free; 0 if it is now.
func (l *failureLimits) wait(f *failures, now time.Time) time.Duration {
	missing := 1 - f.limiter.TokensAt(now)
	return time.Duration(math.Max(missing, 0) * 60 / float64(l.perMinute) * float64(time.Second))
}

// check refuses an address that is over its limit.
func (l *failureLimits) check(address func() string) error {
	now := l.now()
	if now.UnixNano() >= l.over.Load() {
		return nil
	}
	if wait := l.wait(l.of(address()), now); wait > 0 {
		return tooMany(wait, "%s", l.message)
	}
	return nil
}

// failed counts a failure. Those that ran side by side may overdraw the limit;
// what is overdrawn must be waited for too.
func (l *failureLimits) failed(address string) {
	now := l.now()
	f := l.of(address)
	f.limiter.ReserveN(now, 1)
	wait := l.wait(f, now)
	if wait == 0 {
		return
	}
	until := now.Add(wait).UnixNano()
	for {
		over := l.over.Load()
		if over >= until || l.over.CompareAndSwap(over, until) {
			return
		}
	}
}

// begin is called before a login is checked, and done with its outcome after.
func (l *failureLimits) begin(address string) (done func(failed bool), err error) {
	if err := l.check(func() string { return address }); err != nil {
		return nil, err
	}
	f := l.of(address)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running >= guessesAtOnce {
		return nil, tooMany(0, "too many logins from your address are being checked: wait, then try again")
	}
	f.running++
	return func(failed bool) {
		if failed {
			l.failed(address)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.running--
	}, nil
}

// network is what one guesser has: an IPv4 address, or an IPv6 network.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		prefix, _ := ip.Prefix(64)
		return prefix.String()
	}
	return ip.String()
}

func tooMany(wait time.Duration, format string, args ...any) error {
	err := flavor.Errorf(flavor.CodeTooMany, format, args...)
	err.RetryAfter = wait
	return err
}

func getOrAdd[T any](cache *lru.Cache[string, T], key string, fresh func() T) T {
	if value, ok := cache.Get(key); ok {
		return value
	}
	value := fresh()
	if earlier, ok, _ := cache.PeekOrAdd(key, value); ok {
		return earlier
	}
	return value
}
