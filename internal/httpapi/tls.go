package httpapi

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// certificateAge is how long a certificate is used before its files are looked at
// again: by the next client that comes, so that nothing runs where nobody comes.
const certificateAge = time.Second

// Certificate is a certificate with its key, in two PEM files that may be changed
// while it is used: those who come then get the new one, and connections stay.
// The whole files are compared, which are small, and not their times: so it does
// not matter whether they are written in place, renamed, or behind a link that
// certbot or Kubernetes turns.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time
	current           atomic.Pointer[tls.Certificate]

	mu        sync.Mutex
	looked    time.Time
	cert, key []byte // as they were at the last look, good or not
	unread    string // why they could not be read then
}

// LoadCertificate reads certFile, the certificate and the chain behind it, and
// keyFile, its private key.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, now: time.Now}
	c.looked = c.now()
	if _, err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

// Config is for a server that shows c and speaks minVersion of TLS at least, such
// as tls.VersionTLS12.
func (c *Certificate) Config(minVersion uint16) *tls.Config {
	return &tls.Config{GetCertificate: c.get, MinVersion: minVersion}
}

func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	// Whoever comes while somebody looks does not wait.
	if c.mu.TryLock() {
		if now := c.now(); now.Sub(c.looked) >= certificateAge {
			c.looked = now
			if news, err := c.read(); err != nil && news {
				c.log.Warn("the certificate was changed and cannot be used: the one before it stays until it can",
					"cert_file", c.certFile, "key_file", c.keyFile, "error", err.Error())
			}
		}
		c.mu.Unlock()
	}
	return c.current.Load(), nil
}

// read takes what the files hold if it can be used. news says whether that, or
// why they cannot be read, is another than at the last look.
func (c *Certificate) read() (news bool, err error) {
	cert, err := os.ReadFile(c.certFile)
	var key []byte
	if err == nil {
		key, err = os.ReadFile(c.keyFile)
	}
	if err != nil {
		news = c.unread != err.Error()
		c.unread = err.Error()
		return news, fmt.Errorf("while reading the certificate: %w", err)
	}
	if c.unread == "" && bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return false, nil
	}
	c.cert, c.key, c.unread = cert, key, ""
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return true, fmt.Errorf("while reading the certificate in %s and its key in %s: %w", c.certFile, c.keyFile, err)
	}
	c.current.Store(&pair)
	log := c.log.With("names", pair.Leaf.DNSNames, "not_before", pair.Leaf.NotBefore, "not_after", pair.Leaf.NotAfter)
	log.Info("the certificate was read")
	if now := c.now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		log.Warn("the certificate is not valid now, by this machine's clock")
	}
	return true, nil
}

// http2Limits bound one connection of HTTP/2, on which a client may ask many things at
// once: streams that are reset count until their handlers have ended, and a peer
// that answers no ping, or takes no byte, is left.
var http2Limits = http.HTTP2Config{
	MaxConcurrentStreams: 100,
	SendPingTimeout:      30 * time.Second,
	PingTimeout:          15 * time.Second,
	WriteByteTimeout:     30 * time.Second,
}
