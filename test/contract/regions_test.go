package contract_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// regions: the list every user may read.
func regions(t *testing.T, s *setup) {
	// A server of its own: other tests register regions at the shared one.
	pr := s.serve(t)
	user := pr.as(s.user)

	t.Run("without a region the list is empty", func(t *testing.T) {
		if a := user.get(t, "/regions").want(t, 200); string(compactJSON(a.body)) != `{"Infrastructures":[]}` {
			t.Errorf("not {\"Infrastructures\": []}: %s", a)
		}
		if a := user.get(t, "/regions", in(asXML)).want(t, 200); squeeze(a.body) != `<infrastructures/>` && squeeze(a.body) != `<infrastructures></infrastructures>` {
			t.Errorf("not <infrastructures/>: %s", a)
		}
	})

	s.registerAll(t, pr)

	for _, path := range []string{"/regions", "/nodes", "/regions/", "/nodes/"} {
		for _, prefix := range prefixes {
			t.Run(prefix+path+" is the documented JSON, with a capital I", func(t *testing.T) {
				a := user.get(t, path, prefixed(prefix)).want(t, 200)
				want := `{"Infrastructures":[{"id":"Lannion2","name":"Lannion2"},{"id":"Spain2","name":"Spain2"},{"id":"Trento","name":"Trento"}]}`
				if got := string(compactJSON(a.body)); got != want {
					t.Errorf("%s, not %s", got, want)
				}
			})
			t.Run(prefix+path+" is the documented XML", func(t *testing.T) {
				a := user.get(t, path, prefixed(prefix), in(asXML)).want(t, 200)
				want := `<infrastructures><infrastructure id="Lannion2"><name>Lannion2</name></infrastructure>` +
					`<infrastructure id="Spain2"><name>Spain2</name></infrastructure><infrastructure id="Trento"><name>Trento</name></infrastructure></infrastructures>`
				if got := squeeze(a.body); got != want {
					t.Errorf("%s, not %s", got, want)
				}
			})
		}
	}

	t.Run("it tells a user nothing but names", func(t *testing.T) {
		body := string(user.get(t, "/regions").want(t, 200).body)
		for _, word := range []string{"keystone", "operator", "127.0.0.1"} {
			if strings.Contains(body, word) {
				t.Errorf("it tells of %s: %s", word, body)
			}
		}
	})

	t.Run("it follows what is registered and removed", func(t *testing.T) {
		region := unique()("Region")
		names := func() []string {
			var list struct{ Infrastructures []struct{ ID, Name string } }
			if err := json.Unmarshal(user.get(t, "/regions").want(t, 200).body, &list); err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, one := range list.Infrastructures {
				all = append(all, one.ID)
			}
			return all
		}
		pr.as(s.manager).post(t, "/infrastructures", s.cloud.infrastructure(region)).want(t, 201)
		if !slices.Contains(names(), region) {
			t.Errorf("%v is without %s", names(), region)
		}
		pr.as(s.manager).delete(t, "/infrastructures/"+region).want(t, 204)
		if slices.Contains(names(), region) {
			t.Errorf("%v still has %s", names(), region)
		}
	})
}
