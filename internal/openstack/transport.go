package openstack

import (
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

var errForeignHost = errors.New("the request would leave the host it was made for")

// pool is the connections to a region whose certificates are its own: they are
// shared with nobody, for another would take them for verified as theirs are.
type pool struct {
	*outgoing.Transport
	ca string // PEM
}

// connections are those of a region for whose services the certificates in ca,
// PEM, vouch besides those of the system. There is one pool for each region:
// one with other certificates replaces it.
func (c *Clouds) connections(region, ca string) *outgoing.Transport {
	if ca == "" {
		return c.base
	}
	c.poolsMu.Lock()
	defer c.poolsMu.Unlock()
	if p, ok := c.pools.Get(region); ok {
		if p.ca == ca {
			return p.Transport
		}
		c.pools.Remove(region)
	}
	t := c.base.WithRootCAs(authorities(ca))
	c.pools.Add(region, &pool{t, ca})
	return t
}

// authorities are those of the system and the certificates in ca.
func authorities(ca string) *x509.CertPool {
	all, err := x509.SystemCertPool()
	if err != nil {
		all = x509.NewCertPool() // a system without any
	}
	all.AppendCertsFromPEM([]byte(ca))
	return all
}

// vouching is r's own certificates where callers' tokens may go by them.
func vouching(r flavor.Region) string {
	if r.CACertificateTrusted {
		return r.CACertificate
	}
	return ""
}

// wire is the RoundTripper of one service of one region. A token given to it
// never leaves the scheme and host it was made for, and every call holds a slot
// until its answer is read.
type wire struct {
	clouds *Clouds
	slots  *slots
	region string
	ca     string  // the region's own certificates, PEM
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
	resp, err := w.clouds.connections(w.region, w.ca).RoundTrip(req)
	if err != nil {
		release()
		return nil, err
	}
	note(req.Context(), resp.Header)
	resp.Body = &body{ReadCloser: resp.Body, release: release}
	return resp, nil
}

func (w *wire) admit(req *http.Request) (release func(), err error) {
	if req.URL.Scheme != w.origin.Scheme || !strings.EqualFold(req.URL.Host, w.origin.Host) {
		return nil, errForeignHost
	}
	return w.slots.acquire(req.Context(), w.region)
}

// body is an answer's body whose Close gives the slot back.
type body struct {
	io.ReadCloser
	once    sync.Once
	release func()
}

func (b *body) Close() error {
	var err error
	b.once.Do(func() {
		err = b.ReadCloser.Close()
		b.release()
	})
	return err
}
