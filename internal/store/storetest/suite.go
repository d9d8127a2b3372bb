package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// Run holds a database against the contract of package store. open gives each
// part an empty, migrated store of its own.
func Run(t *testing.T, open func(t *testing.T) *store.Store) {
	for _, part := range []struct {
		name string
		test func(*testing.T, *store.Store)
	}{
		{"Regions", regions}, {"RegionNames", regionNames}, {"Flavors", flavors}, {"FlavorConflicts", flavorConflicts},
		{"Installations", installations}, {"Cascades", cascades}, {"Changes", changes}, {"ClaimChange", claimChange},
		{"Rollback", rollback}, {"ReadOnly", readOnly}, {"Snapshot", snapshot}, {"Catalogue", catalogue},
		{"LostUpdates", lostUpdates}, {"LostRows", lostRows}, {"OneOfManyWins", oneOfManyWins}, {"Deadlocks", deadlocks},
		{"NoGuestInAnEmptyHouse", guests}, {"CatalogueUnderWrites", catalogueUnderWrites}, {"Cancelled", cancelled},
		{"Products", products}, {"Pushes", pushes}, {"Audit", audit}, {"AuditFilters", auditFilters}, {"Leases", leases}, {"OneLeaseOfMany", oneLeaseOfMany},
		{"Looks", looks}, {"Operations", operations}, {"Wishes", wishes}, {"Drift", drift},
		{"Events", events}, {"EventFields", eventFields}, {"EventsInOrder", eventsInOrder}, {"OldEvents", oldEvents}, {"Webhooks", webhooks},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, open(t)) })
	}
}

// crowd is how many goroutines the concurrent parts use.
const crowd = 100

// Region is a valid region of that name.
func Region(name string) flavor.Region {
	return flavor.Region{
		Name: name, KeystoneURL: "https://" + strings.ToLower(name) + ".example.org:5000/v3", NovaURL: "https://nova.example.org",
		AuthType: flavor.AuthPassword, Username: "flavorsync", Password: "s3cret of " + flavor.Secret(name), Tenant: "admin", UserDomain: "Default", ProjectDomain: "Späth",
		Trusted: true, NovaURLTrusted: true, Status: flavor.RegionStatus{State: flavor.RegionUnknown},
	}
}

// Flavor is a valid flavor of the catalogue with that name and a new id.
func Flavor(name string) flavor.Flavor {
	return flavor.Flavor{
		ID: uuid.NewString(), Public: true, Promoted: true, Nodes: []string{},
		Spec: flavor.Spec{
			Name: name, VCPUs: 2, RAM: 4096, Disk: 40, Swap: 512, Ephemeral: 10, RxTxFactor: 1.5,
			Description: "Für 大 und klein <&>\n\"'\\", ExtraSpecs: map[string]string{"hw:cpu_policy": "dedicated", "k": "", "K": "'\\"},
		},
	}
}

func write(t *testing.T, s *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := s.Write(t.Context(), fn); err != nil {
		t.Fatalf("Write: %v", err)
	}
}

func read(t *testing.T, s *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := s.Read(t.Context(), fn); err != nil {
		t.Fatalf("Read: %v", err)
	}
}

// refuses wants s.Write(fn) to fail with that code, and to say those words.
func refuses(t *testing.T, s *store.Store, code flavor.Code, words string, fn func(*store.Tx) error) {
	t.Helper()
	err := s.Write(t.Context(), fn)
	if flavor.CodeOf(err) != code || !strings.Contains(err.Error(), words) {
		t.Errorf("Write = %v, wanted code %s and %q", err, code, words)
	}
}

func same(t *testing.T, what string, got, wanted any) {
	t.Helper()
	if diff := cmp.Diff(wanted, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-wanted +got):\n%s", what, diff)
	}
}

// together runs fn side by side, once for each member of the crowd.
func together(t *testing.T, fn func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	start := make(chan struct{})
	errs := make([]error, crowd)
	for i := range crowd {
		wg.Go(func() {
			<-start
			errs[i] = fn(i)
		})
	}
	close(start)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("of %d side by side: %v", crowd, err)
	}
}

