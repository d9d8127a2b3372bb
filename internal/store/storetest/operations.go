package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// looks: each due look is one process's, what a look found is noted only where
// nothing newer was, and the inventory is seen at once by whoever wrote it.
func looks(t *testing.T, s *store.Store) {
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertRegion(Region("Trento")), tx.InsertRegion(Region("Spain2")))
	})
	var mu sync.Mutex
	taken := map[string]int{}
	var wg sync.WaitGroup
	for range crowd / 10 {
		wg.Go(func() {
			claimed, err := s.ClaimLooks(t.Context(), 10, time.Minute)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, l := range claimed {
				taken[l.Region]++
			}
		})
	}
	wg.Wait()
	if len(taken) != 2 || taken["Trento"] != 1 || taken["Spain2"] != 1 {
		t.Fatalf("the looks were taken %v times", taken)
	}
	look := func() (l flavor.Look) {
		read(t, s, func(tx *store.Tx) (err error) { l, err = tx.Look("Trento"); return err })
		return l
	}
	note := func(l flavor.Look) (noted bool) {
		l.LookedAt, l.Duration = time.Now(), 3*time.Second
		write(t, s, func(tx *store.Tx) (err error) {
			if noted, err = tx.NoteLook(l, time.Hour, false); err != nil || !noted {
				return err
			}
			return tx.PutInventory("Trento", []flavor.SeenFlavor{{NovaFlavor: flavor.NovaFlavor{ID: "a", Spec: Flavor("a").Spec}, Access: []string{"p"}}})
		})
		return noted
	}
	older := look()
	if !note(older) || note(older) {
		t.Error("a look is noted once: what is older than the last one is not")
	}
	older = look()
	write(t, s, func(tx *store.Tx) error { return tx.Outdate("Trento", 0) })
	if note(older) {
		t.Error("a look that began before we wrote there is noted")
	}
	inventory := func() *flavor.Look {
		inv, err := s.Inventory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return inv.Of("Trento")
	}
	if l := inventory(); len(l.Flavors) != 1 || l.Flavors[0].Name != "a" || !slices.Equal(l.Flavors[0].Access, []string{"p"}) || l.SeenAt.IsZero() || l.Duration != 3*time.Second {
		t.Errorf("%+v", l)
	}
	write(t, s, func(tx *store.Tx) error {
		_, err := tx.PatchInventory("Trento", []flavor.NovaFlavor{{ID: "b", Spec: Flavor("b").Spec}}, []string{"a"})
		return err
	})
	if l := inventory(); len(l.Flavors) != 1 || l.Flavors[0].Name != "b" {
		t.Errorf("%+v", l.Flavors)
	}
	failed := look()
	failed.LookedAt, failed.Error = time.Now().Add(time.Minute), "it is down \xff"
	seen := failed.SeenAt
	write(t, s, func(tx *store.Tx) error { _, err := tx.NoteLook(failed, time.Second, true); return err })
	if l := look(); !l.SeenAt.Equal(seen) || !l.LookedAt.After(seen) || l.Error == "" {
		t.Errorf("a look that failed: %+v", l)
	}
	write(t, s, func(tx *store.Tx) error { return tx.DeleteRegion("Trento") })
	if inventory() != nil {
		t.Error("a region that is gone is seen still")
	}
}

