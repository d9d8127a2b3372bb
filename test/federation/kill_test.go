// Package federation holds the engine to what it promises under failure: processes
// are killed before each of their calls and commits, and random sequences of
// operations, faults and restarts are compared with a model.
package federation

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
	"github.com/flavorsync/flavorsync/internal/store"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

var update = flag.Bool("update", false, "write the lists of points at which processes are killed")

// errand is what the process that is to be killed is told, in its environment.
type errand struct {
	place
	Path, Token string
}

const victimVariable = "FEDERATION_TEST_VICTIM"

// beVictim goes one of the paths in a process of its own. Before each commit it
// asks the simulated cloud's server, which may kill it then.
func beVictim(told string) error {
	var e errand
	if err := json.Unmarshal([]byte(told), &e); err != nil {
		return err
	}
	cloud := strings.TrimSuffix(e.Keystone, "/identity/v3")
	tell := func(what string) {
		response, err := http.Get(cloud + "/_told/" + url.PathEscape(what))
		if err == nil {
			err = response.Body.Close()
		}
		if err != nil {
			panic(err)
		}
	}
	if e.Path == application.name {
		return serveVictim(e.place, tell)
	}
	p := paths[slices.IndexFunc(paths, func(p path) bool { return p.name == e.Path })]
	var onTheWay atomic.Bool
	ctx := context.Background()
	q, err := begin(ctx, e.place, p.policy, e.Driver == "sqlite", func() {
		if onTheWay.Load() {
			tell("commit " + committer())
		}
	})
	if err != nil {
		return err
	}
	onTheWay.Store(true)
	ctx = flavor.WithActor(ctx, flavor.Actor{Provider: "test", ID: "victim", Action: p.action})
	if err := p.do(ctx, q, flavor.Secret(e.Token)); err != nil {
		return err
	}
	tell("the caller has an answer")
	if p.engine {
		err = q.step(ctx)
	}
	return errors.Join(err, q.end())
}

// committer is the function that asked the store for the transaction that is about
// to be committed.
func committer() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		_, name, ours := strings.Cut(f.Function, "/internal/")
		switch {
		case !more:
			return "?"
		case !ours, strings.HasPrefix(name, "store.(*Tx).run"),
			strings.HasPrefix(name, "store.(*Store).Write"), strings.HasPrefix(name, "store.(*Store).retry"), strings.HasPrefix(name, "store.(*Store).observed"):
			continue
		}
		return name
	}
}

// executioner stands before the simulated cloud, lists the points that the victim
// comes by, and kills it at one of them: before the cloud sees the call, or before
// the commit. After a point is before the next: nothing that outlasts the process
// happens between the two.
type executioner struct {
	cloud http.Handler

	mu       sync.Mutex
	serving  sync.WaitGroup
	victim   *os.Process
	at       string
	nth      int
	points   []string
	answered bool
}

var anyID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

func (k *executioner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.serving.Add(1)
	defer k.serving.Done()
	what, told := strings.CutPrefix(r.URL.Path, "/_told/")
	if !told {
		what = r.Method + " " + anyID.ReplaceAllString(strings.Replace(r.URL.Path, known, "{known}", 1), "{id}")
	}
	if k.pass(what) {
		panic(http.ErrAbortHandler)
	}
	if !told {
		k.cloud.ServeHTTP(w, r)
	}
}

// pass notes what the victim is about to do, and says whether it has been killed.
func (k *executioner) pass(what string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.victim == nil {
		return false
	}
	if what == "the caller has an answer" {
		k.answered = true
	}
	k.points = append(k.points, what)
	if what != k.at {
		return false
	}
	if k.nth--; k.nth > 0 {
		return false
	}
	_ = k.victim.Signal(syscall.SIGKILL)
	k.victim = nil
	return true
}

// run has the errand done in a process of its own, and is true where that came to
// its end alive.
func (k *executioner) run(t *testing.T, e errand, at string, nth int) bool {
	t.Helper()
	var stderr strings.Builder
	cmd := e.command(t)
	cmd.Stderr = &stderr
	k.start(t, cmd, at, nth)
	err := cmd.Wait()
	k.leave()
	if err == nil {
		return true
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Fatalf("the victim died by itself at %s: %v %s", cmp.Or(at, "no point"), err, stderr.String())
	}
	return false
}

