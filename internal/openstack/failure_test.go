package openstack

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing/dnstest"
)

// canary stands in every foreign answer; no error and no log may hold it.
const canary = "c4n4ry"

const (
	goodToken   = "gAAAAA-t0k3n"
	goodFlavor  = `{"id": "f", "name": "n", "vcpus": 1, "ram": 1, "disk": 0, "swap": "", "OS-FLV-EXT-DATA:ephemeral": 0, "rxtx_factor": 1.0, "os-flavor-access:is_public": true, "description": null, "extra_specs": {}}`
	testTimeout = time.Second
)

// fakeCloud is a Keystone and the Nova of region R on one listener, each of
// which may be replaced.
type fakeCloud struct {
	*httptest.Server
	keystone, nova http.HandlerFunc // nil: as it should be
	catalog        string           // compute endpoint; "" is the Nova here

	mu       sync.Mutex
	requests []string
	conns    int
}

func newFake(t *testing.T) *fakeCloud {
	t.Helper()
	f := &fakeCloud{}
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	f.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			f.mu.Lock()
			f.conns++
			f.mu.Unlock()
		}
	}
	f.Start()
	t.Cleanup(f.Close)
	return f
}

func (f *fakeCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	f.mu.Unlock()
	isKeystone := r.URL.Path == "/v3/auth/tokens"
	switch {
	case isKeystone && f.keystone != nil:
		f.keystone(w, r)
	case isKeystone:
		f.goodKeystone(w, r)
	case f.nova != nil:
		f.nova(w, r)
	default:
		goodNova(w, r)
	}
}

func (f *fakeCloud) goodKeystone(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Subject-Token", goodToken)
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusCreated)
	}
	fmt.Fprintf(w, `{"token": {"expires_at": %q, "project": {"id": "p"}, "catalog": [{"type": "compute", "endpoints": [
		{"interface": "internal", "region": "R", "url": "http://internal.invalid"},
		{"interface": "public", "region": "S", "region_id": "S", "url": "http://other.invalid"},
		{"interface": "public", "region": "R", "region_id": "R", "url": %q}]}]}}`,
		time.Now().Add(time.Hour).UTC().Format(time.RFC3339), cmp.Or(f.catalog, f.URL+"/v2.1"))
}

func goodNova(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusAccepted)
	case strings.HasSuffix(r.URL.Path, "/detail"):
		fmt.Fprintf(w, `{"flavors": [%s]}`, goodFlavor)
	case strings.HasSuffix(r.URL.Path, "/os-extra_specs"):
		fmt.Fprint(w, `{"extra_specs": {"k": "v"}}`)
	default:
		fmt.Fprintf(w, `{"flavor": %s}`, goodFlavor)
	}
}

func (f *fakeCloud) count(request string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if r == request {
			n++
		}
	}
	return n
}

func (f *fakeCloud) region() flavor.Region {
	return flavor.Region{Name: "R", KeystoneURL: f.URL, Username: "u", Password: "s3cr3t", Tenant: "t"}
}

// clouds are Clouds of this fake, with what they log.
func (f *fakeCloud) clouds(t *testing.T, change ...func(*Config)) *Clouds {
	t.Helper()
	var logged bytes.Buffer
	cfg := Config{
		KeystoneURL: f.URL, RegionTimeout: 20 * time.Second, AllowHTTP: true, Unguarded: true,
		Log: slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&cfg)
	}
	clouds := New(cfg)
	t.Cleanup(func() {
		clouds.Close()
		discreet(t, logged.String())
		allFree(t, clouds.slots)
		noTurns(t, clouds.turns)
	})
	return clouds
}

// allFree takes every slot, as calls that were given up may end a little later,
// and sees that nothing is kept of any region.
func allFree(t *testing.T, s *slots) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var releases []func()
	for i := range cap(s.all) {
		release, err := s.acquire(ctx, fmt.Sprint("region ", i))
		if err != nil {
			t.Fatalf("a slot is still held: %v", err)
		}
		releases = append(releases, release)
	}
	for _, release := range releases {
		release()
	}
	// A call leaves its region's lane just after it gave back its slots.
	for kept := s.regions.Keys(); kept != 0; kept = s.regions.Keys() {
		if ctx.Err() != nil {
			t.Fatalf("the slots of %d regions are kept", kept)
		}
		runtime.Gosched()
	}
}

