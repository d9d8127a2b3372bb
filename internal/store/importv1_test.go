package store_test

import (
	"bytes"
	"database/sql"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// v1 is a database of flavor-sync 1.0 with what testdata has of it.
func v1(t *testing.T) (dsn string, db *sql.DB) {
	t.Helper()
	dsn = storetest.DSN(t, "mysql")
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	dump, err := os.ReadFile("testdata/flavorsync-1.0.sql")
	if err != nil {
		t.Fatal(err)
	}
	for statement := range strings.SplitSeq(string(dump), ";\n") {
		if strings.TrimSpace(statement) != "" {
			exec(t, db, statement)
		}
	}
	return dsn, db
}

func importV1(t *testing.T, s *store.Store, dsn string) store.ImportReport {
	t.Helper()
	var log bytes.Buffer
	report, err := store.ImportV1(t.Context(), s, dsn, slog.New(slog.NewJSONHandler(&log, nil)))
	if err != nil {
		t.Fatalf("ImportV1: %v", err)
	}
	told := log.String()
	for _, skipped := range report.Skipped {
		told += skipped.String()
	}
	if strings.Contains(told, "hunter2") || strings.Contains(told, "wörd") {
		t.Errorf("a password was told: %s", told)
	}
	return report
}

// everything is what the store has.
func everything(t *testing.T, s *store.Store) (rs []flavor.Region, fs []flavor.Flavor, is []flavor.Installation) {
	t.Helper()
	err := s.Read(t.Context(), func(tx *store.Tx) (err error) {
		rs, err = tx.Regions()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cat, err := s.Catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rs, cat.Flavors, cat.Installations
}

// An operator who moves from 1.0 keeps his catalogue, and is told of each row
// that could not come along.
func TestImportV1(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			dsn, _ := v1(t)
			s := storetest.Open(t, driver)
			first := importV1(t, s, dsn)
			rs, fs, is := everything(t, s)

			region := func(name, url, user string, password flavor.Secret) flavor.Region {
				return flavor.Region{
					Name: name, KeystoneURL: url, AuthType: flavor.AuthPassword, Username: user, Password: password, Tenant: "admin",
					UserDomain: "Default", ProjectDomain: "Default", Status: flavor.RegionStatus{State: flavor.RegionUnknown},
				}
			}
			// Compared by ==: cmp would print stars for both passwords.
			if wanted := []flavor.Region{
				region("Lannion2", "http://lannion2.example.org:5000/v2.0", "admin", `p'ass\wörd`),
				region("Spain2", "http://spain2.example.org:5000/v3", "flavorsync", "hunter2"),
				region("Trento", "http://trento.example.org:5000/v3", "flavorsync", "hunter2"),
			}; !slices.Equal(rs, wanted) {
				t.Errorf("the regions are %v, wanted %v", rs, wanted)
			}

			made := map[string]string{} // ids that were made up, by name
			for i, f := range fs {
				if !flavor.IsUUID(f.ID) {
					t.Errorf("flavor %s has the id %s", f.Name, f.ID)
				}
				if !slices.Contains([]string{"insane", "twin"}, f.Name) {
					made[f.Name], fs[i].ID = f.ID, f.Name
				}
			}
			spec := func(name string, vcpus, ram, disk int) flavor.Spec {
				return flavor.Spec{Name: name, VCPUs: vcpus, RAM: ram, Disk: disk, RxTxFactor: 1}
			}
			if diff := cmp.Diff([]flavor.Flavor{
				{ID: "567b200e-0aca-49e0-8e9a-8c1f6ad3abe2", Spec: spec("insane", 640, 1232896, 1262485504), Public: true, Nodes: []string{"Spain2"}},
				{ID: "m1.small", Spec: spec("m1.small", 1, 2048, 20), Public: true, Promoted: true, Nodes: []string{"Lannion2"}},
				{ID: "m1.tiny", Spec: spec("m1.tiny", 1, 512, 1), Public: true, Nodes: []string{"Spain2", "Trento"}},
				{ID: "shouting", Spec: spec("shouting", 1, 1, 0), Public: true, Promoted: true, Nodes: []string{}},
				{ID: "7e1a7f0c-6c2b-4e53-9d8f-1f0b2c3d4e5f", Spec: spec("twin", 4, 8192, 20), Public: true, Promoted: true, Nodes: []string{"Trento"}},
			}, fs); diff != "" {
				t.Errorf("the catalogue (-wanted +got):\n%s", diff)
			}
			for _, i := range is {
				wanted := i.FlavorID
				switch i.FlavorID {
				case made["m1.tiny"]:
					wanted = "1"
				case made["m1.small"]:
					wanted = "2"
				}
				if i.NodeID != wanted || i.Created {
					t.Errorf("%+v, wanted the node's own id %s", i, wanted)
				}
			}

			skipped := first.Skipped
			first.Skipped = nil
			if diff := cmp.Diff(store.ImportReport{Regions: 3, Flavors: 5, Installations: 5, Private: 2}, first); diff != "" {
				t.Errorf("the report (-wanted +got):\n%s", diff)
			}
			wanted := [][3]string{
				{"infrastructure", "No Blanks", "name:"},
				{"infrastructure", "Torino", "keystone_url:"},
				{"infrastructure", "ZURICH", "password is missing"},
				{"flavor", "6e1a7f0c-6c2b-4e53-9d8f-1f0b2c3d4e5f", `"twin" is that of flavor 7e1a7f0c-6c2b-4e53-9d8f-1f0b2c3d4e5f too`},
				{"flavor", "9", "name:"},
				{"flavor", "a", "vcpus:"},
				{"flavor", "b/c", "id:"},
				{"flavor", "d", "name:"},
				{"flavor_infrastructure_link", "567b200e-0aca-49e0-8e9a-8c1f6ad3abe2 in Mordor", "no region Mordor"},
				{"flavor_infrastructure_link", "6e1a7f0c-6c2b-4e53-9d8f-1f0b2c3d4e5f in Trento", "not taken over"},
				{"flavor_infrastructure_link", "8E1A7F0C-6C2B-4E53-9D8F-1F0B2C3D4E5F in Torino", "no region Torino"},
				{"flavor_infrastructure_link", "a in Trento", "not taken over"},
				{"flavor_infrastructure_link", "gone in Trento", "not taken over"},
			}
			for i, got := range skipped {
				if i >= len(wanted) || got.Table != wanted[i][0] || got.Key != wanted[i][1] || !strings.Contains(got.Reason, wanted[i][2]) {
					t.Errorf("skipped: %v", got)
				}
			}
			if len(skipped) != len(wanted) {
				t.Errorf("%d rows were skipped, wanted %d", len(skipped), len(wanted))
			}

			before, _ := s.Catalogue(t.Context())
			second := importV1(t, s, dsn)
			if diff := cmp.Diff(store.ImportReport{Unchanged: 13, Private: 2, Skipped: skipped}, second); diff != "" {
				t.Errorf("the report of a second run (-wanted +got):\n%s", diff)
			}
			if after, _ := s.Catalogue(t.Context()); after != before {
				t.Error("a second run has written to the catalogue")
			}
			if again, _, _ := everything(t, s); !slices.Equal(again, rs) {
				t.Errorf("a second run has changed the regions: %v", again)
			}
		})
	}
}