func regions(t *testing.T, s *store.Store) {
	trento, spain := Region("Trento"), Region("Spain2")
	spain.NovaURL, spain.Trusted = "", false
	write(t, s, func(tx *store.Tx) error { return errors.Join(tx.InsertRegion(trento), tx.InsertRegion(spain)) })
	read(t, s, func(tx *store.Tx) error {
		all, err := tx.Regions()
		same(t, "Regions", all, []flavor.Region{spain, trento})
		return err
	})

	trento.Status = flavor.RegionStatus{State: flavor.RegionUnreachable, LastError: "no route \xff to host", CheckedAt: time.Date(2026, 2, 3, 4, 5, 6, 789123456, time.FixedZone("", 3600))}
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.SetRegionStatus("Trento", trento.Status), tx.SetRegionStatus("Mordor", trento.Status))
	})
	trento.Status.LastError = "no route \uFFFD to host"
	trento.Status.CheckedAt = time.Date(2026, 2, 3, 3, 5, 6, 789123000, time.UTC)

	changed := trento
	changed.KeystoneURL, changed.NovaURL, changed.Username, changed.Password = "http://a", "", "b", "c"
	changed.Tenant, changed.UserDomain, changed.ProjectDomain, changed.Trusted, changed.NovaURLTrusted = "d", "e", "f", false, false
	changed.Status = flavor.RegionStatus{State: flavor.RegionUp}
	changed.AuthType, changed.ApplicationCredentialID, changed.ApplicationCredentialName = flavor.AuthOIDCAccessToken, "g", "h"
	changed.IdentityProvider, changed.Protocol = "i", "j"
	// As long as they may be.
	changed.Password = flavor.Secret(strings.Repeat("t", 16<<10))
	changed.CACertificate, changed.CACertificateTrusted = strings.Repeat("c", 64<<10), true
	for range 2 { // the second changes nothing, and is no "not found"
		write(t, s, func(tx *store.Tx) error { return tx.UpdateRegion(changed) })
	}
	changed.Status = trento.Status
	read(t, s, func(tx *store.Tx) error {
		got, err := tx.Region("Trento")
		same(t, "an updated region, its status as it was", got, changed)
		return err
	})

	for _, name := range []string{"Mordor", "trento", "Trento ", ""} {
		refuses(t, s, flavor.CodeNotFound, "no region", func(tx *store.Tx) error { _, err := tx.Region(name); return err })
	}
	refuses(t, s, flavor.CodeNotFound, "Mordor", func(tx *store.Tx) error { return tx.UpdateRegion(Region("Mordor")) })
	refuses(t, s, flavor.CodeNotFound, "Mordor", func(tx *store.Tx) error { return tx.DeleteRegion("Mordor") })
	write(t, s, func(tx *store.Tx) error { return tx.DeleteRegion("Trento") })
	refuses(t, s, flavor.CodeNotFound, "Trento", func(tx *store.Tx) error { return tx.DeleteRegion("Trento") })
}

func regionNames(t *testing.T, s *store.Store) {
	write(t, s, func(tx *store.Tx) error { return tx.InsertRegion(Region("Trento")) })
	refuses(t, s, flavor.CodeConflict, "there is a region Trento already", func(tx *store.Tx) error { return tx.InsertRegion(Region("Trento")) })
	refuses(t, s, flavor.CodeConflict, "differs from Trento in case only", func(tx *store.Tx) error { return tx.InsertRegion(Region("TRENTO")) })
	write(t, s, func(tx *store.Tx) error { return tx.InsertRegion(Region("Trento2")) })
}

