package store_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// eachDriver runs test on a new database without tables; again opens one more
// store on it, as another process would.
func eachDriver(t *testing.T, test func(t *testing.T, s *store.Store, dsn string, raw *sql.DB)) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			dsn := storetest.DSN(t, driver)
			s := storetest.Connect(t, driver, dsn, storetest.Keyset(t))
			test(t, s, dsn, rawDB(t, driver, dsn))
		})
	}
}

func rawDB(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	raw, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	return raw
}

func exec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func applied(t *testing.T, s *store.Store) (done, all int) {
	t.Helper()
	steps, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		if step.AppliedAt != nil {
			done++
		}
	}
	return done, len(steps)
}

// Without it an operator could not go back to the release before.
func TestMigrateUpDownUp(t *testing.T) {
	eachDriver(t, func(t *testing.T, s *store.Store, _ string, _ *sql.DB) {
		ctx := t.Context()
		if err := s.Ping(ctx); err == nil || !strings.Contains(err.Error(), "migrate up") {
			t.Errorf("Ping before any migration = %v", err)
		}
		if done, all := applied(t, s); done != 0 || all == 0 {
			t.Errorf("Status before any migration: %d of %d", done, all)
		}
		for round := range 2 {
			for range 2 { // the second changes nothing
				if err := s.Up(ctx); err != nil {
					t.Fatalf("Up, round %d: %v", round, err)
				}
			}
			if err := s.Ping(ctx); err != nil {
				t.Errorf("Ping after Up: %v", err)
			}
			if done, all := applied(t, s); done != all {
				t.Errorf("Status after Up: %d of %d", done, all)
			}
			if err := s.BindKeyset(ctx); err != nil {
				t.Fatal(err)
			}
			err := s.Write(ctx, func(tx *store.Tx) error {
				if err := tx.InsertRegion(storetest.Region("Trento")); err != nil {
					return err
				}
				return tx.InsertFlavor(storetest.Flavor("small"))
			})
			if err != nil {
				t.Fatalf("writing in round %d: %v", round, err)
			}
			if cat, err := s.Catalogue(ctx); err != nil || len(cat.Flavors) != 1 {
				t.Fatalf("the catalogue in round %d: %v, %v", round, cat, err)
			}
			_, all := applied(t, s)
			if err := s.Down(ctx); err != nil {
				t.Fatal(err)
			}
			if done, _ := applied(t, s); done != all-1 {
				t.Errorf("one Down left %d of %d", done, all)
			}
			if err := s.Ping(ctx); err == nil || !strings.Contains(err.Error(), "migrate up") {
				t.Errorf("Ping one step below = %v", err)
			}
			if round == 0 {
				for range all - 1 { // one by one
					if err := s.Down(ctx); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Down(ctx); err == nil || !strings.Contains(err.Error(), "nothing to undo") {
					t.Errorf("Down of nothing = %v", err)
				}
			} else if err := s.Reset(ctx); err != nil { // at once
				t.Fatal(err)
			}
			if done, _ := applied(t, s); done != 0 {
				t.Errorf("%d steps left at the bottom", done)
			}
		}
	})
}

// Replicas that start together on a new database would otherwise leave it half made.
func TestMigrateFirstStartsInParallel(t *testing.T) {
	together := func(t *testing.T, database string, dsns ...string) {
		keyset := storetest.Keyset(t)
		var wg sync.WaitGroup
		for i := range 8 {
			s := storetest.Connect(t, database, dsns[i%len(dsns)], keyset)
			wg.Go(func() {
				if err := s.Up(t.Context()); err != nil {
					t.Errorf("Up beside others: %v", err)
				}
				if err := s.Ping(t.Context()); err != nil {
					t.Errorf("Ping after Up beside others: %v", err)
				}
				if done, all := applied(t, s); done != all {
					t.Errorf("%d of %d steps after Up beside others", done, all)
				}
			})
		}
		wg.Wait()
	}
	for _, database := range storetest.Databases {
		t.Run(database, func(t *testing.T) { together(t, database, storetest.DSN(t, database)) })
	}
	t.Run("galera, each at one of its nodes", func(t *testing.T) { together(t, "galera", storetest.GaleraDSNs(t)...) })
}

// An old binary that starts on a new schema would write rows the new one cannot read.
func TestMigrateRefusesNewerSchema(t *testing.T) {
	eachDriver(t, func(t *testing.T, s *store.Store, _ string, raw *sql.DB) {
		if err := s.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		exec(t, raw, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)")
		for name, call := range map[string]func(context.Context) error{"Up": s.Up, "Down": s.Down, "Reset": s.Reset, "Ping": s.Ping} {
			if err := call(t.Context()); err == nil || !strings.Contains(err.Error(), "newer than this binary") {
				t.Errorf("%s on a newer schema = %v", name, err)
			}
		}
		if done, all := applied(t, s); done != all {
			t.Errorf("Status on a newer schema: %d of %d", done, all)
		}
		steps, _ := s.Status(t.Context())
		if last := steps[len(steps)-1]; last.Version != 99999 || last.Name != "" {
			t.Errorf("Status hides the newer step: %+v", last)
		}
	})
}

// MariaDB keeps a step whose process died before it was marked: Up must get over it.
func TestMigrateResumesAfterCrash(t *testing.T) {
	dsn := storetest.DSN(t, "mysql")
	s := storetest.Connect(t, "mysql", dsn, nil)
	raw, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	if err := s.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, raw, "DELETE FROM catalogue_version")
	exec(t, raw, "DELETE FROM goose_db_version WHERE version_id > 3")
	if err := s.Up(t.Context()); err != nil {
		t.Errorf("Up after a crash between a step and its mark: %v", err)
	}
	exec(t, raw, "DROP TABLE catalogue_version")
	if err := s.Reset(t.Context()); err == nil {
		t.Error("a missing table that must hold a row was not noticed")
	}
}

