package federation

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/events"
	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/httpapi"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/simstack"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// declaration is what flavorsync apply is to bring about: wanted changes where it is
// installed, spread is in the catalogue and is to be everywhere, and created is new.
const declaration = `flavors:
  - {name: wanted, vcpus: 2, ram: 2048, disk: 20, description: as it is now, extra_specs: {"hw:cpu_policy": shared}}
  - {name: spread, vcpus: 1, ram: 1024, disk: 10, extra_specs: {"quota:vif": "2"}, nodes: [Spain2, Trento]}
  - {name: created, vcpus: 4, ram: 4096, disk: 40, extra_specs: {"hw:mem_page_size": large}}
`

const spreadID = "93c5f4a1-0d5e-4b5e-9a59-0d5e4b5e9a59"

func spread() flavor.Spec {
	return flavor.Spec{Name: "spread", VCPUs: 1, RAM: 1024, Disk: 10, RxTxFactor: 1, ExtraSpecs: map[string]string{"quota:vif": "2"}}
}

// created has no node.
func created() flavor.Spec {
	return flavor.Spec{Name: "created", VCPUs: 4, RAM: 4096, Disk: 40, RxTxFactor: 1, ExtraSpecs: map[string]string{"hw:mem_page_size": "large"}}
}

// application is the path of a process that answers flavorsync apply. It asks for
// no more than that: what the engine does by itself is the other paths' matter.
var application = path{
	name: "apply",
	before: func(ctx context.Context, q *process, cloud *simstack.Stack) error {
		s, id := spread(), spreadID
		_, err := q.market.CreatePromoted(ctx, manager, flavor.Patch{
			ID: &id, Name: &s.Name, VCPUs: &s.VCPUs, RAM: &s.RAM, Disk: &s.Disk, ExtraSpecs: &s.ExtraSpecs,
		})
		return errors.Join(err, installed(ctx, q, cloud))
	},
	last: []flavor.NovaFlavor{node(described()), {ID: spreadID, Spec: spread(), IsPublic: true}},
}

// Wherever the server or flavorsync apply itself is killed, apply tells of no success
// that is none, and the next apply ends what the first began: the catalogue is as
// declared, each region has each flavor once and whole, and nothing stays open.
func TestApplyKilledAnywhere(t *testing.T) {
	t.Parallel()
	command := built(t)
	for _, driver := range storetest.Drivers {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			for name, kill := range map[string]func(*applied, *testing.T){
				"server": (*applied).killServer, "client": (*applied).killClient,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					kill(&applied{scaffold: newScaffold(t, driver, application), command: command, file: declare(t)}, t)
				})
			}
		})
	}
}

// built is the flavorsync command.
func built(t *testing.T) string {
	t.Helper()
	if binary := os.Getenv("FLAVORSYNC_TEST_BINARY"); binary != "" {
		return binary
	}
	binary := filepath.Join(t.TempDir(), "flavorsync")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/flavorsync/flavorsync/cmd/flavorsync")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building flavorsync: %v\n%s", err, output)
	}
	return binary
}

