// Package coretest is a simulated Core of UCloud in one process, for the tests
// and the demo: what a provider of products sees of one. It makes the provider's
// key pair and tokens, takes definitions of products as strictly as a Core does,
// asks a provider what it lists, and fails when a test orders it to.
//
// It is of one of two generations: Classic, UCloud 2022.1 with V1 of the
// products, or Current, UCloud of 2026 with V2.
//
//	POST /auth/providers/refresh   a provider's refresh token for an access token
//	GET  /api/products/browse      V1     GET  /api/products/v2/browse   V2
//	POST /api/products             V1     POST /api/products/v2          V2
package coretest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Generation is how old a Core is.
type Generation int

// The generations.
const (
	Current Generation = iota // of 2026: V2 only
	Classic                   // 2022.1: V1 only
)

// Options are how a Core is made.
type Options struct {
	Provider   string // the one provider it knows; "": aau
	Generation Generation
	MaxPage    int              // the longest page of a browse; 0: 1000, Classic 250
	Now        func() time.Time // nil: time.Now
	Key        *rsa.PrivateKey  // nil: a new one
}

// Core is a running Core. Its methods may be called from any goroutine.
type Core struct {
	opts Options
	key  *rsa.PrivateKey

	mu       sync.Mutex
	refresh  string
	epoch    int // of the access tokens that are worth something
	v2       map[Reference]ProductV2
	v1       map[Reference][]ProductV1 // by version
	requests []*Request
	faults   []*order
}

// Reference is how a Core names a product.
type Reference struct {
	ID       string `json:"id"` // the name
	Category string `json:"category"`
	Provider string `json:"provider"`
}

// Request is one that came, as it came.
type Request struct {
	Method, Path string
	Query        url.Values
	Header       http.Header
	Body         []byte
	Status       int // of the answer; 0 where there was none
}

// maxRequests bounds the memory of a demo that runs for long.
const maxRequests = 10_000

// New makes a Core. It listens nowhere yet: see Start and Handler.
func New(opts Options) (*Core, error) {
	opts.Provider = cmp.Or(opts.Provider, "aau")
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.MaxPage == 0 {
		opts.MaxPage = map[Generation]int{Current: 1000, Classic: 250}[opts.Generation]
	}
	if opts.Key == nil {
		var err error
		if opts.Key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return nil, fmt.Errorf("while making the key pair of the provider: %w", err)
		}
	}
	return &Core{
		opts: opts, key: opts.Key, refresh: newSecret(),
		v2: map[Reference]ProductV2{}, v1: map[Reference][]ProductV1{},
	}, nil
}

func newSecret() string {
	buf := make([]byte, 20)
	rand.Read(buf)
	return hex.EncodeToString(buf)
}

// PublicKey is what a provider is given to verify tokens with: DER in base64.
func (c *Core) PublicKey() string {
	der, err := x509.MarshalPKIXPublicKey(c.key.Public())
	if err != nil {
		panic(err) // an RSA key always can
	}
	return base64.StdEncoding.EncodeToString(der)
}

// Provider is the id of the one provider.
func (c *Core) Provider() string { return c.opts.Provider }

// RefreshToken is what the provider is given to ask for access tokens with.
func (c *Core) RefreshToken() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refresh
}

// RenewRefreshToken replaces it: the old one is worth nothing any more.
func (c *Core) RenewRefreshToken() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh = newSecret()
}

// SetNow replaces the clock.
func (c *Core) SetNow(now func() time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opts.Now = now
}

func (c *Core) now() time.Time {
	c.mu.Lock()
	now := c.opts.Now
	c.mu.Unlock()
	return now()
}

// Requests are those of that method ("" is any) to that very path ("" is any),
// in the order they came.
func (c *Core) Requests(method, path string) []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []Request
	for _, r := range c.requests {
		if (method == "" || r.Method == method) && (path == "" || r.Path == path) {
			found = append(found, *r)
		}
	}
	return found
}

// ForgetRequests forgets them.
func (c *Core) ForgetRequests() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = nil
}

// Start serves the Core at addr (host:port; port 0 is a free one) until stop is
// called. stop cuts whatever still runs.
func (c *Core) Start(addr string) (baseURL string, stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("while listening for the simulated Core: %w", err)
	}
	server := &http.Server{Handler: c.Handler(), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("the simulated Core stopped serving", "error", err)
		}
	}()
	return "http://" + listener.Addr().String(), func() { server.Close(); <-done }, nil
}

// Handler serves the Core.
func (c *Core) Handler() http.Handler { return http.HandlerFunc(c.serve) }

func (c *Core) serve(w http.ResponseWriter, r *http.Request) {
	// The server learns that the client has gone only once the body is read.
	body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<20))
	r.Body = io.NopCloser(bytes.NewReader(body))
	seen := &witness{ResponseWriter: w}
	answered := c.record(Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Header: r.Header.Clone(), Body: body})
	defer func() { answered(seen.status) }()
	c.answer(seen, r, body)
}

// route answers without any fault.
func (c *Core) route(w http.ResponseWriter, r *http.Request, body []byte) {
	prefix := "/api/products/v2"
	create, browse := c.createV2, c.browseV2
	if c.opts.Generation == Classic {
		prefix, create, browse = "/api/products", c.createV1, c.browseV1
	}
	var answer any
	var err error
	switch r.Method + " " + r.URL.Path {
	case "POST /auth/providers/refresh":
		answer, err = c.refreshed(body)
	case "POST " + prefix:
		answer, err = struct{}{}, c.create(r, body, create)
	case "GET " + prefix + "/browse":
		answer = browse(r.URL.Query())
	default:
		err = fail(http.StatusNotFound, "Not found")
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		c.refuse(w, refused.status, refused.why)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// refusal is an answer other than a good one.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

func fail(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// refuse words an error as its generation does.
func (c *Core) refuse(w http.ResponseWriter, status int, why string) {
	if c.opts.Generation == Classic {
		writeJSON(w, status, map[string]any{"why": why, "errorCode": nil})
		return
	}
	writeJSON(w, status, map[string]any{"statusCode": status, "why": why, "errorCode": "", "detailedCode": 0})
}

func writeJSON(w http.ResponseWriter, status int, answer any) {
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err) // all of it is of our own types
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(text)
}

// record notes a request that has come; answered is to be told its status.
func (c *Core) record(r Request) (answered func(status int)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) >= maxRequests {
		c.requests = slices.Delete(c.requests, 0, maxRequests/2)
	}
	c.requests = append(c.requests, &r)
	return func(status int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		r.Status = status
	}
}

// witness remembers the status of an answer.
type witness struct {
	http.ResponseWriter
	status int
}

func (w *witness) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *witness) Unwrap() http.ResponseWriter { return w.ResponseWriter }
