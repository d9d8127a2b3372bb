package contract_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// paging: the flavor lists, their order, their pages and their filters.
func paging(t *testing.T, s *setup) {
	n := s.names(t)
	manager := s.product.as(s.manager)
	// Each with the same beginning, so that they stand together in every list.
	for i := range 5 {
		manager.post(t, "/promotedflavors", sized(n(fmt.Sprint("page", i)))).want(t, 201)
		name := n(fmt.Sprint("node", i))
		manager.post(t, "/flavors", sized(name).and("nodes", []string{trento})).want(t, 201)
	}
	token := keystone(s.cloud.token(t, "operator"))
	ownerOfTrento := s.product.as(s.owner(trento))

	lists := []struct {
		path   string
		as     client
		prefix string // of the names expected in it
		count  int
	}{
		{"/promotedflavors", manager, n("page"), 5},
		{"/regions/Trento/flavors", manager, n("node"), 5},
		{"/flavors", ownerOfTrento, n(""), 10},
	}
	for _, list := range lists {
		for _, prefix := range prefixes {
			for _, f := range formats {
				t.Run(fmt.Sprintf("%s%s in %s comes in pages that together are the whole", prefix, list.path, f.name), func(t *testing.T) {
					var seen []flavorBody
					next := prefix + list.path + "?limit=2"
					for next != "" {
						a := list.as.get(t, strings.TrimPrefix(next, prefix), prefixed(prefix), in(f), token).want(t, 200)
						page := a.flavors(t)
						if len(page) > 2 {
							t.Fatalf("a page of %d with limit=2: %s", len(page), a)
						}
						seen = append(seen, page...)
						if next = a.nextPath(t); next == "" {
							break
						}
						if !strings.HasPrefix(next, prefix+list.path+"?") {
							t.Fatalf("the next page of %s%s is %s", prefix, list.path, next)
						}
						if limit := mustQuery(t, next).Get("limit"); limit != "2" {
							t.Fatalf("the next page has limit %q: %s", limit, next)
						}
					}
					var mine []string
					for _, one := range seen {
						if strings.HasPrefix(one.Name, list.prefix) {
							mine = append(mine, one.Name)
						}
					}
					if len(mine) != list.count || !slices.IsSorted(mine) {
						t.Errorf("the pages hold %v", mine)
					}
					if !slices.IsSortedFunc(seen, byNameIDRegion) {
						t.Errorf("the pages are not in the order name, id, region")
					}
				})
			}
		}

		t.Run(list.path+" without limit is everything, in the order name, id, region", func(t *testing.T) {
			a := list.as.get(t, list.path, token).want(t, 200)
			all := a.flavors(t)
			if a.header.Get("Link") != "" {
				t.Errorf("there is a Link: %s", a.header.Get("Link"))
			}
			if !slices.IsSortedFunc(all, byNameIDRegion) {
				t.Errorf("the order is another: %s", a)
			}
			count := 0
			for _, one := range all {
				if strings.HasPrefix(one.Name, list.prefix) {
					count++
				}
			}
			if count != list.count {
				t.Errorf("%d of %d are there", count, list.count)
			}
		})

		t.Run(list.path+" with a limit that is no positive number is 400 and says limit", func(t *testing.T) {
			for _, limit := range []string{"-1", "abc", "1.5", "99999999999999999999", "0x10", "1 2"} {
				list.as.get(t, list.path, token, query("limit", limit)).want(t, 400).says(t, "limit")
			}
		})

		t.Run(list.path+" with a marker that we did not give is 400 and says marker", func(t *testing.T) {
			for _, marker := range []string{"nonsense", "../..", "\x00", "e30", "ÿ", strings.Repeat("A", 5000)} {
				list.as.get(t, list.path, token, query("limit", "2"), query("marker", marker)).want(t, 400).says(t, "marker")
			}
		})

		t.Run(list.path+" with a limit beyond the whole is one page", func(t *testing.T) {
			a := list.as.get(t, list.path, token, query("limit", "100000")).want(t, 200)
			if a.header.Get("Link") != "" {
				t.Errorf("there is a Link: %s", a.header.Get("Link"))
			}
		})
	}

	t.Run("a page keeps the filters of the call", func(t *testing.T) {
		a := ownerOfTrento.get(t, "/flavors", query("limit", "1"), query("promoted", "true"), query("public", "1")).want(t, 200)
		next := mustQuery(t, a.nextPath(t))
		if next.Get("promoted") != "true" || next.Get("public") != "1" {
			t.Errorf("the next page is %v", next)
		}
	})

	t.Run("a flavor that is deleted between two pages makes no other missing", func(t *testing.T) {
		n := unique()
		var ids []string
		for i := range 4 {
			ids = append(ids, manager.post(t, "/promotedflavors", sized(n(fmt.Sprint(i)))).want(t, 201).flavor(t).ID)
		}
		var got []string
		for next := "/v1/promotedflavors?limit=1"; next != ""; {
			a := manager.get(t, strings.TrimPrefix(next, "/v1")).want(t, 200)
			for _, f := range a.flavors(t) {
				if strings.HasPrefix(f.Name, n("")) {
					got = append(got, f.Name)
					if f.Name == n("1") {
						manager.delete(t, "/promotedflavors/"+ids[1]).want(t, 204)
					}
				}
			}
			next = a.nextPath(t)
		}
		if want := []string{n("0"), n("1"), n("2"), n("3")}; !slices.Equal(got, want) {
			t.Errorf("the pages held %v, not %v", got, want)
		}
	})

	t.Run("an empty list is a list", func(t *testing.T) {
		c := extra(t, "empty")
		c.register(t, s, s.product)
		token := keystone(c.token(t, "operator"))
		path := "/regions/" + c.regions[0] + "/flavors"
		if a := manager.get(t, path, token).want(t, 200); string(compactJSON(a.body)) != `{"flavors":[]}` {
			t.Errorf("not {\"flavors\": []}: %s", a)
		}
		if a := manager.get(t, path, token, in(asXML)).want(t, 200); squeeze(a.body) != `<flavors/>` && squeeze(a.body) != `<flavors></flavors>` {
			t.Errorf("not <flavors/>: %s", a)
		}
	})

	filters(t, s)
}

