package storetest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

var frodo = flavor.Actor{
	Provider: "keyrock", ID: "frodo", Name: "Frodo \xff", Address: "2001:db8::1", RequestID: "req-1", Action: flavor.ChangeFlavor,
}

// in is a change in frodo's name.
func in(t *testing.T, s *store.Store, a flavor.Actor, fn func(*store.Tx) error) error {
	t.Helper()
	return s.Write(flavor.WithActor(t.Context(), a), fn)
}

func lines(t *testing.T, s *store.Store, f flavor.AuditFilter) (entries []flavor.AuditEntry) {
	t.Helper()
	if f.Limit == 0 {
		f.Limit = 1000
	}
	read(t, s, func(tx *store.Tx) (err error) {
		entries, err = tx.AuditEntries(f)
		return err
	})
	return entries
}

// audit: every change in somebody's name has a line with what was and what is, in
// its own transaction; what changes nothing, what is rolled back and what is done
// in nobody's name has none; and no line has a password.
func audit(t *testing.T, s *store.Store) {
	f, r := Flavor("f"), Region("Trento")
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertRegion(Region("Silent")), tx.InsertFlavor(Flavor("silent")))
	})
	if got := lines(t, s, flavor.AuditFilter{}); len(got) != 0 {
		t.Fatalf("what nobody did is audited: %+v", got)
	}
	changed := f
	changed.RAM, changed.Promoted, changed.ExtraSpecs = f.RAM+1, !f.Promoted, maps.Clone(f.ExtraSpecs)
	delete(changed.ExtraSpecs, "K")
	secret := r
	secret.Password, secret.Username = "another s3cret", "another"
	node := flavor.Installation{FlavorID: f.ID, Region: "Trento", NodeID: "n", Created: true}
	product := flavor.Product{FlavorID: f.ID, Price: new(flavor.Amount(1_500_000)), Category: "c"}
	for _, step := range []func(*store.Tx) error{
		func(tx *store.Tx) error { return tx.InsertRegion(r) },
		func(tx *store.Tx) error { return tx.InsertFlavor(f) },
		func(tx *store.Tx) error { return tx.UpdateFlavor(changed) },
		func(tx *store.Tx) error { return tx.UpdateFlavor(changed) }, // no change
		func(tx *store.Tx) error { return tx.PutInstallation(node) },
		func(tx *store.Tx) error { return tx.PutInstallation(node) }, // no change
		func(tx *store.Tx) error { return tx.PutProduct(product) },
		func(tx *store.Tx) error { return tx.UpdateRegion(secret) },
		func(tx *store.Tx) error {
			return tx.SetRegionStatus("Trento", flavor.RegionStatus{State: flavor.RegionUp})
		}, // an observation
		func(tx *store.Tx) error { return tx.DeleteInstallation(f.ID, "Trento") },
		func(tx *store.Tx) error { return tx.DeleteInstallation(f.ID, "Trento") }, // no change
		func(tx *store.Tx) error { return tx.PutInstallation(node) },
		func(tx *store.Tx) error { return tx.DeleteFlavor(f.ID) },
		func(tx *store.Tx) error { return tx.DeleteRegion("Trento") },
	} {
		if err := in(t, s, frodo, step); err != nil {
			t.Fatal(err)
		}
	}
	undone := errors.New("no")
	if err := in(t, s, frodo, func(tx *store.Tx) error { return cmp.Or(tx.InsertFlavor(f), undone) }); !errors.Is(err, undone) {
		t.Fatal(err)
	}
	got := lines(t, s, flavor.AuditFilter{})
	slices.Reverse(got)
	var told []string
	for _, e := range got {
		if e.ID == "" || e.At.IsZero() || e.Outcome != flavor.Success || e.Count != 1 {
			t.Errorf("%+v", e)
		}
		by := frodo
		by.Name = "Frodo \uFFFD"
		same(t, "who", e.By, by)
		for _, side := range []map[string]string{e.Before, e.After} {
			for field, value := range side {
				if strings.Contains(value, "s3cret") || field == "password" && !strings.HasPrefix(value, "***") {
					t.Errorf("%s is %q", field, value)
				}
			}
		}
		what := string(e.Object) + " " + e.Region
		switch {
		case e.Before == nil:
			what += " came"
		case e.After == nil:
			what += " went"
		default:
			what += " changed"
		}
		told = append(told, what)
	}
	same(t, "the lines", told, []string{
		"infrastructure Trento came", "flavor  came", "flavor  changed", "node Trento came", "product  came", "infrastructure Trento changed",
		"node Trento went", "node Trento came", "node Trento went", "product  went", "flavor  went", "infrastructure Trento went",
	})
	same(t, "before", got[2].Before, map[string]string{"ram": "4096", "promoted": "true", "extra_specs.K": "'\\"})
	same(t, "after", got[2].After, map[string]string{"ram": "4097", "promoted": "false", "extra_specs.K": ""})
	same(t, "a new password", got[5].After, map[string]string{"username": "another", "password": "*** (new)"})
	same(t, "the node", got[3].After, map[string]string{"id": "n", "created": "true"})
	if got[1].Flavor != f.ID || got[1].After["extra_specs.hw:cpu_policy"] != "dedicated" || got[11].Before["keystone_url"] != r.KeystoneURL {
		t.Errorf("%+v, %+v", got[1], got[11])
	}
}

