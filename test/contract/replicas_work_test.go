package contract_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/store/storetest"
)

// Of the installs that were asked for, in regions of that number, each of so many
// flavors goes to each.
const (
	workRegions = 20
	workFlavors = 25
	workInOne   = 5 // regions of one request
)

// install asks for 500 installs, at whichever server answers, and tells the operations.
// A server that was killed or stopped in the meantime is passed over, as a load balancer
// does: what is asked for twice is done once.
func (r *replicas) install(t *testing.T, made []flavorBody) (operations []string) {
	t.Helper()
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		slot = make(chan struct{}, 8)
		away sync.Map // the servers that did not answer
	)
	for i, f := range made {
		for j, regions := range slices.Collect(slices.Chunk(r.cloud.regions, workInOne)) {
			wg.Go(func() {
				slot <- struct{}{}
				defer func() { <-slot }()
				for try := range 20 {
					pr := r.all[(i+j+try)%len(r.all)]
					if _, skip := away.Load(pr); skip {
						continue
					}
					a, err := pr.as(r.manager).try(t, http.MethodPut, "/flavors/"+f.ID, flavorOf("nodes", regions), async, limited(8*time.Second))
					if err != nil && pr != r.all[0] {
						away.Store(pr, true)
					}
					if err != nil || a.status >= 500 {
						continue
					}
					if a.wantOneOf(t, http.StatusAccepted, http.StatusOK).status == http.StatusAccepted {
						path, _ := a.accepted(t)
						mu.Lock()
						operations = append(operations, path)
						mu.Unlock()
					}
					return
				}
				t.Errorf("no server took the install of %s in %q", f.Name, regions)
			})
		}
	}
	wg.Wait()
	return operations
}

// survivor is a server that neither was killed nor is stopped.
func (r *replicas) survivor() client { return r.all[0].as(r.manager) }

// checkWork: every operation ends well, and everything is where it should be, once.
func (r *replicas) checkWork(t *testing.T, made []flavorBody, operations []string) {
	t.Helper()
	for _, path := range operations {
		if ended := r.survivor().ended(t, path); ended.State != "succeeded" {
			t.Errorf("the operation %s: %+v", path, ended)
		}
	}
	for _, region := range r.cloud.regions {
		if there := r.cloud.stack.Flavors(region); len(there) != len(made) {
			t.Errorf("%s has %d flavors, not %d", region, len(there), len(made))
		}
		for _, f := range made {
			created, deleted := r.gatehouse.done("POST "+region+" "+f.Name), r.gatehouse.done("DELETE "+region+" "+f.ID)
			// One that woke in time may take back what it had half made, and make it anew.
			if created != 1+deleted || deleted > 1 {
				t.Errorf("%s was created %d times in %s, and deleted %d times", f.Name, created, region, deleted)
			}
		}
	}
	for _, f := range made {
		eventually(t, f.Name+" is where it should be", func() bool {
			a := r.survivor().get(t, "/flavors/"+f.ID)
			return a.status == http.StatusOK && len(a.flavor(t).Nodes) == len(r.cloud.regions)
		})
	}
}

// Of three servers that install 500 flavors one is killed, and one is stopped, longer
// than what it has taken is left to it, and woken.
func TestReplicasShareWork(t *testing.T) {
	t.Parallel()
	shareWork(t, startReplicas(t, workRegions), func(func()) {})
}

// The same on three nodes of Galera, one of which is killed under the load, and comes
// back.
func TestReplicasShareWorkOnGalera(t *testing.T) {
	if os.Getenv("GALERA_DIR") == "" {
		missing(t, "Galera is missing: GALERA_DIR is not set, so no node can be killed")
	}
	nodes := storetest.GaleraDSNs(t)
	r := startReplicas(t, workRegions, onNodes(t, nodes)...)
	shareWork(t, r, func(waitForLoad func()) {
		waitForLoad()
		galera(t, "kill", "3")
		back := make(chan struct{})
		go func() {
			defer close(back)
			galera(t, "start", "3")
		}()
		t.Cleanup(func() { <-back })
	})
	galera(t, "start", "3") // nothing to do but to wait for it
	late := r.all[0].replica(t, with("database", map[string]any{"driver": "mysql", "dsn": nodes[2]}))
	if one, other := r.survivor().get(t, "/flavors").want(t, http.StatusOK), late.as(r.manager).get(t, "/flavors").want(t, http.StatusOK); !bytes.Equal(one.body, other.body) {
		t.Error("the node that came back knows something else than the others")
	}
}

// galera has scripts/galera do something with the cluster of the tests.
func galera(t *testing.T, arguments ...string) {
	t.Helper()
	script, err := filepath.Abs("../../scripts/galera")
	if err == nil {
		var output []byte
		output, err = exec.Command(script, arguments...).CombinedOutput()
		if err != nil {
			t.Errorf("scripts/galera %q: %v\n%s", arguments, err, output)
			return
		}
	}
	if err != nil {
		t.Error(err)
	}
}