// command is the process that does the errand.
func (e errand) command(t *testing.T) *exec.Cmd {
	t.Helper()
	told, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), victimVariable+"="+string(told))
	return cmd
}

// start starts the victim, which is to be killed when it comes by a point the nth
// time; at none where that is "".
func (k *executioner) start(t *testing.T, cmd *exec.Cmd, at string, nth int) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k.victim, k.at, k.nth, k.points, k.answered = cmd.Process, at, nth, nil, false
}

// leave spares the victim from now on, and returns when nothing more is done for it.
// It is true where the victim has been killed.
func (k *executioner) leave() (killed bool) {
	k.mu.Lock()
	killed = k.victim == nil
	k.victim = nil
	k.mu.Unlock()
	k.serving.Wait()
	return killed
}

// known is the id of the flavor that all paths are about.
const known = "6b1f7a52-93c5-4c3f-8f0e-6f7a52b193c5"

func wanted() flavor.Spec {
	return flavor.Spec{
		Name: "wanted", VCPUs: 2, RAM: 2048, Disk: 20, RxTxFactor: 1, Description: "as it was",
		ExtraSpecs: map[string]string{"hw:cpu_policy": "dedicated", "quota:vif": "1"},
	}
}

func node(s flavor.Spec) flavor.NovaFlavor {
	return flavor.NovaFlavor{ID: known, Spec: s, IsPublic: true}
}

// path is one way through the code.
type path struct {
	name   string
	policy flavor.Policy
	action flavor.Action
	engine bool // the victim's engine works too
	// before makes the state where it begins.
	before func(ctx context.Context, q *process, cloud *simstack.Stack) error
	do     func(ctx context.Context, q *process, token flavor.Secret) error
	// unasked: what is to come of it comes without anybody's asking for it again.
	unasked bool
	// what the regions have at its beginning and at its end, and whether the
	// flavor is in the catalogue then.
	first, last []flavor.NovaFlavor
	unlisted    bool
}

func create(ctx context.Context, q *process, _ *simstack.Stack) error {
	s, id := wanted(), known
	f, err := q.market.CreatePromoted(ctx, manager, flavor.Patch{
		ID: &id, Name: &s.Name, VCPUs: &s.VCPUs, RAM: &s.RAM, Disk: &s.Disk, Description: &s.Description, ExtraSpecs: &s.ExtraSpecs,
	})
	if err == nil && f.ID != known {
		err = fmt.Errorf("the flavor has the id %s", f.ID)
	}
	return err
}

func install(ctx context.Context, q *process) error {
	_, _, err := q.market.ChangeFlavor(ctx, manager, known, "", flavor.Patch{Nodes: &everywhere}, false)
	return err
}

var everywhere = []string{"Spain2", "Trento"}

func installed(ctx context.Context, q *process, cloud *simstack.Stack) error {
	return errors.Join(create(ctx, q, cloud), install(ctx, q))
}

// altered is a node that somebody altered behind our back, in Trento.
func altered(alter func(*flavor.Spec)) func(context.Context, *process, *simstack.Stack) error {
	return func(ctx context.Context, q *process, cloud *simstack.Stack) error {
		if err := installed(ctx, q, cloud); err != nil {
			return err
		}
		s := wanted()
		alter(&s)
		cloud.DeleteFlavor("Trento", known)
		cloud.AddFlavor("Trento", node(s))
		return q.market.Observe(ctx, "Trento")
	}
}

func nothing(context.Context, *process, flavor.Secret) error { return nil }

func described() flavor.Spec {
	s := wanted()
	s.Description, s.ExtraSpecs = "as it is now", map[string]string{"hw:cpu_policy": "shared"}
	return s
}

func bigger() flavor.Spec {
	s := wanted()
	s.Name, s.RAM = "bigger", 4096
	return s
}

var (
	yes       = true
	installs  = flavor.Policy{PolicyPart: flavor.PolicyPart{Install: &yes}}
	repairs   = flavor.Policy{PolicyPart: flavor.PolicyPart{Repair: &yes}}
	asWanted  = []flavor.NovaFlavor{node(wanted())}
	noFlavors []flavor.NovaFlavor
)