// noTurns sees that nothing is kept of any creation. Close first.
func noTurns(t *testing.T, turns turns) {
	t.Helper()
	if kept := turns.Keys(); kept != 0 {
		t.Errorf("the turns of %d creations are kept", kept)
	}
}

func quick(cfg *Config) { cfg.RegionTimeout = testTimeout }

// both are a Compute with the service account and one with a caller's token.
func (f *fakeCloud) both(t *testing.T, clouds *Clouds) map[string]*Compute {
	t.Helper()
	mine, err := clouds.Delegated(t.Context(), f.region(), goodToken, "")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*Compute{"service": clouds.Service(f.region()), "delegated": mine}
}

func discreet(t *testing.T, said string) {
	t.Helper()
	for _, secret := range []string{canary, goodToken, "s3cr3t"} {
		if strings.Contains(said, secret) {
			t.Errorf("%q is told: %s", secret, said)
		}
	}
}

func wantError(t *testing.T, err error, code flavor.Code, words ...string) {
	t.Helper()
	told, ok := errors.AsType[*flavor.Error](err)
	if !ok || told.Code != code {
		t.Errorf("code %q, not %q: %v", flavor.CodeOf(err), code, err)
		return
	}
	discreet(t, err.Error())
	for _, word := range words {
		if !strings.Contains(told.Message, word) {
			t.Errorf("the message does not say %q: %s", word, told.Message)
		}
	}
}

// answering is a fault that answers a status as Nova and Keystone write it.
func answering(status int, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Location", "http://elsewhere.invalid/"+canary)
		w.WriteHeader(status)
		fmt.Fprintf(w, `{%q: {"code": %d, "message": "%s %s"}}`, kind, status, canary, goodToken)
	}
}

func saying(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Subject-Token", goodToken)
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/tokens") {
			w.WriteHeader(http.StatusCreated)
		}
		fmt.Fprint(w, body)
	}
}

func truncated(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "5000")
	fmt.Fprint(w, `{"flavors": [{"id": "`+canary)
	panic(http.ErrAbortHandler)
}

func broken(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// raw answers with these bytes, which net/http would not send.
func raw(bytes string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, strings.ReplaceAll(bytes, "~", canary))
		conn.Close()
	}
}

// oddities are answers whose every part is somebody's text.
var oddities = map[string]string{
	"a status text of its own":     "HTTP/1.1 500 ~\r\nA: ~\r\nX-Openstack-Request-Id: ~\tx\r\nContent-Type: ~\r\nContent-Length: 6\r\n\r\n~",
	"a status nobody knows":        "HTTP/1.1 799 ~\r\nContent-Length: 6\r\n\r\n~",
	"no HTTP":                      "~\r\n\r\n",
	"a malformed status":           "HTTP/1.1 2~ OK\r\n\r\n",
	"a malformed header":           "HTTP/1.1 200 OK\r\n~\r\n\r\n",
	"a malformed length":           "HTTP/1.1 200 OK\r\nContent-Length: ~\r\n\r\n",
	"malformed chunks":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n~\r\n",
	"a malformed trailer":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\n{}\r\n0\r\n~\r\n\r\n",
	"another encoding":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: ~\r\n\r\n",
	"no gzip":                      "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\n~",
	"a redirect nobody can follow": "HTTP/1.1 302 ~\r\nLocation: http://[~\r\nContent-Length: 0\r\n\r\n",
	"endless headers":              "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("~", 32<<10) + "\r\n\r\n",
}

