package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Every code of the domain has its status, and no 5xx gives its cause away.
func TestStatuses(t *testing.T) {
	for code, want := range map[flavor.Code]int{
		flavor.CodeInvalid: 400, flavor.CodeUnauthorized: 401, flavor.CodeKeystone: 401, flavor.CodePromote: 401, flavor.CodeForbidden: 403,
		flavor.CodeNotFound: 404, flavor.CodeManagerOnly: 405, flavor.CodeNotAllowed: 405, flavor.CodeConflict: 409, flavor.CodePrecondition: 412,
		flavor.CodeTooLarge: 413, flavor.CodeMediaType: 415, flavor.CodeTooMany: 429, flavor.CodeInternal: 500, flavor.CodeUnreachable: 502,
		flavor.CodeUnavailable: 503, "never heard of": 500,
	} {
		s := newSetup(t)
		s.market.err = fmt.Errorf("while testing: %w", &flavor.Error{Code: code, Message: "the message", Cause: errors.New("the cause")})
		w := s.do(t, "DELETE /v1/promotedflavors/1", "")
		wantStatus(t, w, want)
		body, id := w.Body.String(), w.Header().Get("X-Request-Id")
		wantBody := `{"error": {"message": "the message"}}`
		switch {
		case want == 500:
			wantBody = `{"error": {"message": "internal error (request id ` + id + `)"}}`
		case want > 500:
			wantBody = `{"error": {"message": "the message (request id ` + id + `)"}}`
		case code == flavor.CodeUnauthorized:
			wantBody = "Could not verify your access level for that URL. You have to login with proper token"
		case code == flavor.CodeManagerOnly:
			wantBody = "The method specified in the Request-Line is not allowed for the resource identified by the Request-URI."
		}
		if body != wantBody {
			t.Errorf("%s: %s, want %s", code, body, wantBody)
		}
		for header, statuses := range map[string][]int{"WWW-Authenticate": {401}, "Allow": {405}, "Retry-After": {429, 503}} {
			if got := w.Header().Get(header); (got != "") != slices.Contains(statuses, want) {
				t.Errorf("%s: %s is %q", code, header, got)
			}
		}
		if lines := s.log.lines(t, "request"); len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0]["error"]), "the cause") {
			t.Errorf("%s: the log does not tell the cause: %s", code, s.log)
		}
	}
	for _, err := range []error{errors.New("dial tcp 10.0.0.1: secret"), context.DeadlineExceeded} {
		s := newSetup(t)
		s.market.err = err
		w := s.do(t, "GET /v1/flavors", "", "Accept: application/xml")
		wantStatus(t, w, 500)
		if want := xmlDeclaration + "<error><message>internal error (request id " + w.Header().Get("X-Request-Id") + ")</message></error>"; w.Body.String() != want {
			t.Errorf("%s", w.Body)
		}
	}
}