// A process that died while migrating must not shut out the others for ever,
// and one that works must.
func TestMigrationLease(t *testing.T) {
	eachDriver(t, func(t *testing.T, s *store.Store, _ string, raw *sql.DB) {
		if err := s.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		var owner string
		var deadline int64
		held := func() {
			t.Helper()
			if err := raw.QueryRowContext(t.Context(), "SELECT owner, deadline FROM migration_lease").Scan(&owner, &deadline); err != nil {
				t.Fatal(err)
			}
		}
		if held(); owner != "" || deadline != 0 {
			t.Errorf("the lease was not given back: %q until %d", owner, deadline)
		}
		exec(t, raw, "UPDATE migration_lease SET owner = 'mordor 42', deadline = 99999999999")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := s.Down(ctx); err == nil || !strings.Contains(err.Error(), "another process is migrating the database (mordor 42)") {
			t.Errorf("Down under another's lease = %v", err)
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("Down under another's lease did something: %v", err)
		}
		if held(); owner != "mordor 42" {
			t.Errorf("another's lease is now %q's", owner)
		}
		exec(t, raw, "UPDATE migration_lease SET deadline = 1")
		if err := s.Down(t.Context()); err != nil {
			t.Errorf("Down after a lease that has run out: %v", err)
		}
		if held(); owner != "" {
			t.Errorf("the lease was not given back: %q", owner)
		}
	})
}

// MariaDB's default collations would take small and Small for one flavor.
func TestTablesTellCaseApart(t *testing.T) {
	dsn := storetest.DSN(t, "mysql")
	s := storetest.Connect(t, "mysql", dsn, nil)
	if err := s.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	raw, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	rows, err := raw.QueryContext(t.Context(), `SELECT table_name, column_name, collation_name FROM information_schema.columns
		WHERE table_schema = DATABASE() AND collation_name IS NOT NULL AND table_name <> 'goose_db_version'`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	n := 0
	for ; rows.Next(); n++ {
		var table, column, collation string
		if err := rows.Scan(&table, &column, &collation); err != nil {
			t.Fatal(err)
		}
		if collation != "utf8mb4_bin" {
			t.Errorf("%s.%s has the collation %s", table, column, collation)
		}
	}
	if err := rows.Err(); err != nil || n < 20 {
		t.Errorf("looked at %d columns: %v", n, err)
	}
}

// A database of the demonstration has well-known passwords: serve asks IsDemo.
func TestDemoMark(t *testing.T) {
	eachDriver(t, func(t *testing.T, s *store.Store, _ string, _ *sql.DB) {
		if err := s.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		if demo, err := s.IsDemo(t.Context()); err != nil || demo {
			t.Errorf("IsDemo of an unmarked database = %v, %v", demo, err)
		}
		for range 2 {
			if err := s.MarkDemo(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if demo, err := s.IsDemo(t.Context()); err != nil || !demo {
			t.Errorf("IsDemo of a marked database = %v, %v", demo, err)
		}
	})
}

// Another replica's write must be seen within a second, and not by asking the
// database for each request.
func TestCatalogueOfAnotherProcess(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			dsn, keyset := storetest.DSN(t, driver), storetest.Keyset(t)
			one, two := storetest.Connect(t, driver, dsn, keyset), storetest.Connect(t, driver, dsn, keyset)
			if err := one.Up(t.Context()); err != nil {
				t.Fatal(err)
			}
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			store.SetClock(two, func() time.Time { return now })
			count := func() int {
				t.Helper()
				cat, err := two.Catalogue(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return len(cat.Flavors)
			}
			if n := count(); n != 0 {
				t.Fatalf("%d flavors in an empty catalogue", n)
			}
			if err := one.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertFlavor(storetest.Flavor("small")) }); err != nil {
				t.Fatal(err)
			}
			now = now.Add(499 * time.Millisecond)
			if n := count(); n != 0 {
				t.Error("the database was asked within half a second")
			}
			now = now.Add(time.Millisecond)
			if n := count(); n != 1 {
				t.Error("another process's write was not seen after half a second")
			}
			first, _ := two.Catalogue(t.Context())
			now = now.Add(time.Minute)
			if again, _ := two.Catalogue(t.Context()); again != first {
				t.Error("an unchanged catalogue was loaded again")
			}
		})
	}
}

