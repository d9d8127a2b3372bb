package ucloud

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
	"github.com/flavorsync/flavorsync/internal/ucloud/coretest"
)

const refreshPath = "/auth/providers/refresh"

// One token is asked for, used while it lives, and replaced while it still has
// three minutes to live.
func TestTheTokenIsReused(t *testing.T) {
	w := newWorld(t)
	w.shelf.set(t, offer("a", "x", 1))
	refreshes := func() int { return len(w.core.Requests(http.MethodPost, refreshPath)) }
	w.mustPush(t)
	w.mustPush(t)
	w.clock.advance(7 * time.Minute)
	w.mustPush(t)
	if n := refreshes(); n != 1 {
		t.Errorf("%d tokens were asked for within its seven minutes", n)
	}
	w.clock.advance(time.Second)
	w.mustPush(t)
	if n := refreshes(); n != 2 {
		t.Errorf("%d tokens were asked for once less than three minutes remained", n)
	}
	first := w.core.Requests(http.MethodPost, refreshPath)[0]
	equal(t, "the request", string(first.Body), `{"items":[{"refreshToken":"`+w.core.RefreshToken()+`"}]}`)
	if first.Header.Get("Authorization") != "" || !strings.HasPrefix(first.Header.Get("Content-Type"), "application/json") {
		t.Errorf("its headers are %v", first.Header)
	}
}

// Core may end a token before its time: it is replaced and the call made again,
// once. A Core that refuses the new one too is not asked for ever.
func TestARevokedToken(t *testing.T) {
	w := newWorld(t)
	w.shelf.set(t, offer("a", "x", 1), offer("b", "y", 1))
	w.core.Fault(coretest.Fault{Kind: coretest.Serve, Path: createPath, After: 1, Times: 1, Before: w.core.RevokeTokens})
	w.mustPush(t)
	if n := len(w.core.Requests(http.MethodPost, refreshPath)); n != 2 {
		t.Errorf("%d tokens were asked for", n)
	}
	w.expectSent(t, []string{"a"}, []string{"b"}, []string{"b"})

	// Once in a push is enough: a Core that ends every token is not right.
	w.core.ForgetRequests()
	w.shelf.set(t, offer("a", "x", 3), offer("b", "y", 1))
	w.core.Fault(coretest.Fault{Path: browsePath, Status: 401, Times: 1})
	w.core.Fault(coretest.Fault{Kind: coretest.Serve, Path: createPath, Times: 1, Before: w.core.RevokeTokens})
	_, err := w.push(t)
	expectCode(t, err, flavor.CodeUnreachable)
	if n := len(w.core.Requests(http.MethodPost, refreshPath)); n != 1 {
		t.Errorf("%d tokens were asked for in one push", n)
	}
	w.creates()

	w.shelf.set(t, offer("a", "x", 2), offer("b", "y", 2))
	w.core.Fault(coretest.Fault{Path: createPath, Status: 401})
	r, err := w.push(t)
	expectCode(t, err, flavor.CodeUnreachable)
	w.expectSent(t, []string{"a"}, []string{"a"})
	if len(r.Failed) != 2 || r.Failed[0].Status != 401 || r.NextAt.Sub(r.FinishedAt) < 13*time.Minute {
		t.Errorf("the report is %+v", r)
	}
}

