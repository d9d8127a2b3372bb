package ucloud

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/ucloud/coretest"
)

func pushOff(c *Config) { c.Push, c.CoreURL, c.RefreshToken = Off, "", "" }

// The answer to the byte: both generations read this one.
func TestRetrieveProducts(t *testing.T) {
	w := newWorld(t, pushOff)
	w.shelf.set(t, offer("uc-general-small", "uc-general", 1))
	body, err := w.RetrieveProducts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the answer", string(body), `{"responses":[{"product":{"id":"uc-general-small","category":"uc-general","provider":"aau"},`+
		`"docker":{"enabled":false,"web":false,"vnc":false,"logs":false,"terminal":false,"peers":false,"timeExtension":false,"utilization":false},`+
		`"virtualMachine":{"enabled":true,"logs":false,"vnc":false,"terminal":false,"timeExtension":false,"suspension":false,"utilization":false}}]}`)
	equal(t, "the manifest", string(w.Manifest()), `{"enabled":false,"expireAfterMs":null}`)
	if !w.Serves("aau") || w.Serves("sdu") || w.Serves("AAU") {
		t.Error("the provider serves another id than its own")
	}
	w.shelf.set(t)
	body, err = w.RetrieveProducts(t.Context())
	equal(t, "the answer without products", string(body), `{"responses":[]}`)
	if err != nil {
		t.Error(err)
	}
	var none *Provider
	_, err = none.RetrieveProducts(t.Context())
	expectCode(t, err, flavor.CodeNotFound)
	if none.Serves("") {
		t.Error("no provider serves an id")
	}
}

// With the push off somebody else registers the products: all are listed, but
// for retired ones, in one order.
func TestListedWithoutPush(t *testing.T) {
	w := newWorld(t, pushOff)
	small, large, gone := offer("b", "x", 1), offer("a", "y", 1), but(offer("c", "x", 1), func(o *flavor.Offer) { o.Retired = true })
	w.shelf.set(t, small, gone, large)
	equal(t, "listed", w.listed(t), []string{"y/a", "x/b"})
	w.shelf.set(t, small, gone)
	equal(t, "listed without one", w.listed(t), []string{"x/b"})
}

// With the push on nothing is listed that Core does not know, and a product that
// moves to another category stays where it is until Core knows it there.
func TestListedWithPush(t *testing.T) {
	w := newWorld(t)
	a, b := offer("a", "x", 1), offer("b", "x", 2)
	w.shelf.set(t, a, b)
	equal(t, "before any push", w.listed(t), []string{})
	w.mustPush(t)
	equal(t, "pushed", w.listed(t), []string{"x/a", "x/b"})

	c := offer("c", "x", 3)
	moved := but(a, func(o *flavor.Offer) { o.Category = "y" })
	w.shelf.set(t, moved, b, c)
	equal(t, "changed, and not pushed yet", w.listed(t), []string{"x/a", "x/b"})
	w.mustPush(t)
	equal(t, "pushed again", w.listed(t), []string{"y/a", "x/b", "x/c"})

	w.shelf.set(t, moved, but(b, func(o *flavor.Offer) { o.Retired = true }), c)
	equal(t, "with a retired one", w.listed(t), []string{"y/a", "x/c"})
	w.core.ForgetRequests()
	w.mustPush(t)
	w.expectSent(t)

	// Another provider's Core knows nothing of all this.
	other := w.replica(t, w.cfg.Store, func(c *Config) { c.ProviderID = "sdu" })
	other.shelf.offers = w.shelf.offers
	equal(t, "of another provider", other.listed(t), []string{})
}

// Two flavors swap their names: while one is still known as the other, Core must
// not read of one product twice.
func TestListedOnce(t *testing.T) {
	w := newWorld(t)
	w.shelf.set(t, offer("a", "x", 1), offer("b", "x", 2))
	w.mustPush(t)
	w.shelf.mu.Lock()
	for i := range w.shelf.offers {
		o := &w.shelf.offers[i]
		o.Name = map[string]string{"a": "b", "b": "c"}[o.Name]
	}
	w.shelf.mu.Unlock()
	renamed := slices.Clone(w.shelf.offers)
	w.core.Fault(coretest.Fault{Kind: coretest.Answer, Path: v2.create, Status: 500})
	if _, err := w.push(t); err == nil {
		t.Fatal("the push was to fail")
	}
	equal(t, "listed", w.listed(t), []string{"x/a", "x/b"})
	equal(t, "on offer", []string{renamed[0].Name, renamed[1].Name}, []string{"b", "c"})
	refs := w.supports([]flavor.Offer{
		{Name: "b", Pushed: flavor.Reference{Provider: "aau", Category: "x", Name: "a"}},
		{Name: "a", Pushed: flavor.Reference{Provider: "aau", Category: "x", Name: "a"}},
	})
	if len(refs) != 1 {
		t.Errorf("one product is listed %d times", len(refs))
	}
}