func flavors(t *testing.T, s *store.Store) {
	// Names that only case, an accent or the length tells apart are different names.
	all := []flavor.Flavor{Flavor("small"), Flavor("Small"), Flavor("smáll"), Flavor("smalls"), Flavor(strings.Repeat("大", 255))}
	all[1].ExtraSpecs, all[1].Promoted, all[2].Retired = nil, false, true
	all[3].Description = strings.Repeat("大", 65535)
	all[3].VCPUs, all[3].RAM, all[3].Disk, all[3].RxTxFactor = flavor.MaxNumber, flavor.MaxNumber, 0, 1e-30
	write(t, s, func(tx *store.Tx) error {
		for _, f := range all {
			if err := tx.InsertFlavor(f); err != nil {
				return err
			}
		}
		return nil
	})
	ordered := slices.SortedFunc(slices.Values(all), flavor.Compare)
	read(t, s, func(tx *store.Tx) error {
		got, err := tx.Flavors()
		same(t, "Flavors", got, ordered)
		return err
	})
	for _, f := range all {
		read(t, s, func(tx *store.Tx) error {
			byID, err1 := tx.Flavor(f.ID)
			byName, err2 := tx.FlavorByName(f.Name)
			same(t, "Flavor", byID, f)
			same(t, "FlavorByName", byName, f)
			return errors.Join(err1, err2)
		})
	}

	f := all[0]
	f.Spec = flavor.Spec{Name: "other", VCPUs: 1, RAM: 1, RxTxFactor: 1}
	f.Promoted, f.Retired = false, true
	for range 2 {
		write(t, s, func(tx *store.Tx) error { return tx.UpdateFlavor(f) })
	}
	read(t, s, func(tx *store.Tx) error {
		got, err := tx.Flavor(f.ID)
		same(t, "an updated flavor", got, f)
		return err
	})
	refuses(t, s, flavor.CodeNotFound, "small", func(tx *store.Tx) error { _, err := tx.FlavorByName("small"); return err })
	refuses(t, s, flavor.CodeNotFound, "Small ", func(tx *store.Tx) error { _, err := tx.FlavorByName("Small "); return err })
	refuses(t, s, flavor.CodeNotFound, "no flavor", func(tx *store.Tx) error { return tx.UpdateFlavor(Flavor("x")) })
	write(t, s, func(tx *store.Tx) error { return tx.DeleteFlavor(f.ID) })
	refuses(t, s, flavor.CodeNotFound, f.ID, func(tx *store.Tx) error { return tx.DeleteFlavor(f.ID) })
	refuses(t, s, flavor.CodeNotFound, f.ID, func(tx *store.Tx) error { _, err := tx.Flavor(f.ID); return err })
}

func flavorConflicts(t *testing.T, s *store.Store) {
	small, big := Flavor("small"), Flavor("big")
	write(t, s, func(tx *store.Tx) error { return errors.Join(tx.InsertFlavor(small), tx.InsertFlavor(big)) })
	twin := Flavor("twin")
	twin.ID = small.ID
	refuses(t, s, flavor.CodeConflict, "the id "+small.ID+" is taken", func(tx *store.Tx) error { return tx.InsertFlavor(twin) })
	refuses(t, s, flavor.CodeConflict, `the name "small" is taken`, func(tx *store.Tx) error { return tx.InsertFlavor(Flavor("small")) })
	refuses(t, s, flavor.CodeConflict, `the name "small" is taken`, func(tx *store.Tx) error {
		f := big
		f.Name = "small"
		return tx.UpdateFlavor(f)
	})
	// A closure may go on after a conflict.
	other := Flavor("other")
	write(t, s, func(tx *store.Tx) error {
		if err := tx.InsertFlavor(Flavor("small")); flavor.CodeOf(err) != flavor.CodeConflict {
			return fmt.Errorf("a taken name: %w", err)
		}
		return tx.InsertFlavor(other)
	})
	read(t, s, func(tx *store.Tx) error { _, err := tx.Flavor(other.ID); return err })
}

