package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// What is counted is what there is, of all regions or of those that one may know of.
func TestTally(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			s := storetest.Open(t, driver)
			f := storetest.Flavor("x")
			var failed flavor.Operation
			at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
			err := s.Write(t.Context(), func(tx *store.Tx) (err error) {
				for _, region := range []string{"Spain2", "Trento"} {
					if err := tx.InsertRegion(storetest.Region(region)); err != nil {
						return err
					}
				}
				if err := tx.InsertFlavor(f); err != nil {
					return err
				}
				node := func(region string, state flavor.OperationState, why string) flavor.OperationNode {
					return flavor.OperationNode{Region: region, State: state, Attempts: 2, LastError: why}
				}
				of := func(nodes ...flavor.OperationNode) flavor.Operation {
					return flavor.Operation{Kind: flavor.Install, Origin: flavor.Asked, FlavorID: f.ID, Name: f.Name, Nodes: nodes}
				}
				for _, o := range []flavor.Operation{
					of(node("Spain2", flavor.Waiting, ""), node("Trento", flavor.Running, "")), of(node("Spain2", flavor.Succeeded, "")), of(node("Trento", flavor.Cancelled, "")),
				} {
					if _, err := tx.InsertOperation(o, time.Minute); err != nil {
						return err
					}
				}
				if failed, err = tx.InsertOperation(of(node("Trento", flavor.Failed, "no")), time.Minute); err != nil {
					return err
				}
				if err := tx.PutDrift(flavor.Drift{FlavorID: f.ID, Region: "Trento", Kind: flavor.Missing, NodeID: f.ID, FoundAt: at}); err != nil {
					return err
				}
				look, err := tx.Look("Trento")
				if err != nil {
					return err
				}
				look.LookedAt, look.Duration = at, time.Second
				_, err = tx.NoteLook(look, time.Minute, false)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			spain := flavor.NodeCounts{Waiting: 1, Succeeded: 1}
			trento := flavor.NodeCounts{Running: 1, Failed: 1, Cancelled: 1}
			why := []flavor.FailedNode{{
				Operation: failed.ID, Flavor: f.ID, Name: f.Name, Node: "Trento", Attempts: 2, LastError: "no", UpdatedAt: failed.Nodes[0].UpdatedAt,
			}}
			drift := map[string][]flavor.DriftCount{"Trento": {{Kind: flavor.Missing, Count: 1}}}
			for _, c := range []struct {
				name    string
				regions []string
				want    store.Tally
			}{
				{"all", nil, store.Tally{
					Operations: flavor.OperationCounts{Running: 1, Succeeded: 1, Failed: 1, Cancelled: 1},
					Nodes:      map[string]flavor.NodeCounts{"Spain2": spain, "Trento": trento}, Drift: drift, Failed: why,
				}},
				{"of one", []string{"Spain2"}, store.Tally{
					Operations: flavor.OperationCounts{Running: 1, Succeeded: 1}, Nodes: map[string]flavor.NodeCounts{"Spain2": spain},
				}},
				{"of another", []string{"Trento"}, store.Tally{
					Operations: flavor.OperationCounts{Running: 1, Failed: 1, Cancelled: 1}, Nodes: map[string]flavor.NodeCounts{"Trento": trento}, Drift: drift, Failed: why,
				}},
				{"of none", []string{}, store.Tally{}},
			} {
				var got store.Tally
				err := s.Read(t.Context(), func(tx *store.Tx) (err error) { got, err = tx.Tally(c.regions); return err })
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(store.Tally{}, "Looks"), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", c.name, diff)
				}
				if l, told := got.Looks["Trento"]; told != (c.name == "all" || c.name == "of another") || told && (!l.LookedAt.Equal(at) || !l.SeenAt.Equal(at) || l.Duration != time.Second || l.Due.IsZero()) {
					t.Errorf("%s: the look at Trento is %+v", c.name, l)
				}
			}
		})
	}
}
