package contract_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/simstack"
	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// replicas are three servers on one database, before one simulated cloud.
type replicas struct {
	*setup
	gatehouse *gatehouse
	all       []*product
}

// startReplicas starts them, with the regions of the cloud registered. dsns are those of
// the one database, one for each server; without any it is a new one of the MariaDB.
func startReplicas(t *testing.T, regions int, dsns ...string) *replicas {
	t.Helper()
	r := &replicas{setup: &setup{database: "mysql"}}
	options := func(i int) []option {
		all := []option{with("engine", map[string]any{"region_timeout": r.regionTimeout().String(), "sweep_interval": "2s"})}
		if len(dsns) > 0 {
			all = append(all, with("database", map[string]any{"driver": "mysql", "dsn": dsns[i]}))
		}
		return all
	}
	if len(dsns) > 0 {
		r.database = "galera"
	} else if os.Getenv("FLAVORSYNC_TEST_MYSQL_DSN") == "" {
		missing(t, "MariaDB is missing: FLAVORSYNC_TEST_MYSQL_DSN is not set")
	}
	n := unique()
	var names []string
	for i := range regions {
		names = append(names, n(fmt.Sprintf("R%02d", i)))
	}
	r.cloud, r.gatehouse = guardedCloud(t, names)
	r.idm = startIDM(t)
	r.manager, r.user = r.idm.manager(t), r.idm.user(t)
	first := r.serve(t, options(0)...)
	r.all = []*product{first, first.replica(t, options(1)...), first.replica(t, options(2)...)}
	r.registerAll(t, first)
	return r
}

// onNodes is a DSN for each server: it has a node of its own, and goes to another when
// that is gone.
func onNodes(t *testing.T, nodes []string) (dsns []string) {
	t.Helper()
	for i := range nodes {
		dsns = append(dsns, storetest.Prefer(t, slices.Concat(nodes[i:], nodes[:i])...))
	}
	return dsns
}

// onEach runs test with servers on one MariaDB, and with servers on the nodes of Galera.
func onEach(t *testing.T, regions int, test func(*testing.T, *replicas)) {
	t.Run("MariaDB", func(t *testing.T) {
		t.Parallel()
		test(t, startReplicas(t, regions))
	})
	t.Run("Galera", func(t *testing.T) {
		t.Parallel()
		test(t, startReplicas(t, regions, onNodes(t, storetest.GaleraDSNs(t))...))
	})
}

// A gatehouse stands before a whole simulated cloud: it counts what was created and
// deleted there, and may hold a request.
type gatehouse struct {
	cloud http.Handler

	mu      sync.Mutex
	counts  map[string]int // of "METHOD region name-or-id" that Nova has done
	changed chan struct{}  // closed at the next count
	before  func(r *http.Request)
}

func guardedCloud(t *testing.T, regions []string) (*cloud, *gatehouse) {
	t.Helper()
	stack := simstack.New(simstack.Options{Regions: regions})
	g := &gatehouse{cloud: stack.Handler(), counts: make(map[string]int), changed: make(chan struct{})}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(stack.ClearFaults)
	stack.SetBaseURL(server.URL)
	return &cloud{keystone: stack.KeystoneURL(), regions: regions, stack: stack}, g
}

func (g *gatehouse) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	before := g.before
	g.mu.Unlock()
	if before != nil {
		before(r)
	}
	region, rest, nova := strings.Cut(strings.TrimPrefix(r.URL.Path, "/compute/"), "/v2.1/flavors")
	what := strings.TrimPrefix(rest, "/")
	if !nova || r.Method != http.MethodPost && r.Method != http.MethodDelete || strings.Contains(what, "/") {
		g.cloud.ServeHTTP(w, r)
		return
	}
	if what == "" { // a creation
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var sent struct{ Flavor struct{ Name string } }
		if json.Unmarshal(body, &sent) == nil {
			what = sent.Flavor.Name
		}
	}
	answer := httptest.NewRecorder()
	g.cloud.ServeHTTP(answer, r)
	if answer.Code < 300 {
		g.count(r.Method + " " + region + " " + what)
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func (g *gatehouse) count(what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts[what]++
	close(g.changed)
	g.changed = make(chan struct{})
}

// done is how often Nova has done what begins so.
func (g *gatehouse) done(prefix string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for what, times := range g.counts {
		if strings.HasPrefix(what, prefix) {
			n += times
		}
	}
	return n
}

// await waits until Nova has done n times what begins so.
func (g *gatehouse) await(t *testing.T, n int, prefix string) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		g.mu.Lock()
		changed := g.changed
		g.mu.Unlock()
		if g.done(prefix) >= n {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			t.Fatalf("within %s Nova has done %q %d times, not %d", patience, prefix, g.done(prefix), n)
		}
	}
}