func installations(t *testing.T, s *store.Store) {
	f, g := Flavor("f"), Flavor("g")
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertRegion(Region("A")), tx.InsertRegion(Region("b")), tx.InsertFlavor(f), tx.InsertFlavor(g))
	})
	in := func(f flavor.Flavor, region, node string) flavor.Installation {
		return flavor.Installation{FlavorID: f.ID, Region: region, NodeID: node}
	}
	fb, fa, ga := in(f, "b", "1"), in(f, "A", f.ID), in(g, "A", "2")
	for range 2 {
		write(t, s, func(tx *store.Tx) error {
			return errors.Join(tx.PutInstallation(fb), tx.PutInstallation(fa), tx.PutInstallation(ga))
		})
	}
	fb.NodeID, fb.Created = "other", true
	write(t, s, func(tx *store.Tx) error { return tx.PutInstallation(fb) })
	read(t, s, func(tx *store.Tx) error {
		of, err1 := tx.Installations(f.ID)
		at, err2 := tx.InstallationsIn("A")
		got, err3 := tx.Flavor(f.ID)
		same(t, "Installations", of, []flavor.Installation{fa, fb})
		wanted := []flavor.Installation{fa, ga}
		slices.SortFunc(wanted, func(a, b flavor.Installation) int { return strings.Compare(a.FlavorID, b.FlavorID) })
		same(t, "InstallationsIn", at, wanted)
		same(t, "Nodes", got.Nodes, []string{"A", "b"})
		return errors.Join(err1, err2, err3)
	})
	refuses(t, s, flavor.CodeNotFound, "no region", func(tx *store.Tx) error { return tx.PutInstallation(in(f, "a", "1")) })
	refuses(t, s, flavor.CodeNotFound, "no flavor", func(tx *store.Tx) error { return tx.PutInstallation(in(Flavor("x"), "A", "1")) })
	for range 2 { // the second finds nothing, and that is fine
		write(t, s, func(tx *store.Tx) error { return tx.DeleteInstallation(f.ID, "b") })
	}
	read(t, s, func(tx *store.Tx) error {
		got, err := tx.Flavor(f.ID)
		same(t, "Nodes", got.Nodes, []string{"A"})
		return err
	})
}

func cascades(t *testing.T, s *store.Store) {
	f, g := Flavor("f"), Flavor("g")
	write(t, s, func(tx *store.Tx) error {
		if err := errors.Join(tx.InsertRegion(Region("A")), tx.InsertRegion(Region("B")), tx.InsertFlavor(f), tx.InsertFlavor(g)); err != nil {
			return err
		}
		for _, i := range []flavor.Installation{
			{FlavorID: f.ID, Region: "A", NodeID: "1"}, {FlavorID: f.ID, Region: "B", NodeID: "1", Created: true},
			{FlavorID: g.ID, Region: "A", NodeID: "2"},
		} {
			if err := tx.PutInstallation(i); err != nil {
				return err
			}
		}
		_, err := tx.InsertChange(store.Change{Region: "A", FlavorID: "1"})
		return err
	})
	write(t, s, func(tx *store.Tx) error { return tx.DeleteRegion("A") })
	read(t, s, func(tx *store.Tx) error {
		of, err1 := tx.Installations(f.ID)
		cs, err2 := tx.Changes()
		same(t, "installations after their region went", of, []flavor.Installation{{FlavorID: f.ID, Region: "B", NodeID: "1", Created: true}})
		same(t, "changes after their region went", cs, []store.Change{})
		return errors.Join(err1, err2)
	})
	write(t, s, func(tx *store.Tx) error { return tx.DeleteFlavor(f.ID) })
	read(t, s, func(tx *store.Tx) error {
		at, err := tx.InstallationsIn("B")
		same(t, "installations after their flavor went", at, []flavor.Installation{})
		return err
	})
	cat, err := s.Catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the snapshot after both went", cat.Flavors, []flavor.Flavor{g})
}