// An error after headers were set must not carry those of a success.
func TestErrorsHaveNoValidators(t *testing.T) {
	s := newSetup(t)
	s.market.unreachable, s.market.list = []string{"R1"}, shelf()
	w := s.do(t, "GET /v1/flavors?limit=x", "")
	wantStatus(t, w, 400)
	for _, name := range []string{"ETag", "Link", "X-Flavorsync-Unreachable"} {
		if got := w.Header().Get(name); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
}

func TestPanic(t *testing.T) {
	s := newSetup(t)
	s.market.during = func(context.Context) { panic("at the disco, with tok3n-secret") }
	w := s.do(t, "DELETE /v1/regions/x/flavors/1", "", "X-Auth-Token: good")
	wantStatus(t, w, 204) // this one has no during
	w = s.do(t, "POST /v1/regions/Trento/flavors", "{}", "X-Auth-Token: good", "X-Auth-Token-KeyStone: tok3n-secret")
	wantStatus(t, w, 500)
	id := w.Header().Get("X-Request-Id")
	if want := `{"error": {"message": "internal error (request id ` + id + `)"}}`; w.Body.String() != want {
		t.Errorf("%s", w.Body)
	}
	lines := s.log.lines(t, "panic")
	if len(lines) != 1 || lines[0]["request_id"] != id || !strings.Contains(fmt.Sprint(lines[0]["stack"]), "edge_test.go") {
		t.Errorf("the log has no stack: %s", s.log)
	}
	if strings.Contains(s.log.String(), "tok3n-secret") {
		t.Errorf("the log has the token: %s", s.log)
	}
}

func TestRequestID(t *testing.T) {
	s := newSetup(t)
	for theirs, kept := range map[string]bool{
		"abc-DEF_1.2": true, strings.Repeat("a", 64): true, "": false, strings.Repeat("a", 65): false, "a b": false, "a\"b": false, "é": false,
	} {
		got := s.do(t, "GET /v1/whoami", "", "X-Request-Id: "+theirs).Header().Get("X-Request-Id")
		if (got == theirs) != kept || got == "" {
			t.Errorf("%q became %q", theirs, got)
		}
	}
	if a, b := requestID(""), requestID(""); a == b {
		t.Error("the same id twice")
	}
}

// One line for each request, with what an operator needs, and never a secret.
func TestLog(t *testing.T) {
	s := newSetup(t)
	s.do(t, "GET /api/v1/region/Trento/flavors/a%20b?access_token=good&node=x", "", "X-Auth-Token-KeyStone: gAAAA-secret", "X-Request-Id: mine")
	lines := s.log.lines(t, "request")
	if len(lines) != 1 {
		t.Fatalf("%d lines: %s", len(lines), s.log)
	}
	for name, want := range map[string]any{
		"level": "INFO", "method": "GET", "route": "/v1/regions/{region}/flavors/{id}", "path": "/api/v1/region/Trento/flavors/a b", "status": 200.,
		"request_id": "mine", "caller": "test/ann", "remote": "192.0.2.1:4711",
	} {
		if got := lines[0][name]; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if bytes, _ := lines[0]["bytes"].(float64); bytes < 100 {
		t.Errorf("bytes: %v", lines[0]["bytes"])
	}
	if _, ok := lines[0]["duration_ms"].(float64); !ok {
		t.Errorf("duration_ms: %v", lines[0]["duration_ms"])
	}

	s = newSetup(t)
	s.people.err = fmt.Errorf(`Get "https://idm/user?access_token=s%%2Fcret%%2Bx": EOF; s/cret+x`)
	s.do(t, "POST /v1/flavors?access_token=s%2Fcret%2Bx&x=%zz", `{"password": "body-secret"}`, "Authorization: Basic c2VjcmV0", "X-Auth-Token-KeyStone: gAAAA-secret")
	s.people.err = nil
	s.do(t, "GET /nowhere?access_token=s%2Fcret%2Bx", "", "user: ann", "password: pw-secret")
	s.do(t, "POST /v1/infrastructures", `{"password": "body-secret", "x": 1}`)
	for _, secret := range []string{"s/cret", "s%2Fcret", "body-secret", "pw-secret", "gAAAA", "c2VjcmV0"} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("%s is in the log: %s", secret, s.log)
		}
	}
	if lines := s.log.lines(t, "request"); len(lines) != 3 || lines[0]["level"] != "ERROR" || lines[1]["route"] != "" {
		t.Errorf("%s", s.log)
	}
}

// A token in the URL is out of the request before a handler sees it.
func TestAccessTokenIsTakenOut(t *testing.T) {
	s := newSetup(t)
	r, _ := http.NewRequest(http.MethodGet, "/v1/flavors?a=1&access_token=good&ACCESS_TOKEN=good&b=2", http.NoBody)
	r.RequestURI = r.URL.RequestURI()
	s.ServeHTTP(discard{http.Header{}}, r)
	if r.RequestURI != "/v1/flavors?a=1&b=2" || r.URL.String() != r.RequestURI {
		t.Errorf("%s, %s", r.RequestURI, r.URL)
	}
}

// listen serves s on a loopback port and returns its address and what ends it.
func listen(t *testing.T, s *setup) (address string, end func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	return l.Addr().String(), func() error { cancel(); return <-ended }
}