var paths = []path{
	{
		name: "install-waited-for", action: flavor.InstallFlavor, before: create, first: noFlavors, last: asWanted,
		do: func(ctx context.Context, q *process, _ flavor.Secret) error { return install(ctx, q) },
	},
	{
		name: "install-not-waited-for", action: flavor.InstallFlavor, before: create, first: noFlavors, last: asWanted,
		do: func(ctx context.Context, q *process, _ flavor.Secret) error {
			_, _, err := q.market.ChangeFlavor(ctx, manager, known, "", flavor.Patch{Nodes: &everywhere}, true)
			return err
		},
	},
	{
		name: "install-automatic", action: flavor.InstallFlavor, policy: installs, engine: true, unasked: true,
		before: create, do: nothing, first: noFlavors, last: asWanted,
	},
	{
		name: "remove", action: flavor.DeleteFlavor, before: installed, first: asWanted, last: noFlavors,
		do: func(ctx context.Context, q *process, _ flavor.Secret) error {
			return q.market.DeleteFlavor(ctx, owner("Trento"), known, "Trento")
		},
	},
	{
		name: "uninstall", action: flavor.DeletePromoted, before: installed, first: asWanted, last: noFlavors, unlisted: true,
		do: func(ctx context.Context, q *process, _ flavor.Secret) error {
			return q.market.DeletePromoted(ctx, manager, known, true)
		},
	},
	{
		name: "change-careful", action: flavor.ChangeRegionFlavor, first: asWanted, last: []flavor.NovaFlavor{node(bigger())}, unlisted: true,
		before: func(_ context.Context, _ *process, cloud *simstack.Stack) error {
			cloud.AddFlavor("Trento", node(wanted()))
			return nil
		},
		do: func(ctx context.Context, q *process, token flavor.Secret) error {
			s := bigger()
			_, err := q.market.ChangeRegionFlavor(ctx, owner("Trento"), "Trento", token, known, flavor.Patch{RAM: &s.RAM, Name: &s.Name})
			return err
		},
	},
	{
		name: "change-spread", action: flavor.ChangePromoted, before: installed, first: asWanted, last: []flavor.NovaFlavor{node(described())},
		do: func(ctx context.Context, q *process, _ flavor.Secret) error {
			s := described()
			_, err := q.market.ChangePromoted(ctx, manager, known, flavor.Patch{Description: &s.Description, ExtraSpecs: &s.ExtraSpecs})
			return err
		},
	},
	{
		name: "repair-missing", action: flavor.InstallFlavor, policy: repairs, engine: true, unasked: true, do: nothing, last: asWanted,
		before: func(ctx context.Context, q *process, cloud *simstack.Stack) error {
			err := installed(ctx, q, cloud)
			cloud.DeleteFlavor("Trento", known)
			return errors.Join(err, q.market.Observe(ctx, "Trento"))
		},
	},
	{
		name: "repair-in-place", action: flavor.InstallFlavor, policy: repairs, engine: true, unasked: true, do: nothing, last: asWanted,
		before: altered(func(s *flavor.Spec) { s.Description, s.ExtraSpecs = "by hand", map[string]string{"own": "1"} }),
	},
	{
		name: "repair-of-a-size", action: flavor.InstallFlavor, policy: repairs, engine: true, unasked: true, do: nothing, last: asWanted,
		before: altered(func(s *flavor.Spec) { s.RAM = 512 }),
	},
}

// Wherever a process is killed on its way, before or after any of its calls and
// commits, the next one comes to the same end: what was written down is done, what
// was not has never begun, and nothing is there twice or half.
func TestKilledAnywhere(t *testing.T) {
	for _, driver := range storetest.Drivers {
		for _, p := range paths {
			t.Run(p.name+"/"+driver, func(t *testing.T) {
				t.Parallel()
				newScaffold(t, driver, p).killEverywhere(t)
			})
		}
	}
}

// scaffold is where a path's processes are killed.
type scaffold struct {
	path
	place
	cloud *simstack.Stack
	k     *executioner
}