func changes(t *testing.T, s *store.Store) {
	write(t, s, func(tx *store.Tx) error { return tx.InsertRegion(Region("A")) })
	at := time.Date(2026, 5, 6, 7, 8, 9, 123456789, time.FixedZone("", -7200))
	wanted := store.Change{
		Region: "A", FlavorID: "1", TempID: "tmp-1", Owner: "me", Until: at, CreatedAt: at,
		Old: flavor.NovaFlavor{ID: "1", Spec: Flavor("old").Spec, IsPublic: true}, New: flavor.NovaFlavor{ID: "1", Spec: Flavor("new").Spec},
		Access: []string{"p1", "p2"},
	}
	var stored store.Change
	write(t, s, func(tx *store.Tx) (err error) { stored, err = tx.InsertChange(wanted); return err })
	wanted.ID = stored.ID
	wanted.Until, wanted.CreatedAt = at.UTC().Truncate(time.Microsecond), at.UTC().Truncate(time.Microsecond)
	same(t, "InsertChange", stored, wanted)
	if !flavor.IsUUID(stored.ID) {
		t.Errorf("a change got the id %q", stored.ID)
	}
	refuses(t, s, flavor.CodeConflict, "being changed", func(tx *store.Tx) error {
		_, err := tx.InsertChange(store.Change{Region: "A", FlavorID: "1"})
		return err
	})
	refuses(t, s, flavor.CodeNotFound, "no region", func(tx *store.Tx) error {
		_, err := tx.InsertChange(store.Change{Region: "B", FlavorID: "1"})
		return err
	})
	wanted.Until = wanted.Until.Add(time.Hour)
	write(t, s, func(tx *store.Tx) error { return tx.TouchChange(stored.ID, wanted.Until) })
	read(t, s, func(tx *store.Tx) error {
		got, err := tx.Changes()
		same(t, "Changes", got, []store.Change{wanted})
		return err
	})
	for range 2 {
		write(t, s, func(tx *store.Tx) error { return tx.DeleteChange(stored.ID) })
	}
	refuses(t, s, flavor.CodeNotFound, "gone", func(tx *store.Tx) error { return tx.TouchChange(stored.ID, at) })
}

func claimChange(t *testing.T, s *store.Store) {
	deadline := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC) // no fraction: how times are compared as text matters
	var c store.Change
	write(t, s, func(tx *store.Tx) (err error) {
		if err := tx.InsertRegion(Region("A")); err != nil {
			return err
		}
		c, err = tx.InsertChange(store.Change{Region: "A", FlavorID: "1", Owner: "a", Until: deadline})
		return err
	})
	claim := func(id, owner string, now, until time.Time) (ok bool) {
		write(t, s, func(tx *store.Tx) (err error) { ok, err = tx.ClaimChange(id, owner, now, until); return err })
		return ok
	}
	for _, step := range []struct {
		what, owner string
		now, until  time.Time
		wanted      bool
	}{
		{"a microsecond too early", "b", deadline.Add(-time.Microsecond), deadline.Add(time.Hour), false},
		{"the owner himself", "a", deadline.Add(-time.Hour), deadline.Add(500 * time.Millisecond), true},
		{"at his old deadline", "b", deadline, deadline.Add(time.Hour), false},
		{"at his new one", "b", deadline.Add(500 * time.Millisecond), deadline.Add(time.Hour), true},
		{"the old owner", "a", deadline.Add(time.Second), deadline.Add(2 * time.Hour), false},
		{"in another zone", "a", deadline.Add(time.Hour).In(time.FixedZone("", -3600)), deadline.Add(2 * time.Hour), true},
	} {
		if got := claim(c.ID, step.owner, step.now, step.until); got != step.wanted {
			t.Errorf("ClaimChange %s = %v, wanted %v", step.what, got, step.wanted)
		}
	}
	if claim(uuid.NewString(), "a", deadline, deadline) {
		t.Error("ClaimChange of a change that is gone is true")
	}
	var mu sync.Mutex
	winners := 0
	together(t, func(i int) error {
		var ok bool
		err := s.Write(t.Context(), func(tx *store.Tx) (err error) {
			ok, err = tx.ClaimChange(c.ID, fmt.Sprint("owner ", i), deadline.Add(3*time.Hour), deadline.Add(9*time.Hour))
			return err
		})
		mu.Lock()
		defer mu.Unlock()
		if ok {
			winners++
		}
		return err
	})
	if winners != 1 {
		t.Errorf("%d of %d claimed one change at once", winners, crowd)
	}
}

