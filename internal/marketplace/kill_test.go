package marketplace

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
	"github.com/flavorsync/flavorsync/internal/simstack"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// victim is what the process that is to be killed is told, in its environment.
type victim struct {
	Driver, DSN, Keyset, Keystone, Token, Region, FlavorID string
	Patch                                                  flavor.Patch
}

const victimVariable = "MARKETPLACE_TEST_VICTIM"

func TestMain(m *testing.M) {
	if told := os.Getenv(victimVariable); told != "" {
		if err := changeAsVictim(told); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// changeAsVictim changes one private flavor in a process of its own.
func changeAsVictim(told string) error {
	var v victim
	if err := json.Unmarshal([]byte(told), &v); err != nil {
		return err
	}
	ctx := context.Background()
	keyset, _, err := store.LoadKeyset(v.Keyset, nil)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(ctx, store.Config{Driver: v.Driver, DSN: v.DSN, Keyset: keyset, Log: log})
	if err != nil {
		return err
	}
	if err := db.BindKeyset(ctx); err != nil {
		return err
	}
	ctx = flavor.WithActor(ctx, flavor.Actor{Provider: "test", ID: "victim", Action: flavor.ChangeRegionFlavor})
	clouds := openstack.New(openstack.Config{KeystoneURL: v.Keystone, AllowHTTP: true, Unguarded: true, Log: log})
	market := New(Config{Store: db, Clouds: clouds, Log: log, RegionTimeout: 10 * time.Second})
	_, err = market.ChangeRegionFlavor(ctx, flavor.Principal{}, v.Region, flavor.Secret(v.Token), v.FlavorID, v.Patch)
	return err
}

// killer stands before the simulated cloud and kills the victim at its nth call,
// before the cloud sees it or just after it has acted.
type killer struct {
	cloud http.Handler

	mu     sync.Mutex
	victim *os.Process
	nth    int
	after  bool
	calls  []string
}

func (k *killer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.victim == nil {
		k.cloud.ServeHTTP(w, r)
		return
	}
	k.calls = append(k.calls, r.Method+" "+r.URL.Path)
	fatal := len(k.calls) == k.nth
	if !fatal || k.after {
		k.cloud.ServeHTTP(w, r)
	}
	if fatal {
		_ = k.victim.Signal(syscall.SIGKILL)
		k.victim = nil
		panic(http.ErrAbortHandler)
	}
}

func (k *killer) begin(victim *os.Process, nth int, after bool) {
	k.victim, k.nth, k.after, k.calls = victim, nth, after, nil
}

func (k *killer) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.victim = nil
}

// A flavor whose size is being changed is never lost: wherever the process is
// killed, between any two of its calls, the next start finishes the change or
// undoes it, whole, with its extra specs and access, and leaves nothing behind.
func TestKilledDuringACarefulChange(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) { killEverywhere(t, driver) })
	}
}