// However the products lie on the pages, the list is complete, the empty page at
// its end included; a part of it would be taken for products to be made anew.
func TestPages(t *testing.T) {
	for _, gen := range []coretest.Generation{coretest.Current, coretest.Classic} {
		for n := range 8 {
			w := newWorld(t)
			if gen == coretest.Classic {
				w = classicWorld(t)
			}
			core, err := coretest.New(coretest.Options{Generation: gen, MaxPage: 3, Now: w.clock.now, Key: key()})
			if err != nil {
				t.Fatal(err)
			}
			url, stop, err := core.Start("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
			w.Provider.core.base, w.Provider.core.refresh = url, flavor.Secret(core.RefreshToken())
			w.core = core
			var offers []flavor.Offer
			for i := range n {
				offers = append(offers, offer(fmt.Sprintf("é%d", i), fmt.Sprintf("c%d", i/2), 4))
			}
			core.RegisterV2(coretest.ProductV2{Name: "z", Category: coretest.CategoryV2{Name: "c0", Provider: "another"}})
			core.RegisterV1(coretest.ProductV1{Name: "z", Category: coretest.CategoryV1{Name: "c0", Provider: "another"}})
			w.shelf.set(t, offers...)
			w.mustPush(t)
			w.creates()
			if r := w.mustPush(t); r.Unchanged != n || len(r.Sent) != 0 {
				t.Errorf("%d products: %+v", n, r)
			}
			all := core.Requests(http.MethodGet, w.gen.browse)
			if len(all) != n/3+1 {
				t.Errorf("%d products on %d pages", n, len(all))
			}
			for _, r := range all {
				if q := r.Query; q.Get("filterProvider") != "aau" || q.Get("itemsPerPage") != fmt.Sprint(w.gen.perPage) {
					t.Errorf("the query is %v", q)
				}
			}
		}
	}
}

// A browse that answers anything but a list stops the push before anything is
// sent, and says what was wrong.
func TestABadBrowse(t *testing.T) {
	w := newWorld(t)
	w.shelf.set(t, offer("a", "x", 4), offer("b", "x", 4))
	w.mustPush(t)
	w.shelf.set(t, offer("a", "x", 8), offer("b", "x", 4))
	foreign := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	t.Cleanup(foreign.Close)
	for name, c := range map[string]struct {
		fault coretest.Fault
		want  []string
	}{
		"401":                {coretest.Fault{Status: 401}, []string{"401"}},
		"403":                {coretest.Fault{Status: 403}, []string{"403"}},
		"400":                {coretest.Fault{Status: 400, Why: "Bad filter"}, []string{"400", `"Bad filter"`}},
		"404":                {coretest.Fault{Status: 404}, []string{"404", "ucloud.push"}},
		"500":                {coretest.Fault{Status: 500}, []string{"500"}},
		"502 as a web page":  {coretest.Fault{Kind: coretest.HTML, Status: 502, Why: "<b>secret</b>"}, []string{"502"}},
		"a web page":         {coretest.Fault{Kind: coretest.HTML}, []string{"no JSON object"}},
		"other JSON":         {coretest.Fault{Kind: coretest.Nonsense}, []string{"no list of items"}},
		"no body":            {coretest.Fault{Kind: coretest.Empty}, []string{"no JSON object"}},
		"half of the JSON":   {coretest.Fault{Kind: coretest.Half}, []string{"not the whole"}},
		"half of the answer": {coretest.Fault{Kind: coretest.Cut}, []string{"broke its answer off"}},
		"no answer":          {coretest.Fault{Kind: coretest.Lost}, []string{"broke its answer off"}},
		"no HTTP":            {coretest.Fault{Kind: coretest.Garbage}, []string{"cannot be reached"}},
		"the same page":      {coretest.Fault{Kind: coretest.SamePage}, []string{"no end"}},
		"too much":           {coretest.Fault{Kind: coretest.Huge}, []string{"8 MiB"}},
		"a redirect":         {coretest.Fault{Kind: coretest.Elsewhere, Why: foreign.URL}, []string{"302", "ucloud.core_url"}},
		"silence":            {coretest.Fault{Kind: coretest.Hang}, []string{"200ms"}},
	} {
		w.core.ForgetRequests()
		c.fault.Path = browsePath
		w.Provider.core.timeout = callTimeout
		if c.fault.Kind == coretest.Hang {
			w.Provider.core.timeout = 200 * time.Millisecond
		}
		cancel := w.core.Fault(c.fault)
		r, err := w.push(t)
		cancel()
		expectCode(t, err, flavor.CodeUnreachable)
		expectText(t, name, r.LastError, c.want...)
		expectText(t, name, messageOf(err), c.want...)
		if strings.Contains(r.LastError, "<") || r.State != Failed || len(r.Sent) != 0 || len(w.core.Requests(http.MethodPost, createPath)) != 0 {
			t.Errorf("%s: the report is %+v", name, r)
		}
		if n := len(w.core.Requests("", "")); n > 4 {
			t.Errorf("%s: %d calls in one push", name, n)
		}
		equal(t, name+": listed", w.listed(t), []string{"x/a", "x/b"})
	}
	w.mustPush(t)
}

// Items that cannot be what UCloud lists are not guessed at.
func TestABadItem(t *testing.T) {
	for name, body := range map[string]string{
		"a price that is no number": `{"items":[{"name":"a","category":{"name":"x","provider":"aau"},"price":"1"}],"next":null}`,
		"no name":                   `{"items":[{"category":{"name":"x","provider":"aau"}}],"next":null}`,
		"no category":               `{"items":[{"name":"a"}],"next":null}`,
		"a name twice":              `{"items":[],"next":null,"items":[]}`,
		"something behind":          `{"items":[],"next":null}{}`,
		"a list of numbers":         `{"items":[1],"next":null}`,
		"a next that is a number":   `{"items":[],"next":1}`,
		"an empty next":             `{"items":[],"next":""}`,
	} {
		w := newWorld(t)
		w.shelf.set(t, offer("a", "x", 4))
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == browsePath {
				rw.Write([]byte(body))
				return
			}
			w.core.Handler().ServeHTTP(rw, r)
		}))
		t.Cleanup(server.Close)
		w.Provider.core.base = server.URL
		r, err := w.push(t)
		expectCode(t, err, flavor.CodeUnreachable)
		if len(r.Sent) > 0 || len(w.creates()) > 0 {
			t.Errorf("%s: the report is %+v", name, r)
		}
	}
	// What Go and Kotlin may write for the same.
	w := newWorld(t)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == browsePath {
			rw.Write([]byte(` {"items":null,"itemsPerPage":1000,"more":{"a":[1]}} `))
			return
		}
		w.core.Handler().ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	w.Provider.core.base = server.URL
	w.mustPush(t)
}