func rollback(t *testing.T, s *store.Store) {
	broken := errors.New("broken")
	f := Flavor("f")
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return errors.Join(tx.InsertFlavor(f), broken) }); !errors.Is(err, broken) {
		t.Errorf("Write = %v, wanted the closure's own error", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic was swallowed")
			}
		}()
		_ = s.Write(t.Context(), func(tx *store.Tx) error {
			if err := tx.InsertFlavor(f); err != nil {
				return err
			}
			panic("broken")
		})
	}()
	read(t, s, func(tx *store.Tx) error {
		all, err := tx.Flavors()
		same(t, "the catalogue after failed writes", all, []flavor.Flavor{})
		return err
	})
	write(t, s, func(tx *store.Tx) error { return tx.InsertFlavor(f) }) // the connection is free again
}

func readOnly(t *testing.T, s *store.Store) {
	err := s.Read(t.Context(), func(tx *store.Tx) error {
		_ = tx.InsertFlavor(Flavor("f"))
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "Store.Write") {
		t.Errorf("a write inside Read = %v", err)
	}
}

func snapshot(t *testing.T, s *store.Store) {
	f, g := Flavor("f"), Flavor("g")
	write(t, s, func(tx *store.Tx) error { return tx.InsertFlavor(f) })
	read(t, s, func(tx *store.Tx) error {
		before, err := tx.Flavors()
		if err != nil {
			return err
		}
		if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertFlavor(g) }); err != nil {
			return err
		}
		after, err := tx.Flavors()
		same(t, "a read beside a write", after, before)
		return err
	})
}

func catalogue(t *testing.T, s *store.Store) {
	get := func() *store.Catalogue {
		cat, err := s.Catalogue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return cat
	}
	empty := get()
	if n := len(empty.Flavors); n != 0 {
		t.Fatalf("a new catalogue has %d flavors", n)
	}
	f, g := Flavor("f"), Flavor("a")
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertRegion(Region("A")), tx.InsertFlavor(f), tx.InsertFlavor(g),
			tx.PutInstallation(flavor.Installation{FlavorID: f.ID, Region: "A", NodeID: "1"}))
	})
	f.Nodes = []string{"A"}
	cat := get()
	if cat.Number == empty.Number {
		t.Errorf("two catalogues have the number %d", cat.Number)
	}
	same(t, "Flavors", cat.Flavors, []flavor.Flavor{g, f})
	is := []flavor.Installation{{FlavorID: f.ID, Region: "A", NodeID: "1"}}
	same(t, "Installations", cat.Installations, is)
	same(t, "Installed", cat.Installed(f.ID), is)
	same(t, "Installed nowhere", cat.Installed(g.ID), []flavor.Installation{})
	same(t, "In", cat.In("A"), is)
	byID, ok1 := cat.ByID(f.ID)
	byName, ok2 := cat.ByName("f")
	_, ok3 := cat.ByID("F")
	_, ok4 := cat.ByName("F")
	if !ok1 || !ok2 || ok3 || ok4 {
		t.Errorf("found by id %v and name %v, and what is not there %v %v", ok1, ok2, ok3, ok4)
	}
	same(t, "ByID", byID, f)
	same(t, "ByName", byName, f)
	if get() != cat {
		t.Error("the same catalogue was loaded twice")
	}
	// What changes neither flavors nor installations leaves the snapshot alone.
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.SetRegionStatus("A", flavor.RegionStatus{State: flavor.RegionUp}), tx.PutInstallation(is[0]), tx.DeleteInstallation(g.ID, "A"))
	})
	if get() != cat {
		t.Error("a write that did not touch the catalogue made it load again")
	}
}