// hold has the first request that is meant wait before the cloud sees it: arrived is
// closed when it is there, and it goes on when release is called, or is cut off then.
func (g *gatehouse) hold(t *testing.T, cut bool, meant func(*http.Request) bool) (arrived <-chan struct{}, release func()) {
	there, gone := make(chan struct{}), make(chan struct{})
	var once sync.Once
	release = sync.OnceFunc(func() { close(gone) })
	t.Cleanup(release)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.before = func(r *http.Request) {
		first := false
		if meant(r) {
			once.Do(func() { first = true })
		}
		if first {
			close(there)
			<-gone
			if cut {
				panic(http.ErrAbortHandler)
			}
		}
	}
	return there, release
}

// stop has the process stand still, as on a machine that swaps or migrates, until wake.
func (pr *product) stop(t *testing.T) {
	t.Helper()
	process := pr.process.cmd.Process
	t.Cleanup(func() { _ = process.Signal(syscall.SIGCONT) })
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

func (pr *product) wake(t *testing.T) {
	t.Helper()
	if err := pr.process.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// soon wants the answer to a GET that satisfies ok, of every request that begins a
// second after written or later.
func (c client) soon(t *testing.T, path string, written time.Time, what string, ok func(*answer) bool) {
	t.Helper()
	for {
		begun := time.Now()
		a := c.get(t, path)
		if ok(a) {
			return
		}
		if late := begun.Sub(written); late > time.Second {
			t.Fatalf("%s after the write it is not seen that %s: %s", late, what, a)
		}
	}
}

// What is done at one server is true at the others: at once where it decides what may
// be done, and within a second where it is only read.
func TestReplicasAgree(t *testing.T) { onEach(t, 2, agree) }

func agree(t *testing.T, r *replicas) {
	one, two, three := r.all[0].as(r.manager), r.all[1].as(r.manager), r.all[2].as(r.manager)
	region, n := r.cloud.regions[0], unique()

	for _, c := range []client{two, three} {
		c.get(t, "/infrastructures/"+region).want(t, http.StatusOK)
	}
	made := one.post(t, "/promotedflavors", sized(n("small"))).want(t, http.StatusCreated).flavor(t)
	written := time.Now()
	for _, c := range []client{two, three} {
		c.soon(t, "/promotedflavors", written, "there is a promoted flavor", func(a *answer) bool {
			_, there := find(a.flavors(t), made.ID, "")
			return there
		})
	}
	two.put(t, "/flavors/"+made.ID, flavorOf("node", region)).want(t, http.StatusOK)
	written = time.Now()
	for _, c := range []client{one, three} {
		c.soon(t, "/flavors/"+made.ID, written, "a region has it", func(a *answer) bool { return slices.Contains(a.flavor(t).Nodes, region) })
	}
	same := one.get(t, "/promotedflavors/"+made.ID)
	for _, c := range []client{two, three} {
		c.soon(t, "/promotedflavors/"+made.ID, written, "it says the same to the letter", func(a *answer) bool { return bytes.Equal(a.body, same.body) })
	}

	// What was decided at one is not undone at another, however soon.
	three.put(t, "/promotedflavors/"+made.ID, flavorOf("retired", true)).want(t, http.StatusOK)
	one.put(t, "/flavors/"+made.ID, flavorOf("node", r.cloud.regions[1])).want(t, http.StatusConflict)
	two.post(t, "/promotedflavors", sized(n("small"))).want(t, http.StatusConflict)
	one.delete(t, "/flavors/"+made.ID, query("node", region)).want(t, http.StatusNoContent)
	three.delete(t, "/promotedflavors/"+made.ID).want(t, http.StatusNoContent)
	two.delete(t, "/promotedflavors/"+made.ID).wantOneOf(t, http.StatusNoContent, http.StatusNotFound)
	one.delete(t, "/infrastructures/"+region).want(t, http.StatusNoContent)
	two.post(t, "/flavors", sized(n("big")).and("nodes", []string{region})).wantOneOf(t, http.StatusConflict, http.StatusNotFound)
	three.post(t, "/infrastructures", r.cloud.infrastructure(region)).want(t, http.StatusCreated)
}

// Many want one thing of different servers at once: it is done once, and nobody is told
// that it was not.
func TestReplicasTogether(t *testing.T) { onEach(t, 3, installTogether) }

func installTogether(t *testing.T, r *replicas) {
	n := unique()
	for round := range 5 {
		name := n(fmt.Sprint("small", round))
		made := r.all[0].as(r.manager).post(t, "/promotedflavors", sized(name)).want(t, http.StatusCreated).flavor(t)
		var wg sync.WaitGroup
		for _, pr := range r.all {
			wg.Go(func() {
				a, err := pr.as(r.manager).try(t, http.MethodPut, "/flavors/"+made.ID, flavorOf("nodes", r.cloud.regions))
				if err != nil || a.status != http.StatusOK {
					t.Errorf("installing at one of three servers: %v, %s", err, a)
				}
			})
		}
		wg.Wait()
		for _, region := range r.cloud.regions {
			if times := r.gatehouse.done("POST " + region + " " + name); times != 1 {
				t.Errorf("%s was created %d times in %s", name, times, region)
			}
		}
	}
	if deleted := r.gatehouse.done("DELETE "); deleted > 0 {
		t.Errorf("%d flavors were deleted", deleted)
	}
}

// A server that is stopped in the middle of a careful change, longer than its claim,
// and woken when another has brought the change to an end, must not go on with it.
func TestReplicaWokenAfterItsClaim(t *testing.T) {
	t.Parallel()
	r := startReplicas(t, 1)
	paused, other := r.all[0], r.all[1]
	region, name := r.cloud.regions[0], unique()("careful")
	token := r.cloud.token(t, "operator")
	for _, pr := range r.all {
		pr.as(r.manager).put(t, "/infrastructures/"+region, r.cloud.infrastructure(region).and("trusted", true)).want(t, http.StatusOK)
	}
	made := other.as(r.user).post(t, "/regions/"+region+"/flavors", sized(name), keystone(token)).want(t, http.StatusCreated).flavor(t)

	arrived, release := r.gatehouse.hold(t, false, func(q *http.Request) bool {
		return q.Method == http.MethodDelete && strings.HasSuffix(q.URL.Path, "/flavors/"+made.ID)
	})
	answered := make(chan *answer, 1)
	go func() {
		a, err := paused.as(r.user).try(t, http.MethodPut, "/regions/"+region+"/flavors/"+made.ID, flavorOf("ram", 4096), keystone(token))
		if err != nil {
			t.Errorf("the stopped server's caller: %v", err)
		}
		answered <- a
	}()
	<-arrived
	paused.stop(t)
	release() // the old one is deleted, and nobody is there to create the new one
	eventually(t, "another server has brought the change to its end", func() bool {
		nf, there := r.cloud.nova(t, region).get(t, made.ID)
		return there && nf.RAM == 4096
	})
	// Somebody has other wishes then.
	eventually(t, "it can be changed again", func() bool {
		return other.as(r.user).put(t, "/regions/"+region+"/flavors/"+made.ID, flavorOf("ram", 8192), keystone(token)).wantOneOf(t, 200, 409).status == 200
	})
	paused.wake(t)
	if a := <-answered; a != nil {
		a.wantOneOf(t, http.StatusOK, http.StatusConflict, http.StatusBadGateway)
	}
	if nf, there := r.cloud.nova(t, region).get(t, made.ID); !there || nf.RAM != 8192 {
		t.Errorf("the woken server has undone what was asked for later: %v, %+v", there, nf)
	}
}