// Whatever part of an answer is odd, it is told in our words.
func TestOddAnswers(t *testing.T) {
	for name, answer := range oddities {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			clouds := f.clouds(t)
			f.nova = raw(answer)
			for _, c := range f.both(t, clouds) {
				_, err := c.List(t.Context())
				wantError(t, err, flavor.CodeUnreachable, "R", "Nova")
				_, err = c.Create(t.Context(), flavor.NovaFlavor{ID: "f", Spec: flavor.Spec{Name: "n", VCPUs: 1, RAM: 1}})
				wantError(t, err, flavor.CodeUnreachable, "R", "Nova")
				discreet(t, c.Check(t.Context()).LastError)
			}
			f.nova, f.keystone = nil, raw(answer)
			clouds.Forget("R")
			clouds.tokens.Purge()
			_, err := clouds.Service(f.region()).List(t.Context())
			wantError(t, err, flavor.CodeUnreachable, "R", "Keystone")
			_, err = clouds.Delegated(t.Context(), f.region(), goodToken, "")
			wantError(t, err, flavor.CodeUnreachable, "R", "Keystone")
		})
	}
}

func hanging(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func huge(w http.ResponseWriter, _ *http.Request) {
	chunk := strings.Repeat(" ", 64<<10)
	fmt.Fprint(w, `{"flavors": [`)
	for range 9 << 20 / len(chunk) {
		if _, err := io.WriteString(w, chunk); err != nil {
			return
		}
	}
	fmt.Fprint(w, `]}`)
}

func htmlError(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		fmt.Fprint(w, "<html>"+canary+strings.Repeat("x", 1<<20)+"</html>")
	}
}

// codes are the outcome with the service account and with a caller's token.
type codes struct{ service, delegated flavor.Code }

var down = codes{flavor.CodeUnreachable, flavor.CodeUnreachable}

// What a caller is told when Nova fails, for every way to fail and both ways in.
func TestNovaFails(t *testing.T) {
	keystone := codes{flavor.CodeUnreachable, flavor.CodeKeystone}
	forbidden := codes{flavor.CodeUnreachable, flavor.CodeForbidden}
	one := func(c flavor.Code) codes { return codes{c, c} }
	for _, test := range []struct {
		name              string
		fault             http.HandlerFunc
		list, get, create codes
		words             string
	}{
		{"400", answering(400, "badRequest"), down, down, one(flavor.CodeInvalid), ""},
		{"401", answering(401, "error"), keystone, keystone, keystone, "accept"},
		{"403", answering(403, "forbidden"), forbidden, forbidden, forbidden, "forbids"},
		{"404", answering(404, "itemNotFound"), down, one(flavor.CodeNotFound), down, ""},
		{"404 of a proxy", htmlError(404), down, down, down, "no API"},
		{"406", answering(406, "computeFault"), down, down, down, "too old"},
		{"409", answering(409, "conflictingRequest"), down, down, one(flavor.CodeConflict), ""},
		{"413", htmlError(413), down, down, one(flavor.CodeInvalid), ""},
		{"429", answering(429, "overLimit"), down, down, down, "too many requests"},
		{"500", answering(500, "computeFault"), down, down, down, "trouble"},
		{"503", htmlError(503), down, down, down, "trouble"},
		{"a redirect", answering(302, "moved"), down, down, down, "elsewhere"},
		{"300", answering(300, "choices"), down, down, down, "elsewhere"},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, down, down, down, ""},
		{"HTML", saying("<html>" + canary), down, down, down, "is not the API of Nova"},
		{"other JSON", saying(`{"hello": "` + canary + `"}`), down, down, down, "is not the API of Nova"},
		{"null", saying(`null`), down, down, down, "is not the API of Nova"},
		{"nothing", saying(``), down, down, down, "Nova"},
		{"wrong types", saying(`{"flavors": {"a": "` + canary + `"}, "flavor": []}`), down, down, down, "is not the API of Nova"},
		{"empty flavors", saying(`{"flavors": [{}], "flavor": {}}`), down, down, down, "is not the API of Nova"},
		{"no microversion", saying(`{"flavors": [{"id": "f", "name": "n", "vcpus": 1, "ram": 1}], "flavor": {"id": "f", "name": "n", "vcpus": 1, "ram": 1}}`), down, down, down, "is not the API of Nova"},
		{"truncated", truncated, down, down, down, "broke its answer off"},
		{"broken", broken, down, down, down, "broke its answer off"},
		{"huge", huge, down, down, down, "8 MiB"},
		{"hanging", hanging, down, down, down, "did not answer in time"},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			limit := func(*Config) {}
			if test.name == "hanging" {
				limit = quick
			}
			clouds := f.clouds(t, limit)
			f.nova = test.fault
			for _, way := range []string{"service", "delegated"} {
				c := f.both(t, clouds)[way]
				want := func(c codes) flavor.Code {
					if way == "service" {
						return c.service
					}
					return c.delegated
				}
				_, err := c.List(t.Context())
				wantError(t, err, want(test.list), "R", test.words)
				_, err = c.Get(t.Context(), "f")
				wantError(t, err, want(test.get), "R")
				_, err = c.Create(t.Context(), flavor.NovaFlavor{ID: "f", Spec: flavor.Spec{Name: "n", VCPUs: 1, RAM: 1}})
				wantError(t, err, want(test.create), "R")
				state := flavor.RegionUnreachable
				if test.name == "401" || test.name == "403" {
					state = flavor.RegionRefused
				}
				got := c.Check(t.Context())
				if got.State != state || !strings.Contains(got.LastError, "R") {
					t.Errorf("%s: the status is %+v", way, got)
				}
				discreet(t, got.LastError)
			}
		})
	}
}