// At its end the server finishes what runs, and takes nothing new.
func TestServeFinishesWhatRuns(t *testing.T) {
	s := newSetup(t)
	running, goOn := make(chan struct{}), make(chan struct{})
	s.market.during = func(ctx context.Context) {
		close(running)
		<-goOn
		if ctx.Err() != nil {
			t.Error("the running request was cancelled")
		}
	}
	address, end := listen(t, s)
	answered := make(chan error, 1)
	go func() {
		r, _ := http.NewRequest(http.MethodDelete, "http://"+address+"/v1/flavors/1", nil)
		r.Header.Set("X-Auth-Token", "good")
		response, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			response.Body.Close()
			if response.StatusCode != http.StatusNoContent {
				err = errors.New(response.Status)
			}
		}
		answered <- err
	}()
	<-running
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	for { // until the listener is closed
		c, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		c.Close()
	}
	select {
	case err := <-ended:
		t.Fatalf("ended before the request did: %v", err)
	default:
	}
	close(goOn)
	if err := <-answered; err != nil {
		t.Errorf("the running request: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestServeGivesUpInTime(t *testing.T) {
	s := newSetup(t, func(c *Config) { c.ShutdownGrace = time.Millisecond })
	running, goOn := make(chan struct{}), make(chan struct{})
	s.market.during = func(context.Context) { close(running); <-goOn }
	defer close(goOn)
	address, end := listen(t, s)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "DELETE /v1/flavors/1 HTTP/1.1\r\nHost: x\r\nX-Auth-Token: good\r\n\r\n")
	<-running
	if err := end(); err == nil {
		t.Error("no error although a request was cut off")
	}
}

// Over a real connection: a client that sends 2 MiB gets to read the 413, be the
// length told or not, and a client that never ends its body is cut off.
func TestBodiesOverTheWire(t *testing.T) {
	s := newSetup(t)
	s.bodyTimeout = 100 * time.Millisecond
	address, _ := listen(t, s)
	big := bytes.Repeat([]byte("a"), 2<<20)
	for name, body := range map[string]io.Reader{"length": bytes.NewReader(big), "chunked": io.MultiReader(bytes.NewReader(big))} {
		r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/v1/flavors", body)
		r.Header.Set("X-Auth-Token", "good")
		r.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		response.Body.Close()
		if response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %s", name, response.Status)
		}
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /v1/flavors HTTP/1.1\r\nHost: x\r\nX-Auth-Token: good\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest || s.market.called() != "" {
		t.Errorf("%s; did %s", response.Status, s.market.called())
	}
}

// The time limit is the body's: a handler may take longer than that.
func TestSlowHandlerKeepsItsContext(t *testing.T) {
	s := newSetup(t)
	s.bodyTimeout = 20 * time.Millisecond
	s.market.during = func(ctx context.Context) {
		select {
		case <-ctx.Done():
			t.Error("the handler's context ended with the time limit of the body")
		case <-time.After(100 * time.Millisecond):
		}
	}
	address, _ := listen(t, s)
	r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/v1/flavors", strings.NewReader("{}"))
	r.Header.Set("X-Auth-Token", "good")
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Error(response.Status)
	}
}

// Everybody may ask /readyz; a flood of it is one question to the database at a
// time, and one client who goes takes no answer from the others.
func TestReadyzAsksOnce(t *testing.T) {
	var asking, most atomic.Int64
	var once sync.Once
	begun, goOn := make(chan struct{}), make(chan struct{})
	s := newSetup(t, func(c *Config) {
		c.Ready = func(ctx context.Context) error {
			if now := asking.Add(1); now > 1 {
				most.Store(now)
			} else {
				once.Do(func() { close(begun) })
			}
			<-goOn
			asking.Add(-1)
			return ctx.Err()
		}
	})
	leaving, leave := context.WithCancel(t.Context())
	first := make(chan int, 1)
	go func() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(leaving, http.MethodGet, "/readyz", http.NoBody))
		first <- w.Code
	}()
	<-begun
	var flood sync.WaitGroup
	var arrived atomic.Int64
	for range 100 {
		flood.Go(func() {
			arrived.Add(1)
			wantStatus(t, s.do(t, "GET /readyz", "", "anonymous"), 200)
		})
	}
	await(t, "the flood is there", func() bool { return arrived.Load() == 100 })
	leave()
	close(goOn)
	flood.Wait()
	if status := <-first; status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	if n := most.Load(); n > 1 {
		t.Errorf("the database was asked %d times at once", n)
	}
}