// lostUpdates: a naive read, change and write of one row inside Write, by a
// crowd, loses nothing.
func lostUpdates(t *testing.T, s *store.Store) {
	f := Flavor("f")
	f.RAM = 1
	write(t, s, func(tx *store.Tx) error { return tx.InsertFlavor(f) })
	const each = 3
	together(t, func(i int) error {
		for n := range each {
			err := s.Write(t.Context(), func(tx *store.Tx) error {
				read := tx.Flavor
				id := f.ID
				if n == 1 {
					read, id = tx.FlavorByName, f.Name
				}
				now, err := read(id)
				if err != nil {
					return err
				}
				now.RAM++
				now.ExtraSpecs[fmt.Sprintf("by:%d-%d", i, n)] = "me"
				return tx.UpdateFlavor(now)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	read(t, s, func(tx *store.Tx) error {
		got, err := tx.Flavor(f.ID)
		if wanted := 1 + each*crowd; got.RAM != wanted {
			t.Errorf("of %d increments %d were lost", wanted-1, wanted-got.RAM)
		}
		if n := len(got.ExtraSpecs) - len(f.ExtraSpecs); n != each*crowd {
			t.Errorf("of %d extra specs %d are left", each*crowd, n)
		}
		return err
	})
}

// lostRows: everything that was answered with success is there.
func lostRows(t *testing.T, s *store.Store) {
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertRegion(Region("A")), tx.InsertRegion(Region("B")))
	})
	together(t, func(i int) error {
		f := Flavor(fmt.Sprintf("flavor %03d", i))
		return s.Write(t.Context(), func(tx *store.Tx) error {
			// Looking first, for an id and a name that are not there, is what makes
			// InnoDB's inserts deadlock at its default isolation.
			if _, err := tx.Flavor(f.ID); flavor.CodeOf(err) != flavor.CodeNotFound {
				return fmt.Errorf("flavor %d before it was made: %w", i, err)
			}
			if _, err := tx.FlavorByName(f.Name); flavor.CodeOf(err) != flavor.CodeNotFound {
				return fmt.Errorf("flavor %d before it was made: %w", i, err)
			}
			if err := tx.InsertFlavor(f); err != nil {
				return err
			}
			for _, region := range []string{"A", "B"} {
				if err := tx.PutInstallation(flavor.Installation{FlavorID: f.ID, Region: region, NodeID: f.ID}); err != nil {
					return err
				}
			}
			return nil
		})
	})
	read(t, s, func(tx *store.Tx) error {
		all, err := tx.Flavors()
		if len(all) != crowd {
			t.Errorf("of %d flavors %d are there", crowd, len(all))
		}
		for _, f := range all {
			same(t, "the nodes of "+f.Name, f.Nodes, []string{"A", "B"})
		}
		return err
	})
}

// oneOfManyWins: of many who want one name, one gets it, and the others are
// told that it is taken, not that the database was busy.
func oneOfManyWins(t *testing.T, s *store.Store) {
	var mu sync.Mutex
	codes := map[flavor.Code]int{}
	together(t, func(int) error {
		err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertFlavor(Flavor("wanted")) })
		mu.Lock()
		defer mu.Unlock()
		codes[flavor.CodeOf(err)]++
		return nil
	})
	if wanted := (map[flavor.Code]int{"": 1, flavor.CodeConflict: crowd - 1}); !maps.Equal(codes, wanted) {
		t.Errorf("%d wanted one name: %v, wanted %v", crowd, codes, wanted)
	}
}

