package outgoing_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/outgoing"
	"github.com/flavorsync/flavorsync/internal/outgoing/dnstest"
)

// secret stands in what is answered; no error may hold it.
const secret = "c4n4ry"

// bystander listens where nobody may be called.
type bystander struct {
	net.Listener
	reached atomic.Int64
}

func listenAt(t *testing.T, address string) (net.Listener, error) {
	t.Helper()
	return (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
}

// newPair is a server at 127.0.0.2, which the tests allow, and a bystander at
// the same port of 127.0.0.1, which they do not: whoever changes nothing but the
// address of a name gets from the one to the other.
func newPair(t *testing.T, handler http.Handler) (port string, by *bystander) {
	t.Helper()
	for range 20 {
		open, err := listenAt(t, "127.0.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ = net.SplitHostPort(open.Addr().String())
		shut, err := listenAt(t, "127.0.0.1:"+port)
		if err != nil {
			open.Close() // somebody else has it
			continue
		}
		by = &bystander{Listener: shut}
		go func() {
			for {
				conn, err := shut.Accept()
				if err != nil {
					return
				}
				by.reached.Add(1)
				conn.Close()
			}
		}()
		server := &httptest.Server{Listener: open, Config: &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}}
		server.Start()
		t.Cleanup(func() {
			shut.Close()
			server.Close()
			if n := by.reached.Load(); n > 0 {
				t.Errorf("what must not be called got %d connections", n)
			}
		})
		return port, by
	}
	t.Fatal("no port is free at both addresses")
	return "", nil
}

var allowed = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// client is one of cfg that may call the server of newPair.
func client(t *testing.T, cfg outgoing.Config) *http.Client {
	t.Helper()
	cfg.AllowHTTP, cfg.AllowNetworks = true, allowed
	c := outgoing.New(cfg).Client()
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// get is the whole answer.
func get(t *testing.T, c *http.Client, url string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	res, err := c.Do(req)
	if err != nil {
		quiet(t, err)
		return nil, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	quiet(t, err)
	return res, string(text), err
}

// quiet sees that err shows nothing of an answer, to whatever depth it is told.
func quiet(t *testing.T, err error) {
	t.Helper()
	if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(outgoing.Cause(err).Error(), secret)) {
		t.Errorf("the error shows what was answered: %v", err)
	}
}

func blocked(t *testing.T, what string, err error) {
	t.Helper()
	if _, ok := errors.AsType[*outgoing.BlockedError](err); !ok || outgoing.Refusal(err) == "" || !outgoing.Unsent(err) {
		t.Errorf("%s: %v", what, err)
	}
}

// A name that has a good address when it is registered, and another later, is
// checked each time it is dialed.
func TestRebinding(t *testing.T) {
	for _, next := range []string{"127.0.0.1", "169.254.169.254", "127.0.0.1 ::1", "::ffff:127.0.0.1", "::1", "64:ff9b::7f00:1", "10.0.0.1", "0.0.0.0", "::"} {
		t.Run(strings.ReplaceAll(next, " ", "+"), func(t *testing.T) {
			port, _ := newPair(t, http.HandlerFunc(hello))
			names := dnstest.Start(t)
			names.Says("rebind.test", "127.0.0.2", next)
			c := client(t, outgoing.Config{Resolver: names.Resolver()})
			at := "http://rebind.test:" + port
			for range 2 { // the second on the first one's connection
				if _, text, err := get(t, c, at); err != nil || text != "hello" {
					t.Fatal(text, err)
				}
			}
			if n := names.Asked("rebind.test"); n != 1 {
				t.Fatalf("the name was looked up %d times: the connection was not kept", n)
			}
			c.CloseIdleConnections()
			_, _, err := get(t, c, at)
			blocked(t, "the second dialing", err)
		})
	}
}

// Of several addresses those that may not be called are passed over.
func TestSeveralAddresses(t *testing.T) {
	port, _ := newPair(t, http.HandlerFunc(hello))
	names := dnstest.Start(t)
	c := client(t, outgoing.Config{Resolver: names.Resolver()})
	names.Says("mixed.test", "127.0.0.1 127.0.0.2 ::1")
	if _, text, err := get(t, c, "http://mixed.test:"+port); err != nil || text != "hello" {
		t.Error(text, err)
	}
	names.Says("localhost", "127.0.0.1")
	names.Alias("alias.test", "localhost")
	_, _, err := get(t, c, "http://alias.test:"+port)
	blocked(t, "CNAME", err)
}

// An address has many spellings. Some are names to Go, and addresses to other
// resolvers: what counts is what is dialed.
func TestSpellings(t *testing.T) {
	port, _ := newPair(t, http.HandlerFunc(hello))
	names := dnstest.Start(t)
	c := client(t, outgoing.Config{Resolver: names.Resolver()})
	for _, host := range []string{"2130706433", "017700000001", "127.1", "0177.0.0.1", "0", "127.0.0.1.", "0x7f.1", "0x7f000001"} {
		names.Says(strings.TrimSuffix(host, "."), "127.0.0.1") // as inet_aton has it
		_, _, err := get(t, c, "http://"+host+":"+port)
		if strings.Contains(host, "x") {
			blocked(t, host, err)
		} else if err == nil { // no name to Go, which asks nobody
			t.Errorf("%s was called", host)
		}
	}
	for _, host := range []string{
		"127.0.0.1", "localhost", "localhost.", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]",
		"[::]", "0.0.0.0", "[::1%25lo]", "[fe80::1%25lo]", "[64:ff9b::127.0.0.1]", "169.254.169.254", "[fd00:ec2::254]",
	} {
		names.Says("localhost", "127.0.0.1")
		_, _, err := get(t, c, "http://"+host+":"+port)
		blocked(t, host, err)
	}
}

// Whoever answers a redirect must not be followed, wherever it leads, nor quoted.
func TestRedirects(t *testing.T) {
	var location string
	asked := 0
	port, by := newPair(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("Location", location)
		w.WriteHeader(map[string]int{"/301": 301, "/302": 302, "/303": 303, "/307": 307, "/308": 308, "/300": 300}[r.URL.Path])
	}))
	c := client(t, outgoing.Config{})
	for _, location = range []string{"http://" + by.Addr().String(), "//127.0.0.1:" + port, "/" + secret, "http://169.254.169.254/", "http://[" + secret, ":" + secret, "%zz" + secret} {
		for _, status := range []int{300, 301, 302, 303, 307, 308} {
			asked = 0
			res, _, err := get(t, c, fmt.Sprintf("http://127.0.0.2:%s/%d", port, status))
			if err != nil || res.StatusCode != status || asked != 1 || res.Header.Get("Location") != "" {
				t.Errorf("%d to %q: asked %d times, %v", status, location, asked, err)
			}
		}
	}
}