// A catalogue of a thousand regions takes a while to load: all who wait for that
// while others go on writing get what was loaded since they came, not each a
// catalogue of their own.
func TestCatalogueIsLoadedForAllWhoWait(t *testing.T) {
	s := storetest.Open(t, "sqlite")
	now := time.Now()
	store.SetClock(s, func() time.Time { return now })
	first, err := s.Catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	came := store.Writes(s)
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertFlavor(storetest.Flavor("small")) }); err != nil {
		t.Fatal(err)
	}
	if cat, err := store.CatalogueAfter(t.Context(), s, came); cat != first {
		t.Errorf("who came before the write had another loaded: %v", err)
	}
	if cat, err := store.CatalogueAfter(t.Context(), s, store.Writes(s)); err != nil || len(cat.Flavors) != 1 {
		t.Errorf("who came after the write does not see it: %+v, %v", cat, err)
	}
	now = now.Add(time.Second)
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertFlavor(storetest.Flavor("large")) }); err != nil {
		t.Fatal(err)
	}
	if cat, err := store.CatalogueAfter(t.Context(), s, came); err != nil || len(cat.Flavors) != 2 {
		t.Errorf("a second later it is not loaded: %+v, %v", cat, err)
	}
}

// On Galera the next read may go to a node that has not applied our write yet:
// the snapshot waits for it, and believes a database that was put back for good.
func TestCatalogueBehindItsWrites(t *testing.T) {
	dsn, keyset := storetest.DSN(t, "sqlite"), storetest.Keyset(t)
	one, two := storetest.Connect(t, "sqlite", dsn, keyset), storetest.Connect(t, "sqlite", dsn, keyset)
	insert := func(s *store.Store, name string) error {
		return s.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertFlavor(storetest.Flavor(name)) })
	}
	if err := one.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := insert(one, "small"); err != nil {
		t.Fatal(err)
	}
	store.Ahead(one)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := insert(two, "late"); err != nil {
			t.Error(err)
		}
	})
	cat, err := one.Catalogue(t.Context())
	wg.Wait()
	if err != nil || len(cat.Flavors) != 2 {
		t.Errorf("the catalogue before our write was applied: %v, %v", cat, err)
	}
	store.Ahead(one)
	for range 2 {
		if cat, err = one.Catalogue(t.Context()); err != nil || len(cat.Flavors) != 2 {
			t.Errorf("the catalogue of a database that was put back: %v, %v", cat, err)
		}
	}
}

// A name with any character must be that file, and no other, and no parameter.
func TestSQLiteFileNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"plain.db", "with blank.db", "what?mode=memory&_pragma=x.db", "100%41.db", "#hash.db", "späth.db", "a&b;c.db"} {
		s := storetest.Connect(t, "sqlite", filepath.Join(dir, name), nil)
		if err := s.Up(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.db"))
	if err != nil || len(found) != 7 {
		t.Errorf("the files are %q, %v", found, err)
	}
}