// operations: each node is one process's at a time, and whoever was too slow writes
// nothing; the operation's state is that of its nodes.
func operations(t *testing.T, s *store.Store) {
	f := Flavor("f")
	o := flavor.Operation{Kind: flavor.Install, Origin: flavor.Asked, FlavorID: f.ID, Name: "f", Provider: "p", Caller: "c"}
	for i := range 5 {
		o.Nodes = append(o.Nodes, flavor.OperationNode{Region: fmt.Sprint("R", i), State: flavor.Waiting})
	}
	o.Nodes[4].State, o.Nodes[4].Attempts = flavor.Running, 1
	write(t, s, func(tx *store.Tx) (err error) {
		o.ID = ""
		o, err = tx.InsertOperation(o, time.Hour)
		return err
	})
	due := func(except ...string) []store.Due {
		all, err := s.DueNodes(t.Context(), 10, except)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if all := due("R1"); len(all) != 3 || slices.ContainsFunc(all, func(d store.Due) bool { return d.Node.Region == "R4" || d.Operation.ID != o.ID }) {
		t.Fatalf("due: %+v", all)
	}
	first := due()[0]
	var winners atomic.Int32
	var wg sync.WaitGroup
	for range crowd / 5 {
		wg.Go(func() {
			mine := first
			switch taken, err := s.TakeNode(t.Context(), &mine, 0); {
			case err != nil:
				t.Error(err)
			case taken:
				winners.Add(1)
			}
		})
	}
	wg.Wait()
	if winners.Load() != 1 {
		t.Fatalf("%d took one node", winners.Load())
	}
	end := func(n flavor.OperationNode, state flavor.OperationState) (mine bool) {
		n.State = state
		write(t, s, func(tx *store.Tx) (err error) { mine, err = tx.EndNode(o.ID, n, time.Hour); return err })
		return mine
	}
	slow := first.Node
	slow.Attempts = 1
	again := due()[0] // the winner's time was over at once
	if again.Node.Region != slow.Region {
		again = due()[len(due())-1]
	}
	if taken, err := s.TakeNode(t.Context(), &again, time.Hour); err != nil || !taken || again.Node.Attempts != 2 {
		t.Fatalf("%v, %v, %+v", taken, err, again)
	}
	if end(slow, flavor.Succeeded) || !end(again.Node, flavor.Succeeded) || end(again.Node, flavor.Failed) {
		t.Error("only the last to take a node writes what came of it, once")
	}
	state := func() (got flavor.Operation) {
		read(t, s, func(tx *store.Tx) (err error) { got, err = tx.Operation(o.ID); return err })
		return got
	}
	before := state()
	write(t, s, func(tx *store.Tx) error { return tx.CancelOperation(o.ID, []string{"R0", "R1", "R2", "R3", "R4"}) })
	after := state()
	for _, n := range after.Nodes {
		want := flavor.Cancelled
		switch n.Region {
		case slow.Region:
			want = flavor.Succeeded
		case "R4":
			want = flavor.Running
		}
		if n.State != want {
			t.Errorf("%s is %s, not %s", n.Region, n.State, want)
		}
	}
	if after.State != flavor.Running || after.Turn <= before.Turn {
		t.Errorf("%+v", after)
	}
	if !end(flavor.OperationNode{Region: "R4", Attempts: 1}, flavor.Waiting) || len(due()) != 0 {
		t.Errorf("due: %+v", due())
	}
	write(t, s, func(tx *store.Tx) error { _, err := tx.ReleaseNodes("R4"); return err })
	if all := due(); len(all) != 1 {
		t.Fatalf("due: %+v", all)
	}
	last := due()[0]
	if taken, err := s.TakeNode(t.Context(), &last, time.Hour); err != nil || !taken || !end(last.Node, flavor.Failed) {
		t.Error(taken, err)
	}
	if got := state(); got.State != flavor.Failed {
		t.Errorf("it is %s", got.State)
	}
	var dropped int
	write(t, s, func(tx *store.Tx) (err error) {
		dropped, err = tx.DropOperations(time.Now().Add(time.Minute), 10)
		return err
	})
	refuses(t, s, flavor.CodeNotFound, o.ID, func(tx *store.Tx) error { _, err := tx.Operation(o.ID); return err })
	if dropped != 1 {
		t.Errorf("%d were dropped", dropped)
	}
}

// wishes of the policy: one operation for each flavor and reason, however many
// processes find the same lacking.
func wishes(t *testing.T, s *store.Store) {
	f := Flavor("f")
	write(t, s, func(tx *store.Tx) error { return errors.Join(tx.InsertRegion(Region("Trento")), tx.InsertFlavor(f)) })
	want := func(region string) {
		o := flavor.Operation{Kind: flavor.Install, Origin: flavor.Automatic, FlavorID: f.ID, Name: f.Name}
		err := s.Write(t.Context(), func(tx *store.Tx) error {
			return tx.Want(o, []flavor.OperationNode{{Region: region, State: flavor.Waiting, Input: "i"}})
		})
		if err != nil {
			t.Error(err)
		}
	}
	var wg sync.WaitGroup
	for i := range crowd / 5 {
		wg.Go(func() { want([]string{"Trento", "Spain2"}[i%2]) })
	}
	wg.Wait()
	var all []flavor.Operation
	read(t, s, func(tx *store.Tx) (err error) { all, err = tx.PolicyOperations(); return err })
	if len(all) != 1 || len(all[0].Nodes) != 2 || all[0].State != flavor.Running {
		t.Fatalf("%+v", all)
	}
	write(t, s, func(tx *store.Tx) error {
		return tx.PutRefusal(flavor.Refusal{FlavorID: f.ID, Region: "Trento", Caller: "p/c", At: time.Now()})
	})
	read(t, s, func(tx *store.Tx) (err error) { all, err = tx.PolicyOperations(); return err })
	for _, n := range all[0].Nodes {
		if n.Region == "Trento" && n.State != flavor.Cancelled {
			t.Errorf("what is refused is wanted still: %+v", n)
		}
	}
	cat, err := s.Catalogue(t.Context())
	if err != nil || !cat.Refuses(f.ID, "Trento") || cat.Refuses(f.ID, "Spain2") {
		t.Errorf("%+v, %v", cat.Refusals, err)
	}
	write(t, s, func(tx *store.Tx) error { return tx.DropRefusal(f.ID, "Trento") })
	if cat, err := s.Catalogue(t.Context()); err != nil || cat.Refuses(f.ID, "Trento") {
		t.Errorf("%+v, %v", cat.Refusals, err)
	}
}

// drift: a node that was altered is none until it is as it was.
func drift(t *testing.T, s *store.Store) {
	f := Flavor("f")
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertRegion(Region("Trento")), tx.InsertRegion(Region("Spain2")), tx.InsertFlavor(f),
			tx.PutInstallation(flavor.Installation{FlavorID: f.ID, Region: "Trento", NodeID: "n"}),
			tx.PutInstallation(flavor.Installation{FlavorID: f.ID, Region: "Spain2", NodeID: "n"}))
	})
	nodes := func() []string {
		cat, err := s.Catalogue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		known, _ := cat.ByID(f.ID)
		var stored flavor.Flavor
		read(t, s, func(tx *store.Tx) (err error) { stored, err = tx.Flavor(f.ID); return err })
		if !slices.Equal(known.Nodes, stored.Nodes) {
			t.Errorf("the catalogue has the nodes %v, the row %v", known.Nodes, stored.Nodes)
		}
		return known.Nodes
	}
	altered := flavor.Drift{FlavorID: f.ID, Region: "Trento", Kind: flavor.Differs, NodeID: "n", Created: true, FoundAt: time.Now()}
	write(t, s, func(tx *store.Tx) error { return tx.PutDrift(altered) })
	if got := nodes(); !slices.Equal(got, []string{"Spain2"}) {
		t.Errorf("nodes: %v", got)
	}
	gone := altered
	gone.Kind = flavor.Missing
	write(t, s, func(tx *store.Tx) error { return errors.Join(tx.DeleteInstallation(f.ID, "Trento"), tx.PutDrift(gone)) })
	cat, err := s.Catalogue(t.Context())
	if d, drifted := cat.DriftIn(f.ID, "Trento"); err != nil || !drifted || d.Kind != flavor.Missing || !d.Created {
		t.Errorf("%+v, %v", cat.Drift, err)
	}
	write(t, s, func(tx *store.Tx) error {
		was, err := tx.DropDrift(f.ID, "Trento")
		if !was {
			t.Error("there was none")
		}
		return err
	})
	write(t, s, func(tx *store.Tx) error { return tx.PutDrift(altered) })
	write(t, s, func(tx *store.Tx) error { return tx.DeleteFlavor(f.ID) })
	write(t, s, func(tx *store.Tx) error { return tx.PutDrift(altered) }) // gone meanwhile: no error, and nothing
	if cat, err := s.Catalogue(t.Context()); err != nil || len(cat.Drift) > 0 {
		t.Errorf("%+v, %v", cat.Drift, err)
	}
}