func killEverywhere(t *testing.T, driver string) {
	dsn := storetest.DSN(t, driver)
	keyset := filepath.Join(t.TempDir(), "keyset.json")
	cloud := simstack.New(simstack.Options{Regions: []string{"Trento"}})
	k := &killer{cloud: cloud.Handler()}
	server := httptest.NewServer(k)
	t.Cleanup(server.Close)
	cloud.SetBaseURL(server.URL)
	db := open(t, driver, dsn, keyset)
	if err := errors.Join(db.Up(t.Context()), db.BindKeyset(t.Context())); err != nil {
		t.Fatal(err)
	}
	operator := flavor.Region{
		Name: "Trento", KeystoneURL: cloud.KeystoneURL(), Username: "operator", Password: "operator-secret",
		Tenant: "operators", UserDomain: "Default", ProjectDomain: "Default",
	}
	if err := db.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertRegion(operator) }); err != nil {
		t.Fatal(err)
	}
	clouds := openstack.New(openstack.Config{KeystoneURL: cloud.KeystoneURL(), AllowHTTP: true, Unguarded: true})
	t.Cleanup(clouds.Close)
	market := New(Config{Store: db, Clouds: clouds, Log: slog.New(slog.DiscardHandler), RegionTimeout: 10 * time.Second})
	t.Cleanup(market.Close)
	market.now = func() time.Time { return time.Now().Add(time.Hour) } // every claim has run out

	old := flavor.NovaFlavor{ID: "careful", Spec: flavor.Spec{
		Name: "careful", VCPUs: 1, RAM: 512, Disk: 1, RxTxFactor: 1, Description: "the old one",
		ExtraSpecs: map[string]string{"hw:cpu_policy": "shared", "quota:vif": "1"},
	}}
	changed := old
	changed.RAM, changed.Name = 1024, "careful.changed"
	ram, name := changed.RAM, changed.Name
	told, err := json.Marshal(victim{
		Driver: driver, DSN: dsn, Keyset: keyset, Keystone: cloud.KeystoneURL(), Region: "Trento", FlavorID: old.ID,
		Token: cloud.IssueToken("operator", "operators"), Patch: flavor.Patch{RAM: &ram, Name: &name},
	})
	if err != nil {
		t.Fatal(err)
	}
	project := cloud.ProjectID("demo")
	finished, undone := 0, 0
	for nth := 1; ; nth++ {
		for _, after := range []bool{false, true} {
			cloud.DeleteFlavor("Trento", old.ID)
			cloud.AddFlavor("Trento", old, project)
			survived := runVictim(t, k, string(told), nth, after)
			endLeases(t, driver, dsn) // as time does
			if err := market.Recover(t.Context()); err != nil {
				t.Fatalf("killed at call %d (after: %v, %s): %v", nth, after, last(k.calls), err)
			}
			left := cloud.Flavors("Trento")
			if len(left) != 1 {
				t.Fatalf("killed at call %d (after: %v, %s): the region has %d flavors: %+v", nth, after, last(k.calls), len(left), left)
			}
			want := old
			if left[0].RAM == changed.RAM {
				want = changed
				finished++
			} else {
				undone++
			}
			if diff := cmp.Diff(want, left[0]); diff != "" {
				t.Errorf("killed at call %d (after: %v, %s): %s", nth, after, last(k.calls), diff)
			}
			if diff := cmp.Diff([]string{project}, cloud.Access("Trento", old.ID)); diff != "" {
				t.Errorf("killed at call %d (after: %v, %s): access: %s", nth, after, last(k.calls), diff)
			}
			var stored []store.Change
			var done []flavor.AuditEntry
			err := db.Read(t.Context(), func(tx *store.Tx) (err error) {
				if done, err = tx.AuditEntries(flavor.AuditFilter{Outcome: flavor.Success, Limit: 1000}); err != nil {
					return err
				}
				stored, err = tx.Changes()
				return err
			})
			if len(done) != finished {
				t.Errorf("killed at call %d (after: %v, %s): of %d changes the audit tells of %d", nth, after, last(k.calls), finished, len(done))
			}
			if err != nil || len(stored) > 0 {
				t.Fatalf("killed at call %d: %d changes are still stored, %v", nth, len(stored), err)
			}
			if survived {
				if finished == 0 || undone == 0 || nth < 10 {
					t.Fatalf("only %d calls, %d finished, %d undone: this tests nothing", nth, finished, undone)
				}
				if left[0].RAM != changed.RAM {
					t.Error("nobody was killed, and the change is not made")
				}
				return
			}
		}
	}
}

// endLeases lets the leases of dead processes run out: they go by the database's
// clock, which no test can turn.
func endLeases(t *testing.T, driver, dsn string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "UPDATE leases SET deadline = 0")
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, driver, dsn, keyset string) *store.Store {
	t.Helper()
	loaded, _, err := store.LoadKeyset(keyset, nil)
	if err != nil {
		t.Fatal(err)
	}
	return storetest.Connect(t, driver, dsn, loaded)
}

// runVictim changes the flavor in a process of its own; true where it came to
// its end before the nth call.
func runVictim(t *testing.T, k *killer, told string, nth int, after bool) bool {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), victimVariable+"="+told)
	cmd.Stderr = &stderr
	k.mu.Lock()
	if err := cmd.Start(); err != nil {
		k.mu.Unlock()
		t.Fatal(err)
	}
	k.begin(cmd.Process, nth, after)
	k.mu.Unlock()
	err := cmd.Wait()
	k.end()
	if err == nil {
		return true
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Fatalf("the victim died by itself at call %d: %v %s", nth, err, stderr.String())
	}
	return false
}

func last(calls []string) string {
	if len(calls) == 0 {
		return "none"
	}
	return calls[len(calls)-1]
}
