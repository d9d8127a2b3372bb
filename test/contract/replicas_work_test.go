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
	)
	for i, f := range made {
		for j, regions := range slices.Collect(slices.Chunk(r.cloud.regions, workInOne)) {
			wg.Go(func() {
				slot <- struct{}{}
				defer func() { <-slot }()
				for try := range 20 {
					a, err := r.all[(i+j+try)%len(r.all)].as(r.manager).try(t, http.MethodPut, "/flavors/"+f.ID, flavorOf("nodes", regions), async, limited(8*time.Second))
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

// checkWork: every operation ends well, everything is where it should be, and nothing
// was done twice.
func (r *replicas) checkWork(t *testing.T, made []flavorBody, operations []string) {
	t.Helper()
	for _, path := range operations {
		var last operationBody
		eventually(t, "the operation "+path+" has ended", func() bool {
			a := r.survivor().get(t, path, query("wait", "30s"))
			if a.status >= 500 {
				return false // a node of the database has just gone
			}
			last = a.want(t, http.StatusOK).operation(t)
			return last.State != "running"
		})
		if last.State != "succeeded" {
			t.Errorf("the operation %s: %+v", path, last)
		}
	}
	for _, region := range r.cloud.regions {
		if there := r.cloud.stack.Flavors(region); len(there) != len(made) {
			t.Errorf("%s has %d flavors, not %d", region, len(there), len(made))
		}
		for _, f := range made {
			if times := r.gatehouse.done("POST " + region + " " + f.Name); times != 1 {
				t.Errorf("%s was created %d times in %s", f.Name, times, region)
			}
		}
	}
	if deleted := r.gatehouse.done("DELETE "); deleted > 0 {
		t.Errorf("%d flavors were deleted", deleted)
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

// A server that is stopped while Nova answers it, and woken when the flavor has been
// installed by another and removed again, must not write down that it is there.
func TestFencedWrite(t *testing.T) {
	t.Parallel()
	r := startReplicas(t, 1)
	stopped, other := r.all[0], r.all[1]
	region, n := r.cloud.regions[0], unique()
	made := other.as(r.manager).post(t, "/promotedflavors", sized(n("small"))).want(t, http.StatusCreated).flavor(t)
	// The others do nothing, so that the first to be stopped is known.
	for _, pr := range r.all[1:] {
		pr.stop(t)
	}
	arrived, release := r.gatehouse.hold(t, func(q *http.Request) bool {
		return q.Method == http.MethodPost && strings.HasSuffix(q.URL.Path, "/flavors")
	})
	operation, _ := stopped.as(r.manager).put(t, "/flavors/"+made.ID, flavorOf("node", region), async).accepted(t)
	<-arrived
	stopped.stop(t)
	release() // Nova has it, and the answer waits for somebody who stands still
	for _, pr := range r.all[1:] {
		pr.wake(t)
	}
	eventually(t, "another server has finished it", func() bool {
		a := other.as(r.manager).get(t, operation, query("wait", "30s")).want(t, http.StatusOK)
		return a.operation(t).State == "succeeded"
	})
	other.as(r.manager).delete(t, "/flavors/"+made.ID, query("node", region)).want(t, http.StatusNoContent)
	stopped.wake(t)
	stopped.as(r.manager).get(t, "/flavors/"+made.ID).want(t, http.StatusOK) // it works again
	eventually(t, "the woken server has given up what it was at", func() bool { return strings.Contains(stopped.log.text(), "lost") })
	if f := other.as(r.manager).get(t, "/flavors/"+made.ID, fresh).flavor(t); len(f.Nodes) > 0 {
		t.Errorf("the woken server has written that it is in %q, where it is not", f.Nodes)
	}
	if there := r.cloud.stack.Flavors(region); len(there) > 0 {
		t.Errorf("it is there again: %+v", there)
	}
}