// A Core that lists the products of others, too, which have categories of the
// same names.
func TestOtherProviders(t *testing.T) {
	w := newWorld(t)
	category := coretest.CategoryV2{Name: "x", Provider: "aaa", ProductType: "STORAGE", AccountingUnit: coretest.AccountingUnit{Name: "GB"}, AccountingFrequency: "ONCE"}
	w.core.RegisterV2(coretest.ProductV2{Name: "a", Category: category})
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, "filterProvider", "ignored")
		w.core.Handler().ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	w.Provider.core.base = server.URL
	w.shelf.set(t, offer("a", "x", 4))
	w.mustPush(t)
	w.expectSent(t, []string{"a"})
}

// Once a push is to end no further call is begun, not even the first.
func TestNoCallAfterTheEnd(t *testing.T) {
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s := &session{core: w.Provider.core, before: func(context.Context) error { t.Error("a call was begun"); return nil }}
	_, err := s.browse(ctx, v2.browse, v2.perPage)
	if f, err := failureOf(err); f == nil || f.class != again || err != nil {
		t.Errorf("the error is %v", err)
	}
}

// An endless list that always leads on ends, too.
func TestAnEndlessList(t *testing.T) {
	w := newWorld(t)
	var page atomic.Int64
	padding := strings.Repeat("x", 1<<20)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == browsePath {
			item := ""
			if r.URL.Query().Get("filterProvider") == "aau" && page.Load() > 2*maxPages {
				item = `"` + padding + `"`
			}
			fmt.Fprintf(rw, `{"items":[%s],"next":"%d"}`, item, page.Add(1))
			return
		}
		w.core.Handler().ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	w.Provider.core.base = server.URL
	for _, limit := range []int64{maxPages, maxBrowsed>>20 + 1} {
		before := page.Load()
		r, err := w.push(t)
		expectCode(t, err, flavor.CodeUnreachable)
		expectText(t, "the report", r.LastError, "no end")
		if n := page.Load() - before; n > limit {
			t.Errorf("%d pages were read", n)
		}
		page.Store(2*maxPages + 1)
	}
}

