package contract_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// keys runs flavorsync keys with the server's configuration, beside the server.
func (pr *product) keys(t *testing.T, args ...string) (output string, err error) {
	t.Helper()
	cmd := exec.Command(pr.command, append([]string{"keys", "--config", pr.config}, args...)...)
	cmd.Env = environment()
	text, err := cmd.CombinedOutput()
	if leaked := secrets.in(text); leaked != "" {
		t.Errorf("flavorsync keys tells a token or password (%s): %s", leaked, text)
	}
	return string(text), err
}

func (pr *product) mustKeys(t *testing.T, args ...string) string {
	t.Helper()
	output, err := pr.keys(t, args...)
	if err != nil {
		t.Fatalf("flavorsync keys %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return output
}

// rotation: the keys of the stored passwords change while the service runs.
func rotation(t *testing.T, s *setup) {
	t.Run("no request fails while keys rotate, and every service account still works", func(t *testing.T) {
		pr := s.serve(t)
		c := extra(t, "one", "two")
		c.register(t, s, pr)
		manager := pr.as(s.manager)
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		var calling sync.WaitGroup
		var calls atomic.Int64
		for _, region := range c.regions {
			calling.Go(func() { // the service account acts
				for n := unique(); ctx.Err() == nil; calls.Add(1) {
					f := manager.post(t, "/flavors", sized(n(fmt.Sprint(calls.Load()))).and("nodes", []string{region})).want(t, http.StatusCreated).flavor(t)
					manager.delete(t, "/flavors/"+f.ID).want(t, http.StatusNoContent)
				}
			})
			calling.Go(func() { // and its owner stores a password, which is the same one
				for ; ctx.Err() == nil; calls.Add(1) {
					manager.put(t, "/infrastructures/"+region, c.infrastructure(region).and("trusted", true)).want(t, http.StatusOK)
				}
			})
		}
		for range 3 {
			before := calls.Load()
			pr.mustKeys(t, "rotate", "--prune")
			eventually(t, "requests go on", func() bool { return calls.Load() > before })
		}
		stop()
		calling.Wait()
		t.Logf("%d rounds of calls during three rotations", calls.Load())
		if status := pr.mustKeys(t, "status"); strings.Count(status, "encrypts") != 1 || strings.Contains(status, "old") {
			t.Errorf("after three rotations: %s", status)
		}
		pr.terminate(t)
		pr.run(t) // it logs in anew, with what is stored
		for _, region := range c.regions {
			pr.as(s.manager).post(t, "/flavors", sized(unique()("x")).and("nodes", []string{region})).want(t, http.StatusCreated)
		}
	})

	if s.database == "mysql" {
		t.Run("a process with a copy of the keyset of its own is waited for", func(t *testing.T) {
			pr := s.serve(t)
			c := extra(t, "copied")
			c.register(t, s, pr)
			keyset := filepath.Join(filepath.Dir(pr.config), "keyset.json")
			copied := filepath.Join(t.TempDir(), "copy.json")
			copyKeyset := func() {
				content, err := os.ReadFile(keyset)
				if err == nil {
					err = os.WriteFile(copied, content, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			copyKeyset()
			other := pr.replica(t, with("credentials_keyset", copied))
			works := func(pr *product) {
				t.Helper()
				pr.as(s.manager).put(t, "/infrastructures/"+c.regions[0], c.infrastructure(c.regions[0]).and("trusted", true)).want(t, http.StatusOK)
				pr.as(s.manager).post(t, "/flavors", sized(unique()("x")).and("nodes", c.regions)).want(t, http.StatusCreated)
			}
			works(other)
			output, err := pr.keys(t, "rotate", "--wait", "3s")
			if err == nil || strings.Count(output, ", process ") != 1 || !strings.Contains(output, fmt.Sprint("process ", other.process.cmd.Process.Pid)) {
				t.Errorf("rotating with a process that lacks the key: %v\n%s", err, output)
			}
			works(pr)
			works(other)
			copyKeyset()
			pr.mustKeys(t, "rotate")
			works(pr)
			works(other)
			other.terminate(t)
		})
	}
}
