package httpapi

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/marketplace"
)

// A listing that nothing has changed of is not made again, neither for its body
// nor to find that the client has it; what is asked of it otherwise is.
func TestListingsAreRenderedOnce(t *testing.T) {
	s := newSetup(t)
	listed := func(want int, request string, headers ...string) string {
		t.Helper()
		s.market.listed = 0
		w := s.do(t, request, "", headers...)
		if s.market.listed != want {
			t.Errorf("%s %q: the flavors were listed %d times, not %d", request, headers, s.market.listed, want)
		}
		if w.Code == 304 && w.Body.Len() == 0 {
			return ""
		}
		wantStatus(t, w, 200)
		return w.Header().Get("ETag")
	}
	listed(1, "GET /v1/flavors")
	listed(1, "GET /v1/flavors") // nothing tells whether it is the same

	s.market.version = 1
	tag := listed(1, "GET /v1/flavors")
	if again := listed(0, "GET /v1/flavors"); again != tag {
		t.Errorf("the same listing has the tags %s and %s", tag, again)
	}
	if listed(0, "GET /v1/flavors", "If-None-Match: "+tag) != "" {
		t.Error("no 304 for the tag that it has")
	}
	for _, request := range []string{"GET /v1/flavors", "GET /v1/promotedflavors"} {
		// What is kept is for nobody whom the identity provider does not know now.
		wantStatus(t, s.do(t, request, "", "X-Auth-Token: revoked", "If-None-Match: "+tag), 401)
	}
	listed(0, "HEAD /api/v1/flavors")
	listed(1, "GET /v1/flavors", "Accept: application/xml")
	listed(1, "GET /v1/flavors?public=true")
	listed(0, "GET /v1/flavors?public=1")
	listed(0, "GET /v1/flavors?public")
	for _, part := range []string{"gpu=true", "gpu_model=A100", "limit=1", "marker=" + markerOf(insane)} {
		listed(1, "GET /v1/flavors?"+part)
		listed(1, "GET /v1/flavors?"+part)
	}
	listed(0, "GET /v1/flavors")

	other := insane
	other.Name = "sane"
	s.market.version, s.market.list = 2, []flavor.Flavor{other}
	if now := listed(1, "GET /v1/flavors", "If-None-Match: "+tag); now == "" || now == tag {
		t.Errorf("a listing that has changed has the tag %q", now)
	}
}

// Callers get another's body only where the version says that it is theirs too,
// however alike they are.
func TestListingsOfOthers(t *testing.T) {
	r := newRenderedListings(1000)
	user, owner := flavor.Principal{ID: "u"}, flavor.Principal{ID: "o", Regions: []string{"Trento"}}
	encoded := 0
	get := func(p flavor.Principal, version any) string {
		l := marketplace.Listing{All: func() []flavor.Flavor { return nil }, Version: version}
		return string(r.of(audienceOf(asJSON, p, marketplace.Filter{}), l, func([]flavor.Flavor) []byte {
			encoded++
			return []byte(fmt.Sprint(p.ID, version))
		}).body)
	}
	for _, row := range []struct {
		who     flavor.Principal
		version any
		body    string
		encoded int
	}{
		{user, 1, "u1", 1}, {user, 1, "u1", 0},
		{flavor.Principal{ID: "v"}, 1, "u1", 0}, // who owns nothing sees what the others see
		{owner, [2]int{1, 1}, "o[1 1]", 1},
		{flavor.Principal{ID: "p", Regions: []string{"Trento"}}, [2]int{1, 1}, "o[1 1]", 0},
		{flavor.Principal{ID: "p", Regions: []string{"Trento"}}, [2]int{1, 2}, "p[1 2]", 1},
		{owner, [2]int{1, 1}, "o[1 1]", 1},
		{user, 1, "u1", 0},
		{user, nil, "u<nil>", 1}, {user, nil, "u<nil>", 1},
	} {
		encoded = 0
		if body := get(row.who, row.version); body != row.body || encoded != row.encoded {
			t.Errorf("%s with version %v got %s, encoded %d times, not %s and %d", row.who.ID, row.version, body, encoded, row.body, row.encoded)
		}
	}
}

// However many audiences there are, and however often what they see changes, the
// bytes that are kept for them are bounded, and who asked last is served from them.
func TestListingsAreBounded(t *testing.T) {
	const most, each = 1000, 100
	r := newRenderedListings(most)
	encoded := 0
	get := func(region string, version, size int) {
		encoded = 0
		a := audienceOf(asJSON, flavor.Principal{Regions: []string{region}}, marketplace.Filter{})
		r.of(a, marketplace.Listing{All: func() []flavor.Flavor { return nil }, Version: version}, func([]flavor.Flavor) []byte {
			encoded++
			return []byte(strings.Repeat("x", size))
		})
		kept := 0
		for _, l := range r.kept.Values() {
			kept += l.size
		}
		if r.size != kept || kept > most {
			t.Fatalf("%d bytes are kept of at most %d, and counted as %d", kept, most, r.size)
		}
	}
	for version := range 50 {
		get("R0", version, each)
	}
	if r.kept.Len() != 1 {
		t.Errorf("%d bodies are kept of one audience", r.kept.Len())
	}
	for i := range 50 {
		get(fmt.Sprintf("R%d", i), 0, each)
	}
	if get("R49", 0, each); encoded != 0 {
		t.Error("what was asked for last has been forgotten")
	}
	if get("R0", 0, each); encoded != 1 {
		t.Error("what was asked for first has not been forgotten")
	}
	if get("huge", 0, most+1); r.kept.Len() != 0 {
		t.Error("a body is kept that is larger than all may be")
	}
}

// A crowd that comes when a listing has changed has it encoded once.
func TestListingsOfACrowd(t *testing.T) {
	r := newRenderedListings(maxListings)
	a := audienceOf(asJSON, flavor.Principal{}, marketplace.Filter{})
	encoded := 0 // the race detector sees two who encode at once
	for version := range 20 {
		var crowd sync.WaitGroup
		for range 16 {
			crowd.Go(func() {
				l := marketplace.Listing{All: func() []flavor.Flavor { return nil }, Version: version}
				body := r.of(a, l, func([]flavor.Flavor) []byte {
					encoded++
					return fmt.Append(nil, version)
				}).body
				if string(body) != fmt.Sprint(version) {
					t.Errorf("version %d got %s", version, body)
				}
			})
		}
		crowd.Wait()
	}
	if encoded != 20 {
		t.Errorf("20 versions were encoded %d times", encoded)
	}
}