// A refresh that answers no token of use.
func TestABadRefresh(t *testing.T) {
	for name, body := range map[string]string{
		"none": `{"responses":[]}`, "null": `{"responses":null}`,
		"no JWT": `{"responses":[{"accessToken":"a"}]}`, "a list": `[]`, "no object": `"a"`, "HTML": `<html>`,
		"no exp": `{"responses":[{"accessToken":"eyJhbGciOiJSUzI1NiJ9.e30.AAAA"}]}`,
	} {
		w := newWorld(t)
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != refreshPath {
				t.Errorf("%s: %s was called without a token", name, r.URL.Path)
			}
			rw.Write([]byte(body))
		}))
		t.Cleanup(server.Close)
		w.Provider.core.base = server.URL
		r, err := w.push(t)
		expectCode(t, err, flavor.CodeUnreachable)
		expectText(t, name, r.LastError, refreshPath)
	}
}

// The refresh token goes nowhere where it should not.
func TestWhereTokensGo(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.AllowNetworks = nil })
	r, err := w.push(t)
	expectCode(t, err, flavor.CodeUnreachable)
	expectText(t, "the report", r.LastError, "outgoing.allow_networks")
	w = newWorld(t, func(c *Config) { c.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	r, _ = w.push(t)
	expectText(t, "the report", r.LastError, "outgoing.allow_networks")
	w = newWorld(t)
	w.Provider.core.client = outgoing.New(outgoing.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}).Client()
	r, _ = w.push(t)
	expectText(t, "the report", r.LastError, "outgoing.allow_http")
	if n := len(w.core.Requests("", "")); n != 0 {
		t.Errorf("%d calls over plain http", n)
	}
	// TLS there where none is spoken, and the other way round.
	w.Provider.core.base = strings.Replace(w.url, "http:", "https:", 1)
	r, _ = w.push(t)
	expectText(t, "the report", r.LastError, "does not speak TLS")
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	w.Provider.core.base = secure.URL
	r, _ = w.push(t)
	expectText(t, "the report", r.LastError, "certificate")
}

// What Core says of an error may hold what we sent it, whole or cut.
func TestRedaction(t *testing.T) {
	const secret = flavor.Secret("0123456789abcdefghijklmnopqrstuvwxyz")
	for text, want := range map[string]string{
		"":          "",
		"no access": `"no access"`,
		"bad token 0123456789abcdefghijklmnopqrstuvwxyz!": `"bad token ***!"`,
		"bad token 0123456789ab...":                       `"bad token ***..."`,
		"bad token ...qrstuvwxyz":                         `"bad token ...***"`,
		"abc and 0123":                                    `"abc and 0123"`,
		"Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIj.c2ln x": `"Bearer *** x"`,
		"Bearer eyJhbGciOiJSUzI1":                         `"Bearer ***"`,
		"a\x1b[31m\n\u202eb\"\\\x00":                      `"a [31m  b\"\\ "`,
	} {
		body, err := json.Marshal(map[string]string{"why": text})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "why", why(body, []flavor.Secret{secret, ""}), want)
	}
	long := why([]byte(`{"why":"`+strings.Repeat("é", 300)+`"}`), nil)
	if n := len([]rune(long)); n != maxWhy+2 {
		t.Errorf("a long one has %d characters", n)
	}
	for _, body := range []string{"<html>why</html>", `{"why":1}`, `{"why":`, `["why"]`, `"why"`, ""} {
		equal(t, body, why([]byte(body), nil), "")
	}
}

// Retry-After as RFC 9110 has it, and no more than an hour of it.
func TestRetryAfter(t *testing.T) {
	now := newClock().now()
	for header, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "999999": maxRetryAfter, "99999999999999999999": 0,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q is %s, not %s", header, got, want)
		}
	}
}