func declare(t *testing.T) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "flavors.yaml")
	if err := os.WriteFile(file, []byte(declaration), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// applied is where declaration is applied.
type applied struct {
	*scaffold
	command, file string
}

// killServer kills the server before each of its calls and commits.
func (a *applied) killServer(t *testing.T) {
	times := map[string]int{}
	points := []string{""} // killed nowhere, to learn the points
	for i := 0; i < len(points); i++ {
		point := points[i]
		times[point]++
		killed := "nowhere"
		if point != "" {
			killed = fmt.Sprintf("before %s, the %d. time", point, times[point])
		}
		a.prepare(t)
		died, status, told := a.served(t, point, times[point])
		if point == "" {
			points = append(points, a.k.points...)
			golden(t, filepath.Join("testdata", "kill", a.name+"."+a.Driver), a.k.points)
		} else if !died {
			t.Logf("it did not come by %s the %d. time", point, times[point])
		}
		a.noFalseSuccess(t, killed, died, status, told)
		q := a.process(t)
		server, stop := q.work(t)
		a.again(t, killed, server)
		stop()
		a.asDeclared(t, killed, q, false)
		if err := q.end(); err != nil {
			t.Errorf("killed %s: %v", killed, err)
		}
		if t.Failed() {
			return
		}
	}
}

// served applies the file to a server that is killed at a point, and tells how apply
// ended and what it said.
func (a *applied) served(t *testing.T, at string, nth int) (killed bool, status int, told string) {
	t.Helper()
	server := a.errand().command(t)
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.k.start(t, server, at, nth)
	address, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		status, told = ended(t, a.apply(t, "http://"+strings.TrimSpace(address)))
	}
	killed = a.k.leave()
	_ = server.Process.Kill()
	_ = server.Wait() // it has been killed
	if err != nil {
		t.Fatalf("the server does not say where it listens: %v", err)
	}
	return killed, status, told
}

// noFalseSuccess: where apply says that all is done, it is, and where the server was
// killed under it, it failed.
func (a *applied) noFalseSuccess(t *testing.T, killed string, died bool, status int, told string) {
	t.Helper()
	switch {
	case !died && status != 0, died && status != 0 && status != 1:
		t.Errorf("killed %s: apply ended with %d: %s", killed, status, told)
	case status == 0:
		for _, region := range everywhere {
			if diff := gocmp.Diff(a.last, a.cloud.Flavors(region)); diff != "" {
				t.Errorf("killed %s: apply tells of a success, and %s is other than declared:\n%s\n%s", killed, region, diff, told)
			}
		}
	}
}

// killClient kills apply between any two of its requests: before the server sees one
// and, as what it does then is nobody's to hear, while the server carries one out.
func (a *applied) killClient(t *testing.T) {
	for _, passed := range []bool{false, true} {
		times := map[string]int{}
		points := []string{""}
		for i := 0; i < len(points); i++ {
			point := points[i]
			times[point]++
			killed := fmt.Sprintf("as apply before %s, the %d. time (which the server saw: %v)", point, times[point], passed)
			a.prepare(t)
			q := a.process(t)
			server, stop := q.work(t)
			k := &executioner{cloud: q.api()}
			front := httptest.NewServer(k.letting(passed))
			apply := a.apply(t, front.URL)
			k.start(t, apply, point, times[point])
			status, told := wait(t, apply)
			died := k.leave()
			front.Close()
			switch {
			case point == "":
				points = append(points, k.points...)
			case !died:
				t.Logf("it did not send %s the %d. time", point, times[point])
			}
			if !died && status != 0 {
				t.Errorf("killed %s: apply ended with %d: %s", killed, status, told)
			}
			a.again(t, killed, server)
			stop()
			a.asDeclared(t, killed, q, passed)
			if err := q.end(); err != nil {
				t.Errorf("killed %s: %v", killed, err)
			}
			if t.Failed() {
				return
			}
		}
	}
}

// again applies the file after somebody's death: everything is done then, so that the
// next time nothing is left.
func (a *applied) again(t *testing.T, killed, server string) {
	t.Helper()
	if status, told := ended(t, a.apply(t, server)); status != 0 {
		t.Errorf("killed %s: the next apply ended with %d: %s", killed, status, told)
	}
	if status, told := ended(t, a.apply(t, server)); status != 0 || !strings.HasSuffix(told, "nothing to do\n") {
		t.Errorf("killed %s: the one after the next found something to do, and ended with %d: %s", killed, status, told)
	}
}