// deadlocks: half of the crowd locks two rows in one order, half in the other.
// MariaDB kills one of each pair that meets, and Write must run it again.
func deadlocks(t *testing.T, s *store.Store) {
	a, b := Flavor("a"), Flavor("b")
	a.RAM, b.RAM = 1, 1
	write(t, s, func(tx *store.Tx) error { return errors.Join(tx.InsertFlavor(a), tx.InsertFlavor(b)) })
	var mu sync.Mutex
	runs := 0
	together(t, func(i int) error {
		first, second := a.ID, b.ID
		if i%2 == 1 {
			first, second = second, first
		}
		return s.Write(t.Context(), func(tx *store.Tx) error {
			mu.Lock()
			runs++
			mu.Unlock()
			for _, id := range []string{first, second} {
				f, err := tx.Flavor(id)
				if err != nil {
					return err
				}
				f.RAM++
				if err := tx.UpdateFlavor(f); err != nil {
					// Swallowed, the deadlock must not become half a transaction.
					return nil //nolint:nilerr // this is what is tested
				}
			}
			return nil
		})
	})
	t.Logf("%d transactions took %d runs", crowd, runs)
	read(t, s, func(tx *store.Tx) error {
		for _, id := range []string{a.ID, b.ID} {
			f, err := tx.Flavor(id)
			if err != nil {
				return err
			}
			if f.RAM != 1+crowd {
				t.Errorf("flavor %s was counted up %d times of %d", f.Name, f.RAM-1, crowd)
			}
		}
		return nil
	})
}

// guests: "remove it if nobody has it" beside "install it" never removes one
// that somebody has got.
func guests(t *testing.T, s *store.Store) {
	write(t, s, func(tx *store.Tx) error { return tx.InsertRegion(Region("A")) })
	fs := make([]flavor.Flavor, crowd/2)
	for i := range fs {
		fs[i] = Flavor(fmt.Sprint("flavor ", i))
		write(t, s, func(tx *store.Tx) error { return tx.InsertFlavor(fs[i]) })
	}
	installed := make([]bool, len(fs))
	together(t, func(i int) error {
		f := fs[i/2]
		if i%2 == 0 {
			err := s.Write(t.Context(), func(tx *store.Tx) error {
				return tx.PutInstallation(flavor.Installation{FlavorID: f.ID, Region: "A", NodeID: f.ID})
			})
			installed[i/2] = err == nil
			if flavor.CodeOf(err) == flavor.CodeNotFound {
				return nil
			}
			return err
		}
		return s.Write(t.Context(), func(tx *store.Tx) error {
			if has, err := tx.Installations(f.ID); err != nil || len(has) > 0 {
				return err
			}
			return tx.DeleteFlavor(f.ID)
		})
	})
	cat, err := s.Catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range fs {
		if has := len(cat.Installed(f.ID)) > 0; has != installed[i] {
			t.Errorf("%s: installing succeeded %v, installed %v", f.Name, installed[i], has)
		}
	}
}

// catalogueUnderWrites: whoever has written sees it in the very next snapshot,
// though a crowd loads and writes at the same time.
func catalogueUnderWrites(t *testing.T, s *store.Store) {
	together(t, func(i int) error {
		f := Flavor(fmt.Sprint("flavor ", i))
		if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertFlavor(f) }); err != nil {
			return err
		}
		cat, err := s.Catalogue(t.Context())
		if err != nil {
			return err
		}
		if _, ok := cat.ByID(f.ID); !ok {
			return fmt.Errorf("%s is not in the catalogue its writer sees", f.Name)
		}
		if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.DeleteFlavor(f.ID) }); err != nil {
			return err
		}
		if cat, err = s.Catalogue(t.Context()); err != nil {
			return err
		}
		if _, ok := cat.ByID(f.ID); ok {
			return fmt.Errorf("%s is still in the catalogue after its removal", f.Name)
		}
		return nil
	})
}

func cancelled(t *testing.T, s *store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	f := Flavor("f")
	err := s.Write(ctx, func(tx *store.Tx) error {
		err := tx.InsertFlavor(f)
		cancel()
		return err
	})
	if err == nil {
		t.Error("a write whose caller went away was committed")
	}
	if _, err := s.Catalogue(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Catalogue for one who went away = %v", err)
	}
	cat, err := s.Catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the catalogue after a cancelled write", cat.Flavors, []flavor.Flavor{})
}
