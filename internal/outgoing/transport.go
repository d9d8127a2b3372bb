package outgoing

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Config says whom a Transport may call, and how much it takes of an answer.
type Config struct {
	AllowHTTP     bool           // plain http may be called
	AllowNetworks []netip.Prefix // loopback, link-local and private networks that may be called
	Timeout       time.Duration  // of connecting, of TLS and of waiting for an answer, each; of a whole call of Client; 0 is 10 s
	MaxAnswer     int64          // bytes of a good answer, unpacked; 0 is 8 MiB
	Conns         int            // connections to one host at once; 0 is no limit
	Idle          int            // connections kept to one host; 0 is 4
	Resolver      *net.Resolver  // nil: the system's
}

const (
	maxErrorAnswer = 64 << 10 // bytes of an answer that is none of 2xx; what is longer is cut
	maxDrained     = 64 << 10 // bytes read to reach an answer's end, so that the connection can be used again
)

var (
	// ErrPlainHTTP is the refusal to call http.
	ErrPlainHTTP = errors.New("plain http is not allowed")
	// ErrTooLarge is what reading a good answer beyond Config.MaxAnswer fails with.
	ErrTooLarge = errors.New("the answer is longer than can be taken")
)

// Transport is how this service calls others: by the guard, over TLS 1.2 or
// later, through no proxy (which would be dialed in place of what the guard has
// to see), and to nobody but who was meant, for no redirect can be followed. What
// it answers has an end, and its errors hold no byte of an answer.
type Transport struct {
	base      *http.Transport
	timeout   time.Duration
	maxAnswer int64
	allowHTTP bool
}

// New makes a Transport. It calls nobody.
func New(cfg Config) *Transport {
	timeout := cmp.Or(cfg.Timeout, 10*time.Second)
	dialer := &net.Dialer{
		Timeout: timeout, KeepAlive: 15 * time.Second, Resolver: cfg.Resolver,
		ControlContext: Guard(cfg.AllowNetworks),
	}
	return &Transport{
		base: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    timeout,
			ResponseHeaderTimeout:  timeout,
			ForceAttemptHTTP2:      true,
			MaxConnsPerHost:        cfg.Conns,
			MaxIdleConns:           1024,
			MaxIdleConnsPerHost:    cmp.Or(cfg.Idle, 4),
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		timeout: timeout, maxAnswer: cmp.Or(cfg.MaxAnswer, 8<<20), allowHTTP: cfg.AllowHTTP,
	}
}

// WithRootCAs is t for those for whom roots vouch, not the system's authorities.
// It shares no connection with t.
func (t *Transport) WithRootCAs(roots *x509.CertPool) *Transport {
	own := *t
	own.base = t.base.Clone()
	own.base.TLSClientConfig.RootCAs = roots
	return &own
}

// Client is an http.Client over t, each of whose calls ends within the timeout.
// It keeps no cookies.
func (t *Transport) Client() *http.Client { return &http.Client{Transport: t, Timeout: t.timeout} }

// CloseIdleConnections ends what is kept open for the next call.
func (t *Transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// RoundTrip makes one call, as http.RoundTripper has it. An answer of 3xx has
// lost its Location: what http.Client would follow may name any address, and
// would be given the token of the call.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !t.allowHTTP {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, ErrPlainHTTP
	}
	res, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, withoutQuotes(err)
	}
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		res.Header.Del("Location")
	}
	b := &body{from: res.Body, left: maxErrorAnswer}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		b.left, b.strict = t.maxAnswer, true
	}
	res.Body = b
	return res, nil
}

// body is an answer's body with an end.
type body struct {
	from   io.ReadCloser
	left   int64
	strict bool // too long is an error; else the rest is dropped
}

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		if !b.strict {
			return 0, io.EOF
		}
		// Only more bytes make it too long: it may end exactly here.
		var next [1]byte
		if n, err := io.ReadFull(b.from, next[:]); n == 0 {
			return 0, withoutQuotes(err)
		}
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.from.Read(p)
	b.left -= int64(n)
	return n, withoutQuotes(err)
}

func (b *body) Close() error {
	_, _ = io.CopyN(io.Discard, b.from, maxDrained)
	return b.from.Close()
}