// auditFilters: filters, pages and the end of old lines.
func auditFilters(t *testing.T, s *store.Store) {
	sam := flavor.Actor{Provider: "accounts", ID: "Sam", Name: "Sam", RequestID: "req-2", Action: flavor.DeleteFlavor}
	long := strings.Repeat("大", 5000)
	for i := range 10 {
		e := flavor.AuditEntry{By: frodo, Object: flavor.AuditedCall, Outcome: flavor.Refused, Region: "Trento", Flavor: "f", Message: long, Count: i}
		if i%2 == 0 {
			e = flavor.AuditEntry{By: sam, Object: flavor.AuditedNode, Outcome: flavor.Success, Region: "Spain2", Flavor: "F"}
		}
		write(t, s, func(tx *store.Tx) error { return tx.Audit(e) })
	}
	all := lines(t, s, flavor.AuditFilter{})
	if len(all) != 10 || !slices.IsSortedFunc(all, func(a, b flavor.AuditEntry) int { return strings.Compare(b.ID, a.ID) }) {
		t.Fatalf("%d lines, or not the latest first", len(all))
	}
	if n := len([]rune(all[0].Message)); n != 4000 || all[0].Count != 9 || all[2].Count != 7 {
		t.Errorf("%d characters of the message, counts %d and %d", n, all[0].Count, all[2].Count)
	}
	for _, c := range []struct {
		f    flavor.AuditFilter
		want int
	}{
		{flavor.AuditFilter{Provider: "keyrock"}, 5}, {flavor.AuditFilter{Caller: "Sam"}, 5}, {flavor.AuditFilter{Caller: "sam"}, 0},
		{flavor.AuditFilter{RequestID: "req-2"}, 5}, {flavor.AuditFilter{Action: flavor.ChangeFlavor}, 5}, {flavor.AuditFilter{Object: flavor.AuditedNode}, 5},
		{flavor.AuditFilter{Flavor: "f"}, 5}, {flavor.AuditFilter{Flavor: "F", Region: "Trento"}, 0}, {flavor.AuditFilter{Outcome: flavor.Refused}, 5},
		{flavor.AuditFilter{Since: all[9].At}, 10}, {flavor.AuditFilter{Since: all[0].At.Add(time.Second)}, 0},
		{flavor.AuditFilter{Until: all[9].At}, 0}, {flavor.AuditFilter{Until: all[0].At.Add(time.Microsecond)}, 10},
		{flavor.AuditFilter{Behind: all[3].ID}, 6}, {flavor.AuditFilter{Behind: all[9].ID}, 0}, {flavor.AuditFilter{Limit: 3}, 3},
		{flavor.AuditFilter{Behind: all[3].ID, Provider: "keyrock", Limit: 2}, 2},
	} {
		if got := lines(t, s, c.f); len(got) != c.want {
			t.Errorf("%+v: %d lines, not %d", c.f, len(got), c.want)
		}
	}
	drop := func(then time.Time, limit int) (gone int) {
		write(t, s, func(tx *store.Tx) (err error) {
			gone, err = tx.DropAudit(then, limit)
			return err
		})
		return gone
	}
	if drop(all[9].At, 100) != 0 || drop(all[0].At.Add(time.Second), 4) != 4 || len(lines(t, s, flavor.AuditFilter{})) != 6 {
		t.Error("not the old lines are dropped, or more than were to go")
	}
	if got := lines(t, s, flavor.AuditFilter{}); got[5].ID != all[5].ID {
		t.Error("the latest lines went first")
	}
	// Who has gone away is written down all the same, by whoever does it.
	ctx, cancel := context.WithCancel(flavor.WithActor(t.Context(), frodo))
	cancel()
	if flavor.HasActed(ctx) {
		t.Error("something was done before anything was")
	}
	if err := s.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.InsertFlavor(Flavor("late")) }); err != nil || !flavor.HasActed(ctx) {
		t.Errorf("%v, or nothing was done", err)
	}
}