// Core takes an empty list at its word: users would lose every product because
// our database was away for a moment.
func TestNeverEmptyByMistake(t *testing.T) {
	for name, w := range map[string]world{"push": newWorld(t), "no push": newWorld(t, pushOff)} {
		w.shelf.set(t, offer("a", "x", 1))
		if w.pushes() {
			w.mustPush(t)
		}
		w.listed(t)
		away := errors.New("the database is away")
		w.shelf.fail(away)
		if body, err := w.RetrieveProducts(t.Context()); !errors.Is(err, away) || body != nil {
			t.Errorf("%s: %s, %v", name, body, err)
		}
		if w.pushes() {
			if _, err := w.push(t); !errors.Is(err, away) {
				t.Errorf("%s: a push without products: %v", name, err)
			}
		}
	}
}

// A provider that takes over from another, or from an older database, must not
// empty the list that users have, before its first push or while that fails; and
// once Core was seen to have the products they are listed, whatever it has of them.
func TestTakingOver(t *testing.T) {
	w := newWorld(t)
	before := newWorld(t) // another provider's database, the same Core
	before.Provider.core.base, before.Provider.core.refresh = w.url, w.Provider.core.refresh
	before.shelf.set(t, offer("a", "x", 1), offer("b", "y", 1))
	before.mustPush(t)

	dearer := but(offer("a", "x", 2), func(o *flavor.Offer) { o.Period = flavor.Day })
	w.shelf.set(t, dearer, offer("b", "y", 2), offer("c", "y", 2))
	if body, err := w.RetrieveProducts(t.Context()); flavor.CodeOf(err) != flavor.CodeUnreachable || body != nil {
		t.Errorf("before the first push: %s, %v", body, err)
	}
	w.core.Fault(coretest.Fault{Kind: coretest.Answer, Status: http.StatusForbidden, Why: "no", Method: http.MethodPost, Path: createPath})
	if _, err := w.push(t); flavor.CodeOf(err) != flavor.CodeConflict {
		t.Fatalf("the push: %v", err)
	}
	// a is refused here, for Core has it by the hour; b is refused there; c is news.
	equal(t, "listed", w.listed(t), []string{"x/a", "y/b"})
}

// Core asks every ten seconds: where nothing has changed, nothing is made anew.
func TestRenderedOnce(t *testing.T) {
	w := newWorld(t, pushOff)
	w.shelf.set(t, offer("a", "x", 1))
	first, err1 := w.RetrieveProducts(t.Context())
	second, err2 := w.RetrieveProducts(t.Context())
	if err1 != nil || err2 != nil || unsafe.SliceData(first) != unsafe.SliceData(second) {
		t.Errorf("the same list was rendered twice (%v, %v)", err1, err2)
	}
	w.shelf.set(t, offer("b", "x", 1))
	third, err := w.RetrieveProducts(t.Context())
	if err != nil || !strings.Contains(string(third), `"b"`) {
		t.Errorf("a change is not listed: %s, %v", third, err)
	}
}

// What a Core makes of it all, over HTTP: what users see is what was pushed, and
// what is only registered or only listed they do not.
func TestPolledByCore(t *testing.T) {
	for name, w := range map[string]world{"current": newWorld(t), "classic": classicWorld(t)} {
		w.shelf.set(t, offer("a", "x", 400_000), offer("b", "y", 800_000))
		w.mustPush(t)
		url := w.serve(t)
		// Promoted, and not pushed yet; and one that only Core knows.
		w.shelf.set(t, offer("a", "x", 400_000), offer("b", "y", 800_000), offer("c", "y", 1))
		w.core.RegisterV2(coretest.ProductV2{Name: "d", Category: coretest.CategoryV2{Name: "x", Provider: "aau"}, ProductType: "COMPUTE"})
		got, err := w.core.Poll(t.Context(), url)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		prices := map[string]int64{}
		for _, v := range got.Visible {
			prices[v.ID] = v.Price
			equal(t, name+": features", v.Features, []string{"jobs.vm.enabled"})
		}
		want := map[string]int64{"a": 400_000, "b": 800_000}
		if name == "classic" {
			want = map[string]int64{"a": 100_000, "b": 200_000}
		}
		equal(t, name+": visible", prices, want)
		if !got.Connected {
			t.Errorf("%s: users would have to connect first", name)
		}
		res, err := http.Get(url + "/ucloud/aau/jobs/retrieveProducts")
		if err != nil || res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: without a token: %v, %v", name, res, err)
		}
	}
}

// Each element is what both generations require of one.
func TestShapeOfSupport(t *testing.T) {
	w := newWorld(t, pushOff)
	w.shelf.set(t, offer("a", "x", 1), offer("b", "y", 1))
	body, err := w.RetrieveProducts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string][]map[string]map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer) != 1 || len(answer["responses"]) != 2 {
		t.Fatalf("the answer is %s", body)
	}
	for _, r := range answer["responses"] {
		if p := r["product"]; len(p) != 3 || p["provider"] != "aau" {
			t.Errorf("the product is %v", p)
		}
		if r["virtualMachine"]["enabled"] != true || r["docker"]["enabled"] != false {
			t.Errorf("the features are %v", r)
		}
		for _, part := range []string{"docker", "virtualMachine"} {
			for flag, on := range r[part] {
				if _, ok := on.(bool); !ok {
					t.Errorf("%s.%s is %v", part, flag, on)
				}
			}
		}
	}
}
