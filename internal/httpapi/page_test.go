package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// shelf is a list in order, with the hard cases: one name and id in several
// regions, and a private flavor under the id of a public one.
func shelf() []flavor.Flavor {
	list := []flavor.Flavor{
		{ID: "1", Spec: flavor.Spec{Name: "a"}, Nodes: []string{"R1"}},
		{ID: "1", Spec: flavor.Spec{Name: "a"}, Nodes: []string{"R2"}},
		{ID: "1", Spec: flavor.Spec{Name: "a"}, Nodes: []string{"R0", "R9"}, Public: true},
		{ID: "2", Spec: flavor.Spec{Name: "a"}},
		{ID: "3", Spec: flavor.Spec{Name: "ü & <b>"}, Public: true},
		{ID: "4", Spec: flavor.Spec{Name: "zz"}, Public: true, Nodes: []string{"R1"}},
	}
	slices.SortFunc(list, flavor.Compare)
	return list
}

// next is the URL in a Link header.
func next(t *testing.T, link string) string {
	t.Helper()
	target, ok := strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
	if !ok {
		t.Fatalf("Link: %s", link)
	}
	return target
}

// Following the links must show each flavor exactly once, whatever the size of
// the page, under the prefix that was called, with its filters, without a token.
func TestPages(t *testing.T) {
	for _, path := range []string{"/v1/flavors", "/api/v1/promotedflavors/", "/api/v1/region/Trento/flavors"} {
		for limit := 1; limit <= 7; limit++ {
			s := newSetup(t)
			s.market.list = shelf()
			var got []string
			target := fmt.Sprintf("%s?access_token=good&public=&limit=%d&promoted&password=x", path, limit)
			for pages := 0; target != ""; pages++ {
				if pages > 10 {
					t.Fatal("the links go round")
				}
				w := s.do(t, "GET "+target, "", "X-Auth-Token: good")
				wantStatus(t, w, 200)
				var page struct {
					Flavors []struct {
						ID    string
						Nodes []string
					}
				}
				if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
					t.Fatal(err)
				}
				if len(page.Flavors) > limit || len(page.Flavors) == 0 {
					t.Errorf("a page of %d", len(page.Flavors))
				}
				for _, f := range page.Flavors {
					got = append(got, f.ID+strings.Join(f.Nodes, ","))
				}
				target = ""
				if link := w.Header().Get("Link"); link != "" {
					target = next(t, link)
					if !strings.HasPrefix(target, strings.TrimSuffix(path, "/")+"?") || !strings.Contains(target, "public=") || !strings.Contains(target, "promoted=") {
						t.Errorf("Link to %s", target)
					}
					if strings.Contains(target, "good") || strings.Contains(target, "access_token") || strings.Contains(target, "password") {
						t.Errorf("a credential in the Link: %s", target)
					}
				}
			}
			var want []string
			for _, f := range shelf() {
				want = append(want, f.ID+strings.Join(f.Nodes, ","))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, limit %d: %v, want %v", path, limit, got, want)
			}
		}
	}
}

// A page begins where the one before ended, also when that flavor has gone, or
// has moved to other nodes.
func TestPagesOfAListThatChanges(t *testing.T) {
	list := shelf()
	for i, last := range list {
		rest := list[i+1:]
		if got := list[after(list, last):]; len(got) != len(rest) {
			t.Errorf("after %+v: %d left, want %d", last, len(got), len(rest))
		}
		without := slices.Delete(slices.Clone(list), i, i+1)
		if got := without[after(without, last):]; len(got) != len(rest) {
			t.Errorf("after the deleted %+v: %d left, want %d", last, len(got), len(rest))
		}
	}
	moved := slices.Clone(list)
	for i := range moved {
		if moved[i].Public {
			moved[i].Nodes = append([]string{"A"}, moved[i].Nodes...)
		}
	}
	i := slices.IndexFunc(list, func(f flavor.Flavor) bool { return f.ID == "4" })
	if got := after(moved, list[i]); got != i+1 {
		t.Errorf("after an installed flavor: %d, want %d", got, i+1)
	}
}

func TestWrongPages(t *testing.T) {
	forged := base64.RawURLEncoding.EncodeToString
	good := markerOf(insane)
	for query, status := range map[string]int{
		"limit=1": 200, "limit=2147483647": 200, "limit=1&limit=1": 200, "marker=" + good: 200, "limit=1&marker=" + good: 200,
		"limit=": 400, "limit": 400, "limit=0": 400, "limit=-1": 400, "limit=1.0": 400, "limit=a": 400, "limit=2147483648": 400,
		"limit=99999999999999999999": 400, "limit=%2B1": 400, "limit=%201": 400, "limit=1&limit=2": 400, "limit=%zz": 400,
		"marker=": 400, "marker": 400, "marker=x": 400, "marker=" + insane.ID: 400, "marker=" + good + "%3D": 400, "marker=" + good + "&marker=x": 400,
		"marker=" + forged([]byte("nonsense")): 400, "marker=" + forged([]byte("2\x00public\x00a\x00b\x00")): 400,
		"marker=" + forged([]byte("1\x00else\x00a\x00b\x00")): 400, "marker=" + forged([]byte("1\x00public\x00\xff\x00b\x00")): 400,
		"marker=" + forged([]byte("1\x00public\x00a\x00b\x00\x00")): 400,
	} {
		for _, path := range []string{"/v1/flavors", "/v1/promotedflavors", "/v1/regions/Trento/flavors"} {
			w := newSetup(t).do(t, "GET "+path+"?"+query, "")
			if w.Code != status {
				t.Errorf("%s?%s: %d, want %d: %s", path, query, w.Code, status, w.Body)
			}
		}
	}
}
