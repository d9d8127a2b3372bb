package openstack

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/flavorsync/flavorsync/internal/outgoing"
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

// newTransport makes the one transport of all calls: pooled connections, no
// proxy (which would be dialed in place of what the guard has to see).
func newTransport(cfg Config) *http.Transport {
	dialer := &net.Dialer{Timeout: cfg.RegionTimeout, KeepAlive: 15 * time.Second}
	if !cfg.Unguarded {
		dialer.ControlContext = outgoing.Guard(cfg.AllowNetworks)
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
