// Package contract_test states the HTTP contract as a black-box suite: it
// builds the flavorsync command, starts `flavorsync serve`, speaks HTTP with it
// and then looks at its answers, at what it says of its catalogue, and at what
// every Nova holds.
//
// The suite is written once and runs against four set-ups: SQLite and MariaDB,
// each with a simulated and with a real Keystone and three real Novas. What a
// set-up needs and is not there is skipped by name; with CI=true it fails.
//
//	FLAVORSYNC_TEST_MYSQL_DSN      user:password@tcp(127.0.0.1:3306)/  a server on which databases may be created
//	FLAVORSYNC_TEST_KEYSTONE_URL   http://127.0.0.1:5000/v3            with Spain2, Trento and Lannion2 in its catalog
//	FLAVORSYNC_TEST_NOVA_COLLATION blind                               where those Novas cannot tell case apart
//	FLAVORSYNC_TEST_RACE           1                                   builds the command with the race detector, but for real OpenStack
//	FLAVORSYNC_TEST_BINARY         a path                              tests that command instead of building one
package contract_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/flavorsync/flavorsync/api/apitest"
)

// The command under test: quick is without the race detector, and answers where real
// Novas take the time; what races there races with simulated ones, too.
var binary, quick string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if binary = os.Getenv("FLAVORSYNC_TEST_BINARY"); binary != "" {
		quick = binary
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "flavorsync-contract-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "contract:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	quick = filepath.Join(dir, "flavorsync")
	binary = quick
	err = build(quick)
	if err == nil && os.Getenv("FLAVORSYNC_TEST_RACE") != "" {
		binary = filepath.Join(dir, "flavorsync-race")
		err = build(binary, "-race", "-gcflags=modernc.org/sqlite/lib=-race=false") // SQLite is slow with it, and not ours
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "contract: building the command under test:", err)
		return 1
	}
	return m.Run()
}

func build(output string, flags ...string) error {
	args := slices.Concat([]string{"build", "-o", output}, flags, []string{"github.com/flavorsync/flavorsync/cmd/flavorsync"})
	if told, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, told)
	}
	return nil
}

// A chapter is one part of the contract. Chapters run side by side on the
// set-up's one server, so each speaks of flavors and regions of its own; those
// that look at everything, or break things, start servers of their own.
type chapter struct {
	name string
	run  func(t *testing.T, s *setup)
}

// alone holds the chapters that compare the whole state of the Novas before
// and after: nobody else may write meanwhile.
var alone = []chapter{
	{"bad input", badInput},
}

var together = []chapter{
	{"paths", paths},
	{"credentials", credentials},
	{"roles", roles},
	{"authorization", authorization},
	{"audit", audit},
	{"status", status},
	{"events", events},
	{"OpenID Connect", openID},
	{"negotiation", negotiation},
	{"bodies", bodies},
	{"paging", paging},
	{"conditional requests", conditional},
	{"promoted flavors", promoted},
	{"regions", regions},
	{"private flavors", private},
	{"changing a private flavor", carefulChange},
	{"infrastructures", infrastructures},
	{"service accounts", serviceAccounts},
	{"Keystone as identity provider", keystoneIdentity},
	{"who sees what", visibility},
	{"creating flavors", creating},
	{"publishing", publishing},
	{"identity of flavors", identities},
	{"order of the checks", checkOrder},
	{"installing", installing},
	{"removing", removing},
	{"several nodes", severalNodes},
	{"operations", operations},
	{"the API and the engine apart", apart},
	{"promotion by itself", promotion},
	{"promotion by hand", promotionByHand},
	{"coverage and compliance", compliance},
	{"drift", drift},
	{"products", products},
	{"products by a formula", pricedByFormula},
	{"GPUs", gpus},
	{"GLUE 2.1", glue2},
	{"matching", matching},
	{"regions that fail", failures},
	{"strange answers", strangeAnswers},
	{"tokens stay home", tokensStayHome},
	{"UCloud", ucloudProvider},
	{"ways to be a provider of UCloud", ucloudSetups},
	{"limits", limits},
	{"keys", rotation},
	{"the server", server},
}

func TestContract(t *testing.T) {
	t.Cleanup(func() {
		if !testing.Verbose() {
			return
		}
		for _, line := range apitest.Uncovered() {
			t.Logf("described, and seen by no test: %s", line)
		}
	})
	for _, s := range []*setup{
		{name: "SQLite and simulated OpenStack", database: "sqlite"},
		{name: "MariaDB and simulated OpenStack", database: "mysql"},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.states(t)
		})
	}
	// There is one real OpenStack: these come one after the other.
	t.Run("real OpenStack", func(t *testing.T) {
		t.Parallel()
		for _, s := range []*setup{
			{name: "SQLite", database: "sqlite", real: true},
			{name: "MariaDB", database: "mysql", real: true},
		} {
			t.Run(s.name, s.states)
		}
	})
}

// states goes through the contract with one set-up.
func (s *setup) states(t *testing.T) {
	s.start(t)
	for _, c := range alone {
		t.Run(c.name, func(t *testing.T) { c.run(t, s) })
	}
	t.Run("together", func(t *testing.T) {
		for _, c := range together {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, s)
			})
		}
	})
	t.Run("afterwards every request has its line in the log", func(t *testing.T) {
		s.product.checkRequestLog(t)
	})
	t.Run("afterwards the Novas hold what they held before", func(t *testing.T) {
		s.cloud.checkLeftovers(t)
	})
}

// missing skips the test, or fails it where everything must be there.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what + " (and CI=true: nothing may be skipped)")
	}
	t.Skip(what)
}
