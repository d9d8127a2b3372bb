package httpapi

import (
	"math"
	"net/netip"
	"sync"
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
const guessesAtOnce = 256

// callerLimits holds each caller to so many requests in a second.
type callerLimits struct {
	perSecond int
	limiters  *lru.Cache[string, *rate.Limiter]
}

func newCallerLimits(perSecond int) *callerLimits {
	return &callerLimits{perSecond, newCache[*rate.Limiter]()}
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
	if limiter.Allow() {
		return nil
	}
	return tooMany(time.Second, "more than %d requests in a second: wait a moment", l.perSecond)
}

// loginLimits holds each address to so many failed logins in a minute.
type loginLimits struct {
	perMinute int
	addresses *lru.Cache[string, *logins]
}

type logins struct {
	failures *rate.Limiter
	mu       sync.Mutex
	running  int
}

func newLoginLimits(perMinute int) *loginLimits {
	return &loginLimits{perMinute, newCache[*logins]()}
}

// begin is called before a login is checked, and done with its outcome after.
// Failures of logins that ran side by side may overdraw the limit; what is
// overdrawn must be waited for too.
func (l *loginLimits) begin(address string) (done func(failed bool), err error) {
	a := getOrAdd(l.addresses, network(address), func() *logins {
		return &logins{failures: rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)}
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	missing := 1 - a.failures.Tokens()
	if missing > 0 || a.running >= guessesAtOnce {
		wait := time.Duration(math.Max(missing, 0) * 60 / float64(l.perMinute) * float64(time.Second))
		return nil, tooMany(wait, "too many failed logins from your address: wait, then try again")
	}
	a.running++
	return func(failed bool) {
		if failed {
			a.failures.ReserveN(time.Now(), 1)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.running--
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