// What a caller is told when Keystone fails.
func TestKeystoneFails(t *testing.T) {
	refused := codes{flavor.CodeUnreachable, flavor.CodeKeystone}
	for _, test := range []struct {
		name  string
		fault http.HandlerFunc
		want  codes
		words string
	}{
		{"400", answering(400, "error"), down, ""},
		{"401", answering(401, "error"), refused, ""},
		{"403", answering(403, "error"), refused, ""},
		{"404", answering(404, "error"), codes{flavor.CodeUnreachable, flavor.CodeKeystone}, ""},
		{"404 of a proxy", htmlError(404), down, "keystone_url"},
		{"409", answering(409, "error"), down, ""},
		{"413", htmlError(413), down, ""},
		{"429", answering(429, "error"), down, "too many requests"},
		{"500", answering(500, "error"), down, "trouble"},
		{"503", htmlError(503), down, "trouble"},
		{"a redirect", answering(302, "moved"), down, "elsewhere"},
		{"HTML", saying("<html>" + canary), down, "is not the API of Keystone"},
		{"other JSON", saying(`{"hello": "` + canary + `"}`), down, "is not the API of Keystone"},
		{"no token", saying(`{"token": {}}`), down, "is not the API of Keystone"},
		{"null", saying(`null`), down, "is not the API of Keystone"},
		{"truncated", truncated, down, ""},
		{"broken", broken, down, "broke its answer off"},
		{"huge", huge, down, ""},
		{"hanging", hanging, down, "did not answer in time"},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			limit := func(*Config) {}
			if test.name == "hanging" {
				limit = quick
			}
			clouds := f.clouds(t, limit)
			f.keystone = test.fault
			_, err := clouds.Service(f.region()).List(t.Context())
			wantError(t, err, test.want.service, "R", test.words)
			_, err = clouds.Delegated(t.Context(), f.region(), goodToken, "")
			words := strings.ReplaceAll(test.words, "its Keystone", "the federation's Keystone")
			wantError(t, err, test.want.delegated, "R", words)
			want := flavor.RegionUnreachable
			if test.name == "401" || test.name == "403" {
				want = flavor.RegionRefused
			}
			if got := clouds.Service(f.region()).Check(t.Context()); got.State != want {
				t.Errorf("the status is %+v", got)
			}
		})
	}
}