func newScaffold(t *testing.T, driver string, p path) *scaffold {
	t.Helper()
	cloud := simstack.New(simstack.Options{Regions: everywhere})
	k := &executioner{cloud: cloud.Handler()}
	server := httptest.NewServer(k)
	t.Cleanup(server.Close)
	cloud.SetBaseURL(server.URL)
	s := &scaffold{path: p, cloud: cloud, k: k, place: place{
		Driver: driver, DSN: storetest.DSN(t, driver), Keyset: filepath.Join(t.TempDir(), "keyset.json"),
		Keystone: cloud.KeystoneURL(), Timeout: 10 * time.Second,
	}}
	if err := s.migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *scaffold) killEverywhere(t *testing.T) {
	s.prepare(t)
	if !s.k.run(t, s.errand(), "", 0) {
		t.Fatal("nobody was to be killed")
	}
	points := s.k.points
	s.restart(t, "nowhere", true)
	golden(t, filepath.Join("testdata", "kill", s.name+"."+s.Driver), points)
	times := map[string]int{}
	for _, point := range points {
		times[point]++
		s.prepare(t)
		if s.k.run(t, s.errand(), point, times[point]) {
			// Which of two that run side by side does a thing for both may change.
			t.Logf("it did not come by %s the %d. time", point, times[point])
		}
		s.restart(t, fmt.Sprintf("before %s, the %d. time", point, times[point]), s.k.answered)
		if t.Failed() {
			return
		}
	}
}

func golden(t *testing.T, file string, points []string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(points, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// Regions are called side by side.
	want := slices.Sorted(strings.Lines(string(text)))
	got := slices.Sorted(strings.Lines(strings.Join(points, "\n") + "\n"))
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("the path is another than in %s (-update writes it):\n%s", file, diff)
	}
}

func (s *scaffold) errand() errand {
	return errand{place: s.place, Path: s.name, Token: s.cloud.IssueToken("operator", "operators")}
}

