package contract_test

import (
	"bufio"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/flavorsync/flavorsync/internal/toxic"
)

// The failures of a network, the same between the server and whatever it speaks with.
var badNetworks = []struct {
	name   string
	poison func(*toxic.Network)
}{
	{"late", func(n *toxic.Network) { n.Poison(toxic.Late(30)) }},
	{"narrow", func(n *toxic.Network) { n.Poison(toxic.Narrow(20)) }},
	{"slow to close", func(n *toxic.Network) { n.Poison(toxic.SlowClose(1000)) }},
	{"cut", func(n *toxic.Network) { n.Cut() }},
	{"reset", func(n *toxic.Network) { n.Poison(toxic.Reset()) }},
	{"deaf", func(n *toxic.Network) { n.Poison(toxic.Deaf(300)) }},
	{"half open", func(n *toxic.Network) { n.Poison(toxic.Silent()) }},
}

// A bad network costs nobody but whom it must: what cannot be done is told with the
// documented status and in time, what was acknowledged is there, and when the network
// is well again everything works, with nothing left over.
func TestBadNetwork(t *testing.T) {
	t.Parallel()
	if _, there := os.LookupEnv("FLAVORSYNC_TEST_MYSQL_DSN"); !there {
		missing(t, "MariaDB is missing: FLAVORSYNC_TEST_MYSQL_DSN is not set")
	}
	for _, before := range []struct {
		what string
		// where the network is, of a server's
		at func(*networks) *toxic.Network
		// what a GET of the catalogue and an install may answer while it is bad
		read, write []int
	}{
		{"Nova", func(n *networks) *toxic.Network { return n.nova }, []int{200}, []int{200, 502}},
		{"Keystone", func(n *networks) *toxic.Network { return n.keystone }, []int{200}, []int{200, 502}},
		{"the database", func(n *networks) *toxic.Network { return n.database }, []int{200, 500}, []int{200, 500, 502}},
	} {
		t.Run("before "+before.what, func(t *testing.T) {
			t.Parallel()
			w := startBehindNetworks(t)
			w.round(t, "at first", func() {}, []int{200}, []int{200})
			goroutines, files := w.size(t)
			for _, bad := range badNetworks {
				network := before.at(w)
				w.round(t, bad.name, func() { bad.poison(network) }, before.read, before.write)
				network.Mend()
				w.converges(t, bad.name)
			}
			eventually(t, "the server is as small as before", func() bool {
				g, f := w.size(t)
				return g <= goroutines+10 && f <= files+10
			})
		})
	}
}

// networks are a server and what is between it and the others.
type networks struct {
	*setup
	gatehouse                *gatehouse
	keystone, nova, database *toxic.Network
	region                   string
	n                        namer

	promised map[string]bool // the flavors that were acknowledged, by id
	wished   map[string]bool // those whose install in the region was
}

func startBehindNetworks(t *testing.T) *networks {
	t.Helper()
	n := unique()
	w := &networks{setup: &setup{database: "mysql"}, region: n("R"), n: n, promised: map[string]bool{}, wished: map[string]bool{}}
	w.cloud, w.gatehouse = guardedCloud(t, []string{w.region, n("well")})
	direct, err := url.Parse(w.cloud.keystone)
	if err != nil {
		t.Fatal(err)
	}
	w.keystone, w.nova = toxic.Before(t, direct.Host), toxic.Before(t, direct.Host)
	w.cloud.keystone = strings.Replace(w.cloud.keystone, direct.Host, w.keystone.Address, 1)
	w.cloud.stack.SetEndpoint(w.region, strings.Replace(w.cloud.stack.NovaURL(w.region), direct.Host, w.nova.Address, 1))
	w.idm = startIDM(t)
	w.manager, w.user = w.idm.manager(t), w.idm.user(t)
	w.product = w.serve(t, with("metrics_listen", "127.0.0.1:0"), func(config map[string]any) {
		settings := config["database"].(map[string]any)
		database, err := mysql.ParseDSN(settings["dsn"].(string))
		if err != nil {
			t.Fatal(err)
		}
		w.database = toxic.Before(t, database.Addr)
		database.Addr = w.database.Address
		database.ReadTimeout = 3 * time.Second // or the half open one takes a quarter of a minute
		settings["dsn"] = database.FormatDSN()
	})
	w.product.failing = true
	w.registerAll(t, w.product)
	return w
}

