package httpapi

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

func TestConditionalReads(t *testing.T) {
	for _, path := range []string{
		"/v1/flavors", "/v1/flavors/1", "/v1/promotedflavors", "/v1/promotedflavors/1", "/v1/regions", "/v1/regions/Trento/flavors",
		"/v1/regions/Trento/flavors/1", "/v1/infrastructures", "/v1/infrastructures/Mordor", "/v1/whoami",
	} {
		t.Run(path, func(t *testing.T) {
			s := newSetup(t)
			w := s.do(t, "GET "+path, "")
			tag := w.Header().Get("ETag")
			exact := strings.TrimSuffix(etag(w.Body.Bytes()), `"`) // a second part may follow
			if !strings.HasPrefix(tag, exact) {
				t.Errorf("ETag %s is not that of the body", tag)
			}
			if got := w.Header().Get("Cache-Control"); got != "private" {
				t.Errorf("Cache-Control %q", got)
			}
			for _, name := range []string{"Accept", "X-Auth-Token", "Authorization", "X-Auth-Token-KeyStone", "user", "password"} {
				if !strings.Contains(w.Header().Get("Vary"), name) {
					t.Errorf("Vary lacks %s: %q", name, w.Header().Get("Vary"))
				}
			}
			if asXML := s.do(t, "GET "+path, "", "Accept: text/xml").Header().Get("ETag"); asXML == tag {
				t.Error("XML has the tag of JSON")
			}
			for header, want := range map[string]int{
				tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200, strings.Trim(tag, `"`): 200,
			} {
				w := s.do(t, "GET "+path, "", "If-None-Match: "+header)
				wantStatus(t, w, want)
				if want == 304 && (w.Body.Len() > 0 || w.Header().Get("ETag") != tag || w.Header().Get("Vary") == "" || w.Header().Get("Content-Type") != "") {
					t.Errorf("304 with %v %s", w.Header(), w.Body)
				}
			}
		})
	}
}

func TestConditionalWrites(t *testing.T) {
	for _, path := range []string{"/v1/flavors/1", "/v1/promotedflavors/1", "/v1/regions/Trento/flavors/1", "/v1/infrastructures/Mordor"} {
		for _, method := range []string{"PUT", "DELETE"} {
			t.Run(method+" "+path, func(t *testing.T) {
				s := newSetup(t)
				tag := s.do(t, "GET "+path, "").Header().Get("ETag")
				xmlTag := s.do(t, "GET "+path, "", "Accept: application/xml").Header().Get("ETag")
				done := map[string]int{"PUT": 200, "DELETE": 204}[method]
				body := map[string]string{"PUT": "{}"}[method]
				for _, row := range []struct {
					headers []string
					status  int
				}{
					{nil, done},
					{[]string{"If-Match: " + tag}, done},
					{[]string{`If-Match: "x", ` + tag}, done},
					{[]string{"If-Match: *"}, done},
					{[]string{"If-Match: " + xmlTag, "Accept: application/xml"}, done},
					{[]string{`If-Match: "x"`}, 412},
					{[]string{"If-Match: W/" + tag}, 412},
					{[]string{"If-Match: " + xmlTag}, 412},
					{[]string{"If-None-Match: *"}, 412},
					{[]string{"If-None-Match: " + tag}, 412},
					{[]string{`If-None-Match: "x"`}, done},
				} {
					s.market.calls = nil
					w := s.do(t, method+" "+path, body, row.headers...)
					wantStatus(t, w, row.status)
					changed := strings.Contains(s.market.called(), "Change") || strings.Contains(s.market.called(), "Delete")
					if changed != (row.status != 412) {
						t.Errorf("%v: did %s", row.headers, s.market.called())
					}
				}
				s.market.err = flavor.NotFound("gone")
				wantStatus(t, s.do(t, method+" "+path, body, "If-Match: *"), 404)
			})
		}
	}
}