// process begins a process, and fails the test where it cannot.
func (s *scaffold) process(t *testing.T) *process {
	t.Helper()
	q, err := begin(t.Context(), s.place, s.policy, s.Driver == "sqlite", nil)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// prepare makes the state where the path begins.
func (s *scaffold) prepare(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	s.cloud.Reset()
	q := s.process(t)
	err := q.exec(ctx, "DELETE FROM flavor_changes", "DELETE FROM operation_nodes", "DELETE FROM operations", "DELETE FROM installations",
		"DELETE FROM flavors", "DELETE FROM regions", "DELETE FROM audit", "DELETE FROM leases")
	for _, name := range everywhere {
		err = errors.Join(err, q.store.Write(ctx, func(tx *store.Tx) error {
			return tx.InsertRegion(flavor.Region{
				Name: name, KeystoneURL: s.Keystone, Username: "operator", Password: "operator-secret",
				Tenant: "operators", UserDomain: "Default", ProjectDomain: "Default",
			})
		}))
	}
	if err := errors.Join(err, s.end(ctx, q, func() error { return s.before(ctx, q, s.cloud) })); err != nil {
		t.Fatal(err)
	}
}

// end does something more with q, and looks at all regions, so that no look is due.
func (s *scaffold) end(ctx context.Context, q *process, do func() error) error {
	err := do()
	for _, name := range everywhere {
		err = errors.Join(err, q.market.Observe(ctx, name))
	}
	return errors.Join(err, q.end())
}

// restart begins another process after the first one's death, sees to it that what
// was wanted is so, and that to ask for it again brings the rest.
func (s *scaffold) restart(t *testing.T, killed string, answered bool) {
	t.Helper()
	ctx := t.Context()
	q := s.process(t)
	defer func() {
		if err := q.end(); err != nil {
			t.Errorf("killed %s: %v", killed, err)
		}
	}()
	begun, err := s.begun(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.settle(ctx, func() error { return q.later(ctx) }); err != nil {
		t.Fatalf("killed %s: %v: %s", killed, err, s.told(ctx, q))
	}
	q.market.Close() // its looks are over
	has := s.cloud.Flavors("Trento")
	whole := gocmp.Equal(s.last, has)
	switch {
	case s.unasked, answered, begun && s.name != "change-careful":
		if !whole {
			t.Errorf("killed %s (answered: %v, written down: %v): %s\n%s", killed, answered, begun, gocmp.Diff(s.last, has), s.told(ctx, q))
		}
	case !whole && !gocmp.Equal(s.first, has):
		t.Errorf("killed %s: what was not wanted yet is half done: %s", killed, gocmp.Diff(s.first, has))
	}
	again := flavor.WithActor(ctx, flavor.Actor{Provider: "test", ID: "again", Action: s.action})
	switch err := s.do(again, q, flavor.Secret(s.cloud.IssueToken("operator", "operators"))); flavor.CodeOf(err) {
	case "", flavor.CodeNotFound, flavor.CodeForbidden: // it is gone
	default:
		t.Errorf("killed %s, and asked for again: %v", killed, err)
	}
	q.market.Close()
	if err := q.settle(ctx, func() error { return q.later(ctx) }); err != nil {
		t.Fatalf("killed %s, and asked for again: %v: %s", killed, err, s.told(ctx, q))
	}
	s.atTheEnd(t, killed, q)
}

// begun says whether something was written down that is to be done.
func (s *scaffold) begun(ctx context.Context, q *process) (begun bool, err error) {
	n, err := q.count(ctx, "SELECT COUNT(*) FROM operation_nodes WHERE state IN ('waiting', 'running')")
	return n > 0, err
}

// atTheEnd compares what there is with what there is to be.
func (s *scaffold) atTheEnd(t *testing.T, killed string, q *process) {
	t.Helper()
	ctx := t.Context()
	elsewhere := s.last
	switch s.name {
	case "remove":
		elsewhere = s.first // nobody spoke of Spain2
	case "change-careful":
		elsewhere = noFlavors
	}
	for region, want := range map[string][]flavor.NovaFlavor{"Trento": s.last, "Spain2": elsewhere} {
		if diff := gocmp.Diff(want, s.cloud.Flavors(region)); diff != "" {
			t.Errorf("killed %s: %s: %s", killed, region, diff)
		}
		err := q.store.Read(ctx, func(tx *store.Tx) error {
			rows, err := tx.InstallationsIn(region)
			noted := 0
			if !s.unlisted {
				noted = len(want)
			}
			if err == nil && (len(rows) != noted || noted == 1 && (!rows[0].Created || rows[0].NodeID != known)) {
				err = fmt.Errorf("%s has %d flavors, and noted are %+v", region, len(want), rows)
			}
			return err
		})
		if err != nil {
			t.Errorf("killed %s: %v", killed, err)
		}
	}
	s.operationsAreTrue(t, killed, q)
	s.auditIsTrue(t, killed, q)
}

func (s *scaffold) operationsAreTrue(t *testing.T, killed string, q *process) {
	t.Helper()
	all, _, err := q.market.Operations(t.Context(), manager, flavor.OperationFilter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		if o.State != flavor.Succeeded {
			t.Errorf("killed %s: an operation did not succeed: %+v", killed, o)
		}
	}
	if _, err := q.market.PromotedFlavor(t.Context(), known); err != nil != s.unlisted {
		t.Errorf("killed %s: the catalogue's flavor: %v", killed, err)
	}
}

// auditIsTrue: what was done in a Nova is told of once as done.
func (s *scaffold) auditIsTrue(t *testing.T, killed string, q *process) {
	t.Helper()
	lines, _, err := q.market.Audit(t.Context(), manager, flavor.AuditFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	done, begun := map[string]int{}, map[string]int{}
	for _, e := range lines {
		if e.Object != flavor.AuditedRegionFlavor {
			continue
		}
		what := fmt.Sprintf("%s: %v -> %v", e.Region, e.Before, e.After)
		switch e.Outcome {
		case flavor.Success:
			done[what]++
		case flavor.Pending:
			begun[what]++
		}
	}
	for what, n := range done {
		if n > 1 {
			t.Errorf("killed %s: the audit tells %d times that it was done: %s", killed, n, what)
		}
	}
	if len(done)+len(begun) == 0 && s.action != "" {
		t.Errorf("killed %s: the audit tells nothing", killed)
	}
}

// told is what is written down of the operations, for a failure.
func (s *scaffold) told(ctx context.Context, q *process) string {
	all, _, err := q.market.Operations(ctx, manager, flavor.OperationFilter{Limit: 100})
	return fmt.Sprintf("%+v %v", all, err)
}