// A proxy would be dialed in place of whom the guard has to see.
func TestNoProxy(t *testing.T) {
	if os.Getenv("HTTP_PROXY") == "" {
		t.Fatal("TestMain sets no proxy")
	}
	port, _ := newPair(t, http.HandlerFunc(hello))
	names := dnstest.Start(t)
	names.Says("proxied.test", "127.0.0.2")
	if _, text, err := get(t, client(t, outgoing.Config{Resolver: names.Resolver()}), "http://proxied.test:"+port); err != nil || text != "hello" {
		t.Error(text, err)
	}
}

// http needs its setting.
func TestPlainHTTP(t *testing.T) {
	port, _ := newPair(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was called") }))
	c := outgoing.New(outgoing.Config{AllowNetworks: allowed}).Client()
	for _, scheme := range []string{"http", "ftp", ""} {
		sent := &closing{Reader: strings.NewReader("password")}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.2:"+port, sent)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Scheme = scheme
		res, err := c.Do(req)
		if err == nil {
			res.Body.Close()
		}
		if scheme == "http" && (!errors.Is(err, outgoing.ErrPlainHTTP) || !strings.Contains(outgoing.Refusal(err), "outgoing.allow_http")) || err == nil {
			t.Errorf("%s: %v", scheme, err)
		}
		if !sent.closed {
			t.Errorf("%s: what was to be sent is left open", scheme)
		}
	}
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

// No answer is read without end, packed or not.
func TestBounds(t *testing.T) {
	const most = 100_000
	var size, status int
	var packed bool
	port, _ := newPair(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var to io.Writer = w
		if packed {
			w.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			defer zip.Close()
			to = zip
		}
		w.WriteHeader(status)
		_, _ = to.Write(bytes.Repeat([]byte("x"), size)) // the caller may have had enough
	}))
	c := client(t, outgoing.Config{MaxAnswer: most})
	for _, test := range []struct {
		size, status, want int
		err                error
	}{
		{most - 1, 200, most - 1, nil},
		{most, 200, most, nil},
		{most + 1, 200, most, outgoing.ErrTooLarge},
		{50 * most, 201, most, outgoing.ErrTooLarge},
		{1000, 404, 1000, nil},
		{most, 404, 64 << 10, nil},
		{50 * most, 500, 64 << 10, nil},
		{most, 302, 64 << 10, nil},
	} {
		for _, packed = range []bool{false, true} {
			size, status = test.size, test.status
			_, text, err := get(t, c, "http://127.0.0.2:"+port)
			if len(text) != test.want || !errors.Is(err, test.err) {
				t.Errorf("%d with %d bytes, packed %t: %d and %v, not %d and %v", status, size, packed, len(text), err, test.want, test.err)
			}
		}
	}
}