// Where no connection comes about, the message says why, and what to do.
func TestNoConnection(t *testing.T) {
	selfSigned := httptest.NewTLSServer(http.HandlerFunc(goodNova))
	selfSigned.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(selfSigned.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	plain := newFake(t)
	unknown := dnstest.Start(t).Resolver()
	slow := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, os.ErrDeadlineExceeded }}
	for _, test := range []struct {
		name, url, words string
	}{
		{"refused", "http://" + closed.Addr().String(), "accepts no connection"},
		{"self-signed", selfSigned.URL, "TLS certificate of an authority unknown"},
		{"no TLS", strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS"},
		{"no such host", "http://" + canary + ".test", "no address in the DNS"},
		{"slow DNS", "http://slow.test", "did not answer in time"},
		{"not a URL", "ftp://" + canary, "not an http or https URL"},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			f := newFake(t)
			clouds := f.clouds(t, func(c *Config) {
				if c.Resolver = unknown; test.name == "slow DNS" {
					c.Resolver = slow
				}
			})
			r := f.region()
			// Authenticate first: it is Nova that cannot be reached ...
			r.NovaURL, r.NovaURLTrusted = test.url, true
			_, err := clouds.Service(r).List(t.Context())
			message(t, err, "Nova", test.words)
			delegated, err := clouds.Delegated(t.Context(), r, goodToken, "")
			if err == nil {
				_, err = delegated.List(t.Context())
			}
			message(t, err, "Nova", test.words)
			// ... and then Keystone.
			r.KeystoneURL, r.Trusted = test.url, true
			_, err = clouds.Service(r).List(t.Context())
			message(t, err, "Keystone", test.words)
			_, err = clouds.Delegated(t.Context(), r, goodToken, "")
			message(t, err, "Keystone", test.words)
		})
	}
}

func message(t *testing.T, err error, words ...string) {
	t.Helper()
	e, ok := errors.AsType[*flavor.Error](err)
	if !ok || e.Code != flavor.CodeUnreachable {
		t.Errorf("not an unreachable region: %v", err)
		return
	}
	discreet(t, e.Message) // the cause, for the log, may name the host
	for _, word := range append(words, "R") {
		if !strings.Contains(e.Message, word) {
			t.Errorf("the message does not say %q: %s", word, e.Message)
		}
	}
}

// An owner reads which field Nova refuses, in our words.
func TestRefusedField(t *testing.T) {
	for said, want := range map[string]string{
		"Invalid input for field/attribute OS-FLV-EXT-DATA:ephemeral. Value: -1. " + canary: "the value of ephemeral",
		"An invalid 'name' value was provided. " + canary:                                   "the value of name",
		"Invalid input for field/attribute " + canary + ". Value: 1":                        "check every field",
		"Invalid input for field/attribute ram. Value: \\\"" + strings.Repeat("x", 1<<17):   "the value of ram",
		"Project ID " + canary + " is not a valid project.":                                 "the project",
	} {
		f := newFake(t)
		f.nova = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"badRequest": {"code": 400, "message": "%s"}}`, said)
		}
		_, err := f.clouds(t).Service(f.region()).Create(t.Context(), flavor.NovaFlavor{ID: "f", Spec: flavor.Spec{Name: "n"}})
		wantError(t, err, flavor.CodeInvalid, "R", want)
	}
}

// A token is not sent where a redirect or a next link points.
func TestTokenStaysHome(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s reached another host", r.Method, r.URL)
	}))
	t.Cleanup(thief.Close)
	f := newFake(t)
	f.nova = func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/detail") && r.URL.Query().Get("marker") == "" {
			fmt.Fprintf(w, `{"flavors": [%s], "flavors_links": [{"rel": "next", "href": "%s/flavors/detail?marker=f"}]}`, goodFlavor, thief.URL)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/detail") {
			fmt.Fprint(w, `{"flavors": []}`)
			return
		}
		http.Redirect(w, r, thief.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}
	for way, c := range f.both(t, f.clouds(t)) {
		if got, err := c.List(t.Context()); err != nil || len(got) != 1 {
			t.Errorf("%s: %d flavors, %v", way, len(got), err)
		}
		_, err := c.Get(t.Context(), "f")
		wantError(t, err, flavor.CodeUnreachable, "elsewhere")
		_, err = c.Create(t.Context(), flavor.NovaFlavor{ID: "f", Spec: flavor.Spec{Name: "n"}})
		wantError(t, err, flavor.CodeUnreachable, "elsewhere")
	}
	// Should anything ever be asked of another host, the wire refuses.
	clouds := f.clouds(t)
	client, err := clouds.novaAt("R", f.URL, goodToken, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{thief.URL, strings.Replace(f.URL, "http:", "https:", 1)} {
		if _, err := client.Get(t.Context(), url, nil, nil); err == nil || !strings.Contains(err.Error(), errForeignHost.Error()) {
			t.Errorf("asking %s: %v", url, err)
		}
	}
}