// Of many who changed the same state, one only may win: each of them saw it as
// it was before.
func TestLostUpdate(t *testing.T) {
	s := newSetup(t)
	tag := s.do(t, "GET /v1/flavors/1", "").Header().Get("ETag")
	s.market.during = func(context.Context) { s.market.flavor.VCPUs++ } // the race detector sees it if two are in here
	var wg sync.WaitGroup
	statuses := make([]int, 50)
	for i := range statuses {
		wg.Go(func() { statuses[i] = s.do(t, "PUT /v1/flavors/1", "{}", "If-Match: "+tag).Code })
	}
	wg.Wait()
	won := 0
	for _, status := range statuses {
		switch status {
		case 200:
			won++
		case 412:
		default:
			t.Errorf("status %d", status)
		}
	}
	if won != 1 {
		t.Errorf("%d changed the same state", won)
	}
	if left := s.resource.Keys(); left != 0 {
		t.Errorf("%d locks are left", left)
	}
}

// Changes without a condition must not wait for each other: one of them may hang
// in a region.
func TestChangesRunSideBySide(t *testing.T) {
	s := newSetup(t)
	var together sync.WaitGroup
	together.Add(2)
	s.market.during = func(context.Context) { together.Done(); together.Wait() }
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { s.do(t, "DELETE /v1/flavors/1", "") })
	}
	wg.Wait()
}

func TestLockEndsWithItsCaller(t *testing.T) {
	l := newResourceLocks()
	release, err := l.lock(context.Background(), "a", true)
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.lock(gone, "a", false); err == nil {
		t.Error("two have the same lock")
	}
	if other, err := l.lock(context.Background(), "b", true); err != nil {
		t.Error("another resource is locked too")
	} else {
		other()
	}
	release()
	if left := l.Keys(); left != 0 {
		t.Errorf("%d locks are left", left)
	}
}

// The promoted list is rendered once, and anew as soon as the marketplace
// answers another one.
func TestRenderedList(t *testing.T) {
	s := newSetup(t)
	first := s.do(t, "GET /v1/promotedflavors", "").Body.String()
	s.market.list[0].Name = "changed in place, which nobody does"
	if again := s.do(t, "GET /v1/promotedflavors", "").Body.String(); again != first {
		t.Error("the same slice was rendered twice")
	}
	s.market.list = []flavor.Flavor{{ID: "2"}}
	if next := s.do(t, "GET /v1/promotedflavors", "").Body.String(); next == first || !strings.Contains(next, `"id": "2"`) {
		t.Errorf("an old list: %s", next)
	}
	s.market.list = s.market.list[:0]
	if empty := s.do(t, "GET /v1/promotedflavors", "").Body.String(); empty != `{"flavors": []}` {
		t.Errorf("an old list: %s", empty)
	}
	s.market.list = nil
	if empty := s.do(t, "GET /v1/promotedflavors", "").Body.String(); empty != `{"flavors": []}` {
		t.Errorf("an old list: %s", empty)
	}
}

func BenchmarkPromotedFlavors(b *testing.B) {
	s := newSetup(b)
	r, _ := http.NewRequest(http.MethodGet, "/v1/promotedflavors", http.NoBody)
	r.Header.Set("X-Auth-Token", "good")
	r.RemoteAddr = "192.0.2.1:1"
	w := discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		s.ServeHTTP(w, r)
		s.market.calls = s.market.calls[:0]
		s.log.b.Reset()
	}
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// An owner edits his region's settings for minutes, and we look at the region
// meanwhile: that look must not cost him his change, but another's change must.
func TestALookAtTheRegionIsNoChangeOfItsSettings(t *testing.T) {
	const path = "/v1/infrastructures/Mordor"
	s := newSetup(t)
	tag := s.do(t, "GET "+path, "").Header().Get("ETag")
	s.market.region.Status.CheckedAt = s.market.region.Status.CheckedAt.Add(time.Hour)
	if now := s.do(t, "GET "+path, "", "If-None-Match: "+tag); now.Code != http.StatusOK {
		t.Errorf("the new status is answered with %d", now.Code)
	}
	wantStatus(t, s.do(t, "PUT "+path, "{}", "If-Match: "+tag), http.StatusOK)
	s.market.region.Username = "another"
	wantStatus(t, s.do(t, "PUT "+path, "{}", "If-Match: "+tag), http.StatusPreconditionFailed)
}
