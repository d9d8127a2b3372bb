package openstack

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

// What is read of one answer.
const (
	maxAnswer      = 8 << 20  // of a good one
	maxErrorAnswer = 64 << 10 // of an error; what is longer is cut
	maxDrained     = 64 << 10 // to reach the end, so that the connection can be used again
)

var (
	errPlainHTTP   = errors.New("plain http is not allowed")
	errForeignHost = errors.New("the request would leave the host it was made for")
	errTooLarge    = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
)

// blockedError is the refusal to call an address.
type blockedError struct{ addr netip.Addr }

func (e *blockedError) Error() string { return fmt.Sprintf("the address %s is not allowed", e.addr) }

// newTransport makes the one transport of all calls: pooled connections, no
// proxy (which would be dialed in place of what the guard has to see).
func newTransport(cfg Config) *http.Transport {
	dialer := &net.Dialer{Timeout: cfg.RegionTimeout, KeepAlive: 15 * time.Second}
	if !cfg.Unguarded {
		dialer.ControlContext = guard(cfg.AllowNetworks)
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    cfg.RegionTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           1024,
		MaxIdleConnsPerHost:    max(cfg.MaxInFlight, 4), // regions may share a host
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// guard refuses a connection to an address that is not public and in none of
// the allowed networks. It runs after names are resolved, on the very address
// that is dialed, so no answer of a DNS server gets around it.
func guard(allowed []netip.Prefix) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("dialing an address that cannot be checked: %w", err)
		}
		if addr := to.Addr().Unmap().WithZone(""); !mayCall(addr, allowed) {
			return &blockedError{addr}
		}
		return nil
	}
}

func mayCall(addr netip.Addr, allowed []netip.Prefix) bool {
	for _, network := range allowed {
		if network.Contains(addr) {
			return true
		}
		// An allowed network may be written as IPv4 mapped to IPv6.
		if network.Addr().Is4In6() && network.Bits() >= 96 &&
			netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96).Contains(addr) {
			return true
		}
	}
	if addr.IsLoopback() || addr.IsPrivate() || addr.IsUnspecified() || addr.IsMulticast() ||
		addr.IsLinkLocalUnicast() || !addr.IsGlobalUnicast() {
		return false
	}
	if addr.Is6() && !global6.Contains(addr) {
		return false
	}
	for _, network := range special {
		if network.Contains(addr) {
			return false
		}
	}
	return true
}

// global6 is all that IANA has given out as IPv6 unicast. Beyond it lie NAT64,
// IPv4-translated and IPv4-compatible addresses, which lead to any IPv4 one,
// and what nobody has yet.
var global6 = netip.MustParsePrefix("2000::/3")

// special is what the IANA registries of special-purpose addresses keep from
// the public Internet, beyond what netip tells. 6to4 and
// Teredo carry an IPv4 address and lead to any.
var special = func() []netip.Prefix {
	var ps []netip.Prefix
	for _, p := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		ps = append(ps, netip.MustParsePrefix(p))
	}
	return ps
}()

// wire is the RoundTripper of one service of one region. A token given to it
// never leaves the scheme and host it was made for, every call holds a slot
// until its answer is read, and no answer is read without end.
type wire struct {
	clouds *Clouds
	region string
	origin url.URL // scheme and host only
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	release, err := w.admit(req)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	resp, err := w.clouds.base.RoundTrip(req)
	if err != nil {
		release()
		return nil, err
	}
	note(req.Context(), resp.Header)
	b := &body{from: resp.Body, left: maxErrorAnswer, release: release}
	if resp.StatusCode < 300 {
		b.left, b.strict = maxAnswer, true
	}
	resp.Body = b
	return resp, nil
}

func (w *wire) admit(req *http.Request) (release func(), err error) {
	switch {
	case req.URL.Scheme != w.origin.Scheme || !strings.EqualFold(req.URL.Host, w.origin.Host):
		return nil, errForeignHost
	case req.URL.Scheme != "https" && !w.clouds.cfg.AllowHTTP:
		return nil, errPlainHTTP
	}
	return w.clouds.slots.acquire(req.Context(), w.region)
}

// body is an answer's body with an end, whose Close gives the slot back.
type body struct {
	from    io.ReadCloser
	left    int64
	strict  bool // too long is an error; else the rest is dropped
	once    sync.Once
	release func()
}

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		if !b.strict {
			return 0, io.EOF
		}
		// Only more bytes make it too long: it may end exactly here.
		var next [1]byte
		if n, err := io.ReadFull(b.from, next[:]); n == 0 {
			return 0, err
		}
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.from.Read(p)
	b.left -= int64(n)
	return n, err
}

func (b *body) Close() error {
	var err error
	b.once.Do(func() {
		_, _ = io.CopyN(io.Discard, b.from, maxDrained)
		err = b.from.Close()
		b.release()
	})
	return err
}