// round is what callers do at once while something is wrong.
func (w *networks) round(t *testing.T, name string, goWrong func(), read, write []int) {
	t.Helper()
	manager, user := w.product.as(w.manager), w.product.as(w.user)
	made := manager.post(t, "/promotedflavors", sized(w.n(strings.ReplaceAll(name, " ", "-")))).want(t, http.StatusCreated).flavor(t)
	w.promised[made.ID] = true
	goWrong()
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for range 4 {
		wg.Go(func() {
			within(t, 15*time.Second, name+": reading the catalogue", func() {
				user.get(t, "/promotedflavors").wantOneOf(t, read...)
			})
		})
	}
	wg.Go(func() {
		within(t, 45*time.Second, name+": logging in again and installing", func() {
			manager.put(t, "/infrastructures/"+w.region, w.cloud.infrastructure(w.region).and("trusted", true)).wantOneOf(t, 200, 500)
			a := manager.put(t, "/flavors/"+made.ID, flavorOf("node", w.region)).wantOneOf(t, write...)
			mu.Lock()
			defer mu.Unlock()
			if a.status == http.StatusOK {
				w.wished[made.ID] = true
			}
		})
	})
	wg.Go(func() {
		token := w.cloud.stack.IssueToken("operator", "operators") // one that nobody has seen
		secrets.add(token)
		within(t, 45*time.Second, name+": listing a region", func() {
			user.get(t, "/regions/"+w.region+"/flavors", keystone(token)).wantOneOf(t, write...)
		})
	})
	wg.Go(func() {
		within(t, 45*time.Second, name+": promoting", func() {
			a := manager.post(t, "/promotedflavors", sized(w.n("too-"+strings.ReplaceAll(name, " ", "-")))).wantOneOf(t, 201, 500)
			mu.Lock()
			defer mu.Unlock()
			if a.status == http.StatusCreated {
				w.promised[a.flavor(t).ID] = true
			}
		})
	})
	wg.Wait()
}

// converges: with a network that is well again everything can be had, once.
func (w *networks) converges(t *testing.T, name string) {
	t.Helper()
	manager := w.product.as(w.manager)
	var all []flavorBody
	eventually(t, name+": the catalogue can be read", func() bool {
		a := manager.get(t, "/promotedflavors")
		if a.status == http.StatusOK {
			all = a.flavors(t)
		}
		return a.status == http.StatusOK
	})
	for id := range w.promised {
		if _, there := find(all, id, ""); !there {
			t.Errorf("%s: the flavor %s is lost", name, id)
		}
	}
	for _, f := range all {
		eventually(t, name+": "+f.Name+" can be installed", func() bool {
			return manager.put(t, "/flavors/"+f.ID, flavorOf("node", w.region)).wantOneOf(t, 200, 502).status == http.StatusOK
		})
		if times := w.gatehouse.done("POST " + w.region + " " + f.Name); times != 1 {
			t.Errorf("%s: %s was created %d times", name, f.Name, times)
		}
		w.promised[f.ID], w.wished[f.ID] = true, true
	}
	if there := w.cloud.stack.Flavors(w.region); len(there) != len(all) {
		t.Errorf("%s: the region has %d flavors of %d", name, len(there), len(all))
	}
	if deleted := w.gatehouse.done("DELETE "); deleted > 0 {
		t.Errorf("%s: %d flavors were deleted", name, deleted)
	}
}

// size is how many goroutines and open files the server has.
func (w *networks) size(t *testing.T) (goroutines, files int) {
	t.Helper()
	address := ""
	for _, entry := range w.product.log.entries(t) {
		if entry["msg"] == "listening for metrics" {
			address, _ = entry["address"].(string)
		}
	}
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatalf("asking for metrics: %v", err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		number, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "go_goroutines":
			goroutines = int(number)
		case "process_open_fds":
			files = int(number)
		}
	}
	return goroutines, files
}
