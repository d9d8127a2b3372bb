package contract_test

import (
	"encoding/json"
	"encoding/xml"
	"slices"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// federationStatus is the answer of GET /v1/status.
type federationStatus struct {
	Regions []regionOverview `json:"regions" xml:"regions>region"`
	Failed  []struct {
		Node string `json:"node" xml:"node"`
	} `json:"failed" xml:"failed>failure"`
}

// regionOverview is one region of it; what is absent is nil.
type regionOverview struct {
	Region    string     `json:"region" xml:"name,attr"`
	State     string     `json:"state" xml:"state"`
	LastSeen  *time.Time `json:"last_seen" xml:"last_seen"`
	LastLook  *time.Time `json:"last_look" xml:"last_look"`
	LastError *string    `json:"last_error" xml:"last_error"`
	Pending   *int       `json:"pending" xml:"pending"`
	Failed    *int       `json:"failed" xml:"failed"`
	Drifted   *int       `json:"drifted" xml:"drifted"`
}

func (c client) status(t *testing.T, shapes ...shape) federationStatus {
	t.Helper()
	a := c.get(t, "/status", shapes...).want(t, 200)
	var body struct {
		Status federationStatus `json:"status"`
	}
	err := json.Unmarshal(a.body, &body)
	if a.isXML(t) {
		err = xml.Unmarshal(a.body, &body.Status)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	return body.Status
}

// status: how the federation is, to whom.
func status(t *testing.T, s *setup) {
	pr := s.serve(t, with("engine", map[string]any{"region_timeout": "1s"}))
	manager := pr.as(s.manager)
	if got := manager.status(t); len(got.Regions)+len(got.Failed) != 0 {
		t.Errorf("without a region there are %+v", got)
	}
	c := extra(t, "well", "ill", "refusing")
	well, ill, refusing := c.regions[0], c.regions[1], c.regions[2]
	for _, region := range c.regions {
		d := c.infrastructure(region)
		if region == refusing {
			d = d.and("password", "another")
		}
		manager.post(t, "/infrastructures", d).want(t, 201)
	}
	c.stack.Fault(ill, simstack.Fault{Service: simstack.Nova, Kind: simstack.ServerError})
	want := map[string]string{well: "up", ill: "unreachable", refusing: "refused"}
	eventually(t, "each region has been asked", func() bool {
		manager.get(t, "/infrastructures").want(t, 200)
		return !slices.ContainsFunc(manager.status(t).Regions, func(r regionOverview) bool { return r.State != want[r.Region] })
	})

	for _, f := range formats {
		t.Run("its owner is told all of a region, others its outline, in "+f.name, func(t *testing.T) {
			for _, by := range []struct {
				who client
				own []string
			}{{manager, c.regions}, {pr.as(s.owner(ill)), []string{ill}}, {pr.as(s.user), nil}} {
				regions := by.who.status(t, in(f)).Regions
				if len(regions) != len(c.regions) {
					t.Errorf("%d regions: %+v", len(regions), regions)
				}
				for _, r := range regions {
					whole := slices.Contains(by.own, r.Region)
					state := want[r.Region]
					if !whole && state == "refused" {
						state = "unreachable"
					}
					if r.State != state || (r.LastSeen != nil) != (r.Region == well) {
						t.Errorf("%s is told that %s is %s, last seen %v", by.who.caller.name, r.Region, r.State, r.LastSeen)
					}
					if (r.LastLook != nil) != whole || (r.LastError != nil) != whole || (r.Pending != nil) != whole || (r.Failed != nil) != whole || (r.Drifted != nil) != whole {
						t.Errorf("%s is told of %s: %+v", by.who.caller.name, r.Region, r)
					}
					if whole && (*r.LastError != "") != (r.Region != well) {
						t.Errorf("the last error of %s is %q", r.Region, *r.LastError)
					}
				}
			}
		})
	}

	t.Run("as long as nothing changes it is 304", func(t *testing.T) {
		eventually(t, "two answers are the same", func() bool {
			tag := manager.get(t, "/status").want(t, 200).header.Get("ETag")
			return manager.get(t, "/status", header("If-None-Match", tag)).wantOneOf(t, 200, 304).status == 304
		})
	})
}