// What answers no HTTP is not quoted, whichever part of net/http notices.
func TestQuotesNothing(t *testing.T) {
	answers := []string{
		secret, secret + "\r\n\r\n", "HTTP/1.1 " + secret + "\r\n\r\n", "HTTP/9.9 200 " + secret + "\r\n\r\n", "HTTP/1.1 2OO " + secret + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n", "HTTP/1.1 200 OK\r\n" + secret + ": a\r\n b\r\n\r\n", "HTTP/1.1 200 OK\r\nA" + secret + " :\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: " + secret + "\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2" + secret + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + secret + "\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + secret + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n1\r\na\r\n0\r\n" + secret + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + secret + "\r\nabc" + secret,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length, " + secret + "\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\n" + secret, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + secret,
		"HTTP/1.1 200 OK\r\nA: " + strings.Repeat(secret, 64<<10) + "\r\n\r\n", strings.Repeat("HTTP/1.1 103 "+secret+"\r\nA: "+secret+"\r\n\r\n", 9999),
		"HTTP/1.1 101 " + secret + "\r\nUpgrade: " + secret + "\r\nConnection: upgrade\r\n\r\n",
	}
	var answer string
	listener, err := listenAt(t, "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := conn.Read(make([]byte, 4096)); err == nil {
				_, _ = io.WriteString(conn, answer) // who had enough has gone
			}
			conn.Close()
		}
	}()
	c := client(t, outgoing.Config{})
	for _, answer = range answers {
		for _, scheme := range []string{"http", "https"} {
			if _, _, err := get(t, c, scheme+"://"+listener.Addr().String()); err == nil && scheme == "https" {
				t.Errorf("%.60q was taken for TLS", answer)
			}
		}
	}
}

// A certificate, and the reasons of HTTP/2, are foreign text too.
func TestQuotesNoTLS(t *testing.T) {
	certificate := certificateOf(t, secret+".test")
	for _, test := range []struct {
		name   string
		change func(*tls.Config)
		roots  *x509.CertPool
	}{
		{"unknown authority", func(*tls.Config) {}, x509.NewCertPool()},
		{"another name", func(*tls.Config) {}, pool(certificate)},
		{"an old TLS", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 }, pool(certificate)},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			listener, err := listenAt(t, "127.0.0.2:0")
			if err != nil {
				t.Fatal(err)
			}
			s := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(hello), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}}
			s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS10}
			test.change(s.TLS)
			s.StartTLS()
			t.Cleanup(s.Close)
			shared := outgoing.New(outgoing.Config{AllowNetworks: allowed})
			_, _, err = get(t, shared.WithRootCAs(test.roots).Client(), s.URL)
			if outgoing.TLSFlaw(err) == "" {
				t.Errorf("%v", err)
			}
			// An alert may come after the request.
			if alert := test.name == "an old TLS"; outgoing.Unsent(err) == alert {
				t.Errorf("unsent: %t, %v", !alert, err)
			}
		})
	}
}

// An answer that does not come ends the call, headers or body, whatever the
// caller's context says.
func TestTimeout(t *testing.T) {
	hang := make(chan struct{})
	port, _ := newPair(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
		}
		<-hang
	}))
	t.Cleanup(func() { close(hang) })
	c := client(t, outgoing.Config{Timeout: 50 * time.Millisecond})
	for _, path := range []string{"/header", "/body"} {
		if _, _, err := get(t, c, "http://127.0.0.2:"+port+path); !outgoing.TimedOut(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.2:"+port, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err == nil {
		res.Body.Close()
	}
	if !errors.Is(err, context.Canceled) || outgoing.TimedOut(err) {
		t.Errorf("given up: %v", err)
	}
}

// Certificates of one region's own open no other region's connection.
func TestRootCAs(t *testing.T) {
	certificate := certificateOf(t, "own.test")
	names := dnstest.Start(t)
	names.Says("own.test", "127.0.0.2")
	listener, err := listenAt(t, "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(hello), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}}
	s.StartTLS()
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	shared := outgoing.New(outgoing.Config{AllowNetworks: allowed, Resolver: names.Resolver()})
	own := shared.WithRootCAs(pool(certificate))
	t.Cleanup(own.CloseIdleConnections)
	if res, text, err := get(t, own.Client(), "https://own.test:"+port); err != nil || text != "hello" || res.ProtoMajor != 2 {
		t.Fatal(text, err)
	}
	if _, _, err := get(t, shared.Client(), "https://own.test:"+port); outgoing.TLSFlaw(err) == "" {
		t.Errorf("another got through: %v", err)
	}
}

// certificateOf is a certificate for name that vouches for itself.
func certificateOf(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func pool(c tls.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.Leaf)
	return p
}

func TestMain(m *testing.M) {
	// net/http reads it once in a process.
	os.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	os.Exit(m.Run())
}