// asDeclared compares all that there is with what is declared. An operation may have
// failed where its caller went away from it: what it had begun is undone then.
func (a *applied) asDeclared(t *testing.T, killed string, q *process, mayFail bool) {
	t.Helper()
	ctx := t.Context()
	if err := q.settle(ctx, func() error { return q.later(ctx) }); err != nil {
		t.Errorf("killed %s: %v: %s", killed, err, a.told(ctx, q))
	}
	for _, region := range everywhere {
		if diff := gocmp.Diff(a.last, a.cloud.Flavors(region)); diff != "" {
			t.Errorf("killed %s: %s: %s", killed, region, diff)
		}
	}
	all, err := q.market.PromotedFlavors(ctx)
	if err != nil {
		t.Fatal(err)
	}
	has := map[string][]flavor.Spec{}
	for _, f := range all {
		has[f.Name] = append(has[f.Name], f.Spec)
	}
	want := map[string][]flavor.Spec{"wanted": {described()}, "spread": {spread()}, "created": {created()}}
	if diff := gocmp.Diff(want, has); diff != "" {
		t.Errorf("killed %s: the catalogue: %s", killed, diff)
	}
	noted, err := q.count(ctx, "SELECT COUNT(*) FROM installations")
	if err != nil || noted != len(everywhere)*len(a.last) {
		t.Errorf("killed %s: %d nodes are noted: %v", killed, noted, err)
	}
	operations, _, err := q.market.Operations(ctx, manager, flavor.OperationFilter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range operations {
		if o.State != flavor.Succeeded && (o.State != flavor.Failed || !mayFail) {
			t.Errorf("killed %s: an operation did not succeed: %+v", killed, o)
		}
	}
}

// apply is the command that applies the file to a server.
func (a *applied) apply(t *testing.T, server string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), a.command, "apply", "-f", a.file)
	cmd.Env = append(os.Environ(), "no_proxy=*", "GORACE=atexit_sleep_ms=0",
		"FLAVORSYNC_URL="+server, "FLAVORSYNC_USERNAME=", "FLAVORSYNC_TOKEN=manager")
	cmd.Stdout = new(strings.Builder)
	cmd.Stderr = cmd.Stdout
	return cmd
}

// ended runs cmd, and tells its exit status and what it said.
func ended(t *testing.T, cmd *exec.Cmd) (status int, told string) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return wait(t, cmd)
}

// wait is ended of a cmd that runs; the status is -1 of one that was killed.
func wait(t *testing.T, cmd *exec.Cmd) (status int, told string) {
	t.Helper()
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), fmt.Sprint(cmd.Stdout)
}

// letting lets the call pass at which a victim dies, or does not.
func (k *executioner) letting(pass bool) http.Handler {
	if !pass {
		return k
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if dead := recover(); dead != nil {
				k.cloud.ServeHTTP(w, r)
			}
		}()
		k.ServeHTTP(w, r)
	})
}

// serveVictim answers at an address that it prints, until it is killed.
func serveVictim(p place, tell func(string)) error {
	var listens atomic.Bool
	ctx := context.Background()
	q, err := begin(ctx, p, flavor.Policy{}, p.Driver == "sqlite", func() {
		if listens.Load() {
			tell("commit " + committer())
		}
	})
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	listens.Store(true)
	fmt.Println(l.Addr())
	return q.api().Serve(ctx, l)
}

// api answers the HTTP API for q.
func (q *process) api() *httpapi.Server {
	log := slog.New(slog.DiscardHandler)
	return httpapi.New(httpapi.Config{
		Market: q.market, Identity: everybody{}, Events: events.New(events.Config{Store: q.store, Log: log}), Log: log, Ready: q.store.Ping,
	})
}

// everybody is the manager.
type everybody struct{}

func (everybody) Authenticate(context.Context, identity.Credential) (flavor.Principal, error) {
	return manager, nil
}

// work does what serve does, engine and all, at an address, until stop. The claims of
// those that died before it have run out by then; what they had begun has not ended.
func (q *process) work(t *testing.T) (address string, stop func()) {
	t.Helper()
	if err := q.later(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		q.engine.Run(ctx)
	}()
	server := httptest.NewServer(q.api())
	return server.URL, func() {
		server.Close()
		cancel()
		<-over
	}
}