// What an operator has changed here since is not overwritten.
func TestImportV1KeepsWhatIsHere(t *testing.T) {
	dsn, _ := v1(t)
	s := storetest.Open(t, "sqlite")
	here := storetest.Region("TRENTO")
	tiny, insane := storetest.Flavor("m1.tiny"), storetest.Flavor("insane")
	insane.ID = "567b200e-0aca-49e0-8e9a-8c1f6ad3abe2"
	insane.VCPUs, insane.RAM, insane.Disk, insane.Swap = 640, 1232896, 1262485504, 0 // and has a description and extra specs
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		for _, err := range []error{tx.InsertRegion(here), tx.InsertRegion(storetest.Region("Spain2")), tx.InsertFlavor(tiny), tx.InsertFlavor(insane)} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	report := importV1(t, s, dsn)
	told := ""
	for _, skipped := range report.Skipped {
		told += skipped.String() + "\n"
	}
	for _, wanted := range []string{
		"infrastructure Trento: the region Trento differs from TRENTO in case only",
		"flavor 1: flavor " + tiny.ID + " of the catalogue has its id or its name, but vcpus is 2, not 1, ram is 4096, not 512",
		"1 in Spain2: its flavor was not taken over",
	} {
		if !strings.Contains(told, wanted) {
			t.Errorf("the report does not say %q:\n%s", wanted, told)
		}
	}
	rs, fs, _ := everything(t, s)
	if i := slices.IndexFunc(rs, func(r flavor.Region) bool { return r.Name == "Spain2" }); rs[i] != storetest.Region("Spain2") {
		t.Errorf("a region that was here is now %v", rs[i])
	}
	insane.Nodes = []string{"Spain2"}
	for _, wanted := range []flavor.Flavor{tiny, insane} {
		i := slices.IndexFunc(fs, func(f flavor.Flavor) bool { return f.ID == wanted.ID })
		if diff := cmp.Diff(wanted, fs[i]); diff != "" {
			t.Errorf("a flavor that was here (-wanted +got):\n%s", diff)
		}
	}
}

// A run that fails leaves nothing behind, and tells no password.
func TestImportV1AllOrNothing(t *testing.T) {
	s := storetest.Open(t, "sqlite")
	discard := slog.New(slog.DiscardHandler)
	dsn, db := v1(t)
	// The store's own failure, after the regions are written.
	broken := storetest.DSN(t, "sqlite")
	full := storetest.Connect(t, "sqlite", broken, storetest.Keyset(t))
	if err := full.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, rawDB(t, "sqlite", broken), "DROP TABLE catalogue_version")
	if _, err := store.ImportV1(t.Context(), full, dsn, discard); err == nil {
		t.Error("an import without a catalogue version succeeded")
	}
	err := full.Read(t.Context(), func(tx *store.Tx) error {
		rs, err := tx.Regions()
		if len(rs) > 0 {
			t.Errorf("a failed import left %d regions", len(rs))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	// The old database's.
	exec(t, db, "DROP TABLE flavor_infrastructure_link")
	for _, wrong := range []string{dsn, "user:hunter2@tcp(127.0.0.1:1)/db", "mysql://user:hunter2@127.0.0.1/db", strings.Replace(dsn, "tcp(", "hunter2(", 1)} {
		report, err := store.ImportV1(t.Context(), s, wrong, discard)
		if err == nil || strings.Contains(err.Error(), "hunter2") || report.Regions != 0 {
			t.Errorf("ImportV1 = %+v, %v", report, err)
		}
	}
	if rs, fs, is := everything(t, s); len(rs)+len(fs)+len(is) != 0 {
		t.Errorf("a failed import left %v %v %v", rs, fs, is)
	}
}