// filters: ?public and ?promoted of GET /v1/flavors.
func filters(t *testing.T, s *setup) {
	n := s.names(t)
	manager := s.product.as(s.manager)
	owner := s.product.as(s.owner(spain2))
	manager.post(t, "/promotedflavors", sized(n("promoted"))).want(t, 201)
	owner.post(t, "/flavors", sized(n("public")).and("public", true)).want(t, 201)
	owner.post(t, "/flavors", sized(n("private"))).want(t, 201)

	all := []string{"private", "promoted", "public"}
	for parameters, want := range map[string][]string{
		"":                            all,
		"?public":                     all, // the widget's
		"?public=":                    all,
		"?promoted":                   all,
		"?public&promoted":            all,
		"?public=true":                {"promoted", "public"},
		"?public=1":                   {"promoted", "public"},
		"?public=false":               {"private"},
		"?public=0":                   {"private"},
		"?promoted=true":              {"promoted"},
		"?promoted=1":                 {"promoted"},
		"?promoted=false":             {"private", "public"},
		"?promoted=0":                 {"private", "public"},
		"?public=true&promoted=false": {"public"},
		"?public=false&promoted=true": nil,
	} {
		t.Run("GET /v1/flavors"+parameters, func(t *testing.T) {
			for _, prefix := range prefixes {
				var got []string
				for _, f := range owner.get(t, "/flavors"+parameters, prefixed(prefix), fresh).want(t, 200).flavors(t) {
					if word, mine := strings.CutPrefix(f.Name, n("")); mine {
						got = append(got, word)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("under %s: %v, not %v", prefix, got, want)
				}
			}
		})
	}

	for _, parameters := range []string{"?public=maybe", "?public=2", "?promoted=yes", "?promoted=-1", "?promoted=true%20", "?public=%00"} {
		t.Run("GET /v1/flavors"+parameters+" is 400", func(t *testing.T) {
			field := strings.TrimPrefix(strings.Split(parameters, "=")[0], "?")
			owner.get(t, "/flavors"+parameters).want(t, 400).says(t, field)
		})
	}
}

func byNameIDRegion(a, b flavorBody) int {
	return slices.Compare(append([]string{a.Name, a.ID}, a.Nodes...), append([]string{b.Name, b.ID}, b.Nodes...))
}

func mustQuery(t *testing.T, path string) url.Values {
	t.Helper()
	u, err := url.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}
