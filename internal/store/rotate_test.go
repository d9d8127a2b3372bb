package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// quietly is a rotation that waits for nobody.
var quietly = store.Rotation{Tell: func(string, ...any) {}}

// keyring is a database with some regions, and the keyset's file that its processes
// share.
type keyring struct {
	driver, dsn, path string
}

func newKeyring(t *testing.T, driver string, regions ...string) keyring {
	t.Helper()
	k := keyring{driver, storetest.DSN(t, driver), filepath.Join(t.TempDir(), "keyset.json")}
	s := storetest.Connect(t, driver, k.dsn, load(t, k.path, true))
	if err := errors.Join(s.Up(t.Context()), s.BindKeyset(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, name := range regions {
		if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertRegion(storetest.Region(name)) }); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// start is one more process, with the keyset at path.
func (k keyring) start(t *testing.T, path string) *store.Store {
	t.Helper()
	s := storetest.Connect(t, k.driver, k.dsn, load(t, path, false))
	if err := s.BindKeyset(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func rotate(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Rotate(t.Context(), quietly); err != nil {
		t.Fatal(err)
	}
}

// encrypting is the one key with which everything is encrypted.
func encrypting(t *testing.T, s *store.Store) string {
	t.Helper()
	all, _, err := s.KeyStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(k store.Key) bool { return k.Encrypts })
	for j, key := range all {
		if !key.InFile || key.Added || (key.Rows > 0) != (i == j) {
			t.Errorf("not everything is encrypted with one key: %+v", all)
		}
	}
	return all[i].ID
}

func wantPasswords(t *testing.T, s *store.Store, regions ...string) {
	t.Helper()
	err := s.Read(t.Context(), func(tx *store.Tx) error {
		for _, name := range regions {
			r, err := tx.Region(name)
			if err != nil {
				return err
			}
			if r.Password != storetest.Region(name).Password {
				t.Errorf("the password of %s is another", name)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A process that serves while the keys rotate reads what is encrypted with the new
// one, and encrypts with it, without a restart.
func TestRotateBesideAServer(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			ctx := t.Context()
			k := newKeyring(t, driver, "Spain2", "Trento")
			serving, command := k.start(t, k.path), k.start(t, k.path)
			first := encrypting(t, command)
			rotate(t, command)
			second := encrypting(t, command)
			if second == first {
				t.Fatal("no new key")
			}
			wantPasswords(t, serving, "Spain2", "Trento")
			if err := serving.Write(ctx, func(tx *store.Tx) error { return tx.InsertRegion(storetest.Region("Lannion2")) }); err != nil {
				t.Fatal(err)
			}
			if got := encrypting(t, command); got != second {
				t.Errorf("the server encrypts with %s, not with %s", got, second)
			}
			if st, err := os.Stat(k.path); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("the keyset: %v, %v", st, err)
			}
			removed, err := command.PruneKeys(ctx)
			if err != nil || !slices.Equal(removed, []string{first}) {
				t.Errorf("pruned %v, %v", removed, err)
			}
			for _, s := range []*store.Store{serving, command, k.start(t, k.path)} {
				wantPasswords(t, s, "Spain2", "Trento", "Lannion2")
			}
			if removed, err := command.PruneKeys(ctx); err != nil || removed != nil {
				t.Errorf("pruned again %v, %v", removed, err)
			}
			rotate(t, command)
			wantPasswords(t, serving, "Spain2", "Trento", "Lannion2")
		})
	}
}

// A replica with a copy of the keyset of its own, on another machine, must have the
// new key before anything is encrypted with it.
func TestRotateWaitsForEveryReplica(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			ctx := t.Context()
			k := newKeyring(t, driver, "Trento")
			elsewhere := filepath.Join(t.TempDir(), "copy.json")
			copyKeyset := func() {
				content, err := os.ReadFile(k.path)
				if err == nil {
					err = os.WriteFile(elsewhere, content, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			copyKeyset()
			replica, command := k.start(t, elsewhere), k.start(t, k.path)
			announced, err := replica.Announce(ctx)
			if err != nil {
				t.Fatal(err)
			}
			first := encrypting(t, command)
			for range 2 { // the second adds no other key
				err := command.Rotate(ctx, quietly)
				if err == nil || !strings.Contains(err.Error(), "is unknown to") || !strings.Contains(err.Error(), "run flavorsync keys rotate again") {
					t.Fatalf("rotating before a replica has the key = %v", err)
				}
				if err := announced.Look(ctx); err != nil {
					t.Fatal(err)
				}
			}
			all, serving, err := command.KeyStatus(ctx)
			if err != nil || len(all) != 2 || !all[0].Encrypts || all[0].Rows != 1 || !all[1].Added {
				t.Fatalf("while it waits: %+v, %v", all, err)
			}
			if len(serving) != 1 || !slices.Equal(serving[0].Keys, []string{first}) || !strings.Contains(serving[0].Name, fmt.Sprint("process ", os.Getpid())) {
				t.Errorf("who serves: %+v", serving)
			}
			wantPasswords(t, replica, "Trento")

			copyKeyset()
			if err := announced.Look(ctx); err != nil {
				t.Fatal(err)
			}
			rotate(t, command)
			wantPasswords(t, replica, "Trento")
			if got := encrypting(t, command); got != all[1].ID {
				t.Errorf("%s encrypts, not %s, which was added", got, all[1].ID)
			}

			// One that starts with a keyset without the key is refused; one that
			// has ended is not waited for.
			if err := announced.Withdraw(ctx); err != nil {
				t.Fatal(err)
			}
			old := k.start(t, elsewhere)
			rotate(t, command)
			if _, err := old.Announce(ctx); err == nil || !strings.Contains(err.Error(), "copy the keyset here") {
				t.Errorf("serving without the key that encrypts = %v", err)
			}
			err = old.Write(ctx, func(tx *store.Tx) error { return tx.InsertRegion(storetest.Region("Spain2")) })
			if err == nil || !strings.Contains(err.Error(), "copy the keyset here") {
				t.Errorf("encrypting with an old key = %v", err)
			}
		})
	}
}

// A replica that starts just before the new key encrypts is not overlooked.
func TestRotateSeesWhoStarts(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			k := newKeyring(t, driver, "Trento")
			content, err := os.ReadFile(k.path)
			if err != nil {
				t.Fatal(err)
			}
			elsewhere := filepath.Join(t.TempDir(), "copy.json")
			if err := os.WriteFile(elsewhere, content, 0o600); err != nil {
				t.Fatal(err)
			}
			replica, command := k.start(t, elsewhere), k.start(t, k.path)
			store.AfterEachStep(command, func(step string) error {
				if step == "awaited" {
					_, err := replica.Announce(t.Context())
					return err
				}
				return nil
			})
			if err := command.Rotate(t.Context(), quietly); err == nil || !strings.Contains(err.Error(), "is unknown to") {
				t.Errorf("rotating = %v", err)
			}
			wantPasswords(t, replica, "Trento")
		})
	}
}

// A password that an owner stores while keys rotate is never replaced by the one
// before.
func TestRotateKeepsWhatIsStoredMeanwhile(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			names := []string{"Lannion2", "Spain2", "Trento"}
			k := newKeyring(t, driver, names...)
			serving, command := k.start(t, k.path), k.start(t, k.path)
			stored := make(map[string]flavor.Secret)
			var mu sync.Mutex
			var writing sync.WaitGroup
			for _, name := range names {
				writing.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						r := storetest.Region(name)
						r.Password = flavor.Secret(fmt.Sprint("password ", i, " of ", name))
						if err := serving.Write(t.Context(), func(tx *store.Tx) error { return tx.UpdateRegion(r) }); err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						stored[name] = r.Password
						mu.Unlock()
						err := serving.Read(t.Context(), func(tx *store.Tx) error {
							got, err := tx.Region(name)
							if err == nil && got.Password != r.Password {
								t.Errorf("%s has the password %q, not %q, which was stored last", name, string(got.Password), string(r.Password))
							}
							return err
						})
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			for range 5 {
				rotate(t, command)
				if _, err := command.PruneKeys(ctx); err != nil {
					t.Error(err)
				}
			}
			stop()
			writing.Wait()
			encrypting(t, command)
			err := command.Read(t.Context(), func(tx *store.Tx) error {
				for _, name := range names {
					r, err := tx.Region(name)
					if err != nil {
						return err
					}
					if r.Password != stored[name] {
						t.Errorf("%s has the password %q, not %q", name, string(r.Password), string(stored[name]))
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

const rotatingVariable = "STORE_TEST_ROTATING"

// rotating is what a process that is to be killed is told.
type rotating struct {
	Driver, DSN, Keyset, Until string
}

func TestMain(m *testing.M) {
	if told := os.Getenv(rotatingVariable); told != "" {
		fmt.Fprintln(os.Stderr, rotateUntilKilled(told))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func rotateUntilKilled(told string) error {
	var r rotating
	if err := json.Unmarshal([]byte(told), &r); err != nil {
		return err
	}
	keyset, _, err := store.LoadKeyset(r.Keyset, nil)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Driver: r.Driver, DSN: r.DSN, Keyset: keyset})
	if err != nil {
		return err
	}
	if err := s.BindKeyset(ctx); err != nil {
		return err
	}
	store.AfterEachStep(s, func(step string) error {
		if step == r.Until {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	})
	return errors.Join(s.Rotate(ctx, quietly), errors.New("it was not killed"))
}

// Wherever a rotation is killed, all passwords can be read, and the next one ends
// where that would have ended: with one new key, and nothing left behind.
func TestRotateKilled(t *testing.T) {
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			for _, step := range []string{"added", "awaited", "promoted", "encrypted Spain2", "encrypted Trento"} {
				k := newKeyring(t, driver, "Spain2", "Trento")
				serving := k.start(t, k.path)
				told, err := json.Marshal(rotating{driver, k.dsn, k.path, step})
				if err != nil {
					t.Fatal(err)
				}
				victim := osexec.CommandContext(t.Context(), os.Args[0])
				victim.Env = append(os.Environ(), rotatingVariable+"="+string(told))
				output, err := victim.CombinedOutput()
				if status, ok := victim.ProcessState.Sys().(syscall.WaitStatus); err == nil || !ok || status.Signal() != syscall.SIGKILL {
					t.Fatalf("after %q it was not killed: %v\n%s", step, err, output)
				}
				// As if it had been killed between writing the file and giving it its name.
				left := filepath.Join(filepath.Dir(k.path), ".keyset.json-1234")
				if err := os.WriteFile(left, []byte("{}"), 0o600); err != nil {
					t.Fatal(err)
				}
				wantPasswords(t, serving, "Spain2", "Trento")
				command := k.start(t, k.path)
				if _, err := command.PruneKeys(t.Context()); err == nil || !strings.Contains(err.Error(), "unfinished") {
					t.Errorf("pruning after %q = %v", step, err)
				}
				rotate(t, command)
				encrypting(t, command)
				all, _, err := command.KeyStatus(t.Context())
				if err != nil || len(all) != 2 || !all[1].Encrypts {
					t.Errorf("killed after %q, and finished, there are the keys %+v, %v", step, all, err)
				}
				if _, err := os.Stat(left); !os.IsNotExist(err) {
					t.Errorf("left behind: %v", err)
				}
				wantPasswords(t, serving, "Spain2", "Trento")
			}
		})
	}
}

// Two rotations of one file would each undo what the other adds.
func TestRotateAlone(t *testing.T) {
	k := newKeyring(t, "sqlite", "Trento")
	one, two := k.start(t, k.path), k.start(t, k.path)
	store.AfterEachStep(one, func(string) error {
		if err := two.Rotate(t.Context(), quietly); err == nil || !strings.Contains(err.Error(), "another flavorsync keys is at work") {
			t.Errorf("a second one = %v", err)
		}
		return nil
	})
	rotate(t, one)
	rotate(t, two)
}

// The keyset is replaced where a link leads, as in a mounted directory.
func TestRotateThroughALink(t *testing.T) {
	k := newKeyring(t, "sqlite", "Trento")
	link := filepath.Join(t.TempDir(), "keyset.json")
	if err := os.Symlink(k.path, link); err != nil {
		t.Fatal(err)
	}
	serving, command := k.start(t, k.path), k.start(t, link)
	rotate(t, command)
	if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", st, err)
	}
	wantPasswords(t, serving, "Trento")
}

// A keyset that is root's for the group of the service, as a mounted secret is, can
// be used; and the service's own stays the service's when root rotates it.
func TestRotateKeepsOwnerAndMode(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	k := newKeyring(t, "sqlite", "Trento")
	if err := errors.Join(os.Chown(k.path, 12345, 12346), os.Chmod(k.path, 0o440)); err != nil { //nolint:gosec // what a mounted secret has
		t.Fatal(err)
	}
	rotate(t, k.start(t, k.path))
	st, err := os.Stat(k.path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := st.Sys().(*syscall.Stat_t); owner.Uid != 12345 || owner.Gid != 12346 || st.Mode().Perm() != 0o440 {
		t.Errorf("it is now %d:%d's, with mode %o", owner.Uid, owner.Gid, st.Mode().Perm())
	}
	for _, mode := range []os.FileMode{0o444, 0o460, 0o641} {
		if err := os.Chmod(k.path, mode); err != nil {
			t.Fatal(err)
		}
		if _, _, err := store.LoadKeyset(k.path, nil); err == nil {
			t.Errorf("mode %o was taken", mode)
		}
	}
}

// A file that is replaced by a wrong one must not stop what serves.
func TestReloadKeepsWhatWorks(t *testing.T) {
	k := newKeyring(t, "sqlite", "Trento")
	serving := k.start(t, k.path)
	announced, err := serving.Announce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(k.path)
	if err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(t.TempDir(), "foreign.json")
	if _, err := sibling(t, "sqlite", foreign); err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(foreign)
	if err != nil {
		t.Fatal(err)
	}
	for content, words := range map[string]string{string(other): "stays in use", string(good[:len(good)/2]): "not a tink keyset"} {
		if err := os.WriteFile(k.path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := announced.Look(t.Context()); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("a wrong keyset = %v", err)
		}
		wantPasswords(t, serving, "Trento")
	}
	if err := os.Remove(k.path); err != nil {
		t.Fatal(err)
	}
	if err := announced.Look(t.Context()); err == nil {
		t.Error("nobody is told that the keyset is gone")
	}
	wantPasswords(t, serving, "Trento")
	if err := os.WriteFile(k.path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := announced.Look(t.Context()); err != nil {
		t.Error(err)
	}
}

// Follow takes a changed file by itself, and ends when it is told to.
func TestFollow(t *testing.T) {
	k := newKeyring(t, "sqlite", "Trento")
	serving, command := k.start(t, k.path), k.start(t, k.path)
	announced, err := serving.Announce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		announced.Follow(ctx)
	}()
	if err := command.Rotate(t.Context(), store.Rotation{Wait: time.Minute, Tell: quietly.Tell}); err != nil {
		t.Error(err)
	}
	stop()
	<-done
	if err := announced.Withdraw(t.Context()); err != nil {
		t.Error(err)
	}
	if _, left, err := command.KeyStatus(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("after the end there serve %v, %v", left, err)
	}
}