func shareWork(t *testing.T, r *replicas, more func(waitForLoad func())) {
	n := unique()
	var made []flavorBody
	for i := range workFlavors {
		f := sized(n(fmt.Sprintf("f%02d", i))).and("extra_specs", map[string]string{"quota:vif": "1"})
		made = append(made, r.survivor().post(t, "/promotedflavors", f).want(t, http.StatusCreated).flavor(t))
	}
	for _, region := range r.cloud.regions { // so that it is not over before it has begun
		r.cloud.stack.Delay(region, 100*time.Millisecond)
	}
	killed, stopped := r.all[1], r.all[2]
	const all = workRegions * workFlavors
	var faults sync.WaitGroup
	faults.Go(func() {
		r.gatehouse.await(t, all/5, "POST ")
		killed.kill(t)
		r.gatehouse.await(t, all/4, "POST ")
		stopped.stop(t)
		// The others finish what it has taken, too.
		r.gatehouse.await(t, all, "POST ")
		stopped.wake(t)
	})
	faults.Go(func() { more(func() { r.gatehouse.await(t, all/3, "POST ") }) })
	operations := r.install(t, made)
	faults.Wait()
	r.checkWork(t, made, operations)
	killed.run(t)
	for _, pr := range []*product{killed, stopped} {
		eventually(t, "a server that was away says what the others say", func() bool {
			return bytes.Equal(pr.as(r.manager).get(t, "/flavors").body, r.survivor().get(t, "/flavors").body)
		})
	}
}

// stoppedAtWork is a flavor that a server was installing in the region, not waited for,
// when it was stopped: at the first request that is meant. Nova has answered that one, or
// it was cut off, and another server has finished the work.
func (r *replicas) stoppedAtWork(t *testing.T, cut bool, meant func(*http.Request) bool) (stopped, other *product, made flavorBody) {
	t.Helper()
	stopped, other = r.all[0], r.all[1]
	f := sized(unique()("small")).and("extra_specs", map[string]string{"quota:vif": "1"})
	made = other.as(r.manager).post(t, "/promotedflavors", f).want(t, http.StatusCreated).flavor(t)
	for _, pr := range r.all[1:] { // so that it is known who begins
		pr.stop(t)
	}
	arrived, release := r.gatehouse.hold(t, cut, meant)
	operation, _ := stopped.as(r.manager).put(t, "/flavors/"+made.ID, flavorOf("node", r.cloud.regions[0]), async).accepted(t)
	<-arrived
	stopped.stop(t)
	release() // what comes back waits for somebody who stands still
	for _, pr := range r.all[1:] {
		pr.wake(t)
	}
	if ended := other.as(r.manager).ended(t, operation); ended.State != "succeeded" {
		t.Fatalf("the other servers have not finished it: %+v", ended)
	}
	return stopped, other, made
}

// awaitGivenUp waits until a woken server has found that another did its work.
func (pr *product) awaitGivenUp(t *testing.T) {
	t.Helper()
	eventually(t, "the woken server has given up what it was at", func() bool {
		return strings.Contains(pr.log.text(), "another process has taken over")
	})
}

// A server that is stopped while Nova answers it, and woken when the flavor has been
// installed by another and removed again, must not write down that it is there.
func TestFencedWrite(t *testing.T) {
	t.Parallel()
	r := startReplicas(t, 1)
	region := r.cloud.regions[0]
	stopped, other, made := r.stoppedAtWork(t, false, func(q *http.Request) bool {
		return q.Method == http.MethodPost && strings.HasSuffix(q.URL.Path, "/flavors")
	})
	other.as(r.manager).delete(t, "/flavors/"+made.ID, query("node", region)).want(t, http.StatusNoContent)
	stopped.wake(t)
	stopped.awaitGivenUp(t)
	if f := other.as(r.manager).get(t, "/flavors/"+made.ID, fresh).flavor(t); len(f.Nodes) > 0 {
		t.Errorf("the woken server has written that it is in %q, where it is not", f.Nodes)
	}
	if there := r.cloud.stack.Flavors(region); len(there) > 0 {
		t.Errorf("it is there again: %+v", there)
	}
}

// A server that is stopped while it makes a flavor, step by step, finds when it wakes that
// a step has failed: what it has made is not its own to undo any more.
func TestWokenUndoesNothing(t *testing.T) {
	t.Parallel()
	r := startReplicas(t, 1)
	region := r.cloud.regions[0]
	stopped, other, made := r.stoppedAtWork(t, true, func(q *http.Request) bool { return strings.HasSuffix(q.URL.Path, "/os-extra_specs") })
	stopped.wake(t)
	stopped.awaitGivenUp(t)
	if there := r.cloud.stack.Flavors(region); len(there) != 1 || r.gatehouse.done("DELETE ") > 0 {
		t.Errorf("the woken server has taken away what another counts on: there are %+v, and %d were deleted", there, r.gatehouse.done("DELETE "))
	}
	if f := other.as(r.manager).get(t, "/flavors/"+made.ID, fresh).flavor(t); !slices.Contains(f.Nodes, region) {
		t.Errorf("it is in %q", f.Nodes)
	}
}
