package bench_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
	"github.com/flavorsync/flavorsync/internal/store"
)

const flavorsOfARegion = 50

// swept is a service with many regions, and its database.
type swept struct {
	product
	cloud federation
	db    *sql.DB
}

// everyRegion is a service with that many regions, which has looked at each of
// them, and whose catalogue has what they have in common. It looks again when it
// is told to alone.
func everyRegion(b *testing.B, regions int) swept {
	b.Helper()
	s := swept{cloud: apart(b, regions, flavorsOfARegion)}
	settings := filled(b, "sqlite", func(tx *store.Tx) error {
		for _, name := range regionNames(regions) {
			if err := tx.InsertRegion(flavor.Region{
				Name: name, KeystoneURL: s.cloud.KeystoneURL(), AuthType: flavor.AuthPassword,
				Username: "operator", Password: "operator-secret", Tenant: "operators", UserDomain: "Default", ProjectDomain: "Default",
			}); err != nil {
				return err
			}
		}
		for i := 0; i < flavorsOfARegion; i += 2 {
			if err := tx.InsertFlavor(flavor.Flavor{ID: uuid.NewString(), Spec: seeded("", i).Spec, Public: true, Promoted: true, Nodes: []string{}}); err != nil {
				return err
			}
		}
		return nil
	})
	file := settings["database"].(map[string]any)["dsn"].(string)
	db, err := sql.Open("sqlite", file+"?_pragma=busy_timeout(10000)")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	s.db = db
	begun := time.Now()
	s.product = serve(b, s.cloud.KeystoneURL(), s.cloud, settings, map[string]any{"engine": map[string]any{"sweep_interval": "24h"}})
	s.awaitSweep(b)
	fmt.Printf("the first sweep of %d regions, which finds everything new: %s\n", regions, time.Since(begun).Round(time.Millisecond))
	return s
}

// sweep makes every region due, and is how long it takes until the service has
// looked at all of them by itself.
func (s swept) sweep(b *testing.B) time.Duration {
	b.Helper()
	s.do(b, "UPDATE looks SET due = 0")
	begun := time.Now()
	s.awaitSweep(b)
	return time.Since(begun)
}

// awaitSweep waits until no look is due today: whoever has noted one has made the
// next due tomorrow.
func (s swept) awaitSweep(b *testing.B) {
	b.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for begun := time.Now(); ; <-again.C {
		if s.count(b, "SELECT COUNT(*) FROM looks WHERE due < ?", time.Now().Add(12*time.Hour).UnixMilli()) == 0 {
			return
		}
		if time.Since(begun) > 3*time.Minute {
			b.Fatalf("%d regions were not looked at", s.count(b, "SELECT COUNT(*) FROM looks WHERE due < ?", time.Now().Add(12*time.Hour).UnixMilli()))
		}
	}
}

func (s swept) do(b *testing.B, statement string) {
	b.Helper()
	if _, err := s.db.ExecContext(b.Context(), statement); err != nil {
		b.Fatalf("%s: %v", statement, err)
	}
}

func (s swept) count(b *testing.B, query string, args ...any) (n int) {
	b.Helper()
	if err := s.db.QueryRowContext(b.Context(), query, args...).Scan(&n); err != nil {
		b.Fatalf("%s: %v", query, err)
	}
	return n
}

// A thousand regions of 50 ms, all due at once: a sweep of all of them, what it
// costs in memory, and what whoever reads the catalogue meanwhile feels of it. The
// readers keep to a rate: those that send as fast as they are answered take what
// there is of two cores, and measure how these are shared out.
func BenchmarkSweep(b *testing.B) {
	const regions, perSecond = 1000, 200
	s := everyRegion(b, regions)
	s.cloud.delay(b, 50*time.Millisecond)
	read := request(s.address, "/v1/flavors", http.Header{"X-Auth-Token": {"user"}})
	var sweeps []time.Duration
	var ratios []float64
	for range 5 {
		var took time.Duration
		quiet := percentile95(pacedLatencies(b, s.address, read, perSecond, after(3*time.Second)))
		during := percentile95(pacedLatencies(b, s.address, read, perSecond, whenDone(func() { took = s.sweep(b) })))
		sweeps, ratios = append(sweeps, took), append(ratios, float64(during)/float64(quiet))
		fmt.Printf("p95 of %d reads a second: %s, during a sweep of %s %s\n", perSecond, quiet.Round(time.Microsecond), took.Round(time.Millisecond), during.Round(time.Microsecond))
	}
	what := fmt.Sprintf("%d regions of 50 ms with %d flavors each", regions, flavorsOfARegion)
	report(b, "seconds for a sweep of "+what, median(sweeps).Seconds(), "<=", 60)
	report(b, fmt.Sprintf("p95 of %d GET /v1/flavors a second during a sweep of %s, against the quiet", perSecond, what), median(ratios), "<=", 2)
	report(b, "MiB resident at most, "+what, memory(b, s.pid, "VmHWM"), "<=", 300)
}

// after is closed when d is over, and whenDone when do has returned.
func after(d time.Duration) <-chan struct{} {
	over := make(chan struct{})
	time.AfterFunc(d, func() { close(over) })
	return over
}

func whenDone(do func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	return done
}

// A sweep that finds nothing new costs each region the same, however many there
// are, and writes down when it looked and nothing else.
func BenchmarkSweepWithoutNews(b *testing.B) {
	var each []float64
	for _, regions := range []int{250, 500, 1000} {
		s := everyRegion(b, regions)
		written := s.watch(b)
		var costs []time.Duration
		for range 2 {
			before := processorTime(b, s.pid)
			s.sweep(b)
			costs = append(costs, (processorTime(b, s.pid)-before)/time.Duration(regions))
		}
		each = append(each, float64(median(costs)))
		fmt.Printf("a sweep of %d regions without news: %s of processor time for each\n", regions, median(costs).Round(time.Microsecond))
		report(b, fmt.Sprintf("rows written but the times of the looks, sweeping %d regions without news", regions), float64(written()), "<=", 0)
	}
	report(b, "processor time for a region in a sweep of 1000 without news, against one of 250", each[2]/each[0], "<=", 1.3)
}

// watch counts from now on how many rows of the database are written, even to the
// same, but those by which replicas tell that they live; and of the looks those in
// which more is changed than when they were, and are to be.
func (s swept) watch(b *testing.B) (written func() int) {
	b.Helper()
	all := s.tables(b)
	s.do(b, "CREATE TABLE bench_written (what TEXT)")
	for _, table := range all {
		for _, how := range []string{"INSERT", "UPDATE", "DELETE"} {
			when := ""
			if table == "looks" && how == "UPDATE" {
				when = "WHEN OLD.region IS NOT NEW.region OR OLD.version IS NOT NEW.version OR OLD.error IS NOT NEW.error"
			}
			s.do(b, fmt.Sprintf("CREATE TRIGGER bench_%s_%s AFTER %s ON %q %s BEGIN INSERT INTO bench_written VALUES ('%s %s'); END", table, how, how, table, when, how, table))
		}
	}
	return func() int {
		n := s.count(b, "SELECT COUNT(*) FROM bench_written")
		if n > 0 {
			var what string
			if err := s.db.QueryRowContext(b.Context(), "SELECT GROUP_CONCAT(DISTINCT what) FROM bench_written").Scan(&what); err != nil {
				b.Fatal(err)
			}
			fmt.Println("written:", what)
		}
		return n
	}
}

// tables are those that no replica that lives has to write to.
func (s swept) tables(b *testing.B) (names []string) {
	b.Helper()
	rows, err := s.db.QueryContext(b.Context(), `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
		AND name NOT IN ('leases', 'keyset_replicas', 'meta')`)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			b.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	return names
}

// processorTime is what a process has used, in user and kernel mode.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// The name, in brackets, may have blanks (proc(5)).
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

// An install into 200 regions that is not waited for, from the request until the
// operation has succeeded. A region needs four calls of 100 ms: its flavors are
// listed before the 202, then it is asked whether the id is free, gets the flavor,
// and its extra specs. With 32 calls in flight that is 4 * 100 ms * 200 / 32 = 2.5 s
// at best. The look at each region after its change is not among them.
func BenchmarkInstallIntoTwoHundredRegions(b *testing.B) {
	const atOnce, delay, calls = 32, 100 * time.Millisecond, 4
	regions := regionNames(200)
	ideal := calls * delay * time.Duration(len(regions)) / atOnce
	cloud := simulate(b, regions...)
	p := serve(b, cloud.KeystoneURL(), cloud, map[string]any{"engine": map[string]any{"max_in_flight": atOnce, "sweep_interval": "24h"}})
	p.register(b, cloud.KeystoneURL(), regions...) // and authenticate every service account
	for _, region := range regions {
		cloud.Delay(region, delay)
	}
	var ratios []float64
	for range 5 {
		fresh := p.get(b, "/flavors")
		fresh.Header.Set("Cache-Control", "no-cache")
		timed(b, fresh) // the looks after the install before are over
		cloud.ForgetRequests()
		took, asked := p.installLater(b, cloud, regions)
		fmt.Printf("an install into %d regions of %s: %s, at best %s; %.2f calls of each until then\n",
			len(regions), delay, took.Round(time.Millisecond), ideal, float64(asked)/float64(len(regions)))
		ratios = append(ratios, float64(took)/float64(ideal))
	}
	report(b, "asynchronous install into 200 regions of 100 ms, 32 in flight, against the ideal", median(ratios), "<=", 1.3)
}

// installLater installs a new flavor in the regions without waiting for it, and is
// how long it takes until all of them have it, and how often a Nova was asked.
func (p product) installLater(b *testing.B, cloud *simstack.Stack, regions []string) (took time.Duration, asked int) {
	b.Helper()
	name := fmt.Sprintf("install.%d", time.Now().UnixNano())
	var made struct{ Flavor struct{ ID string } }
	body := answer(b, p.call(b, http.MethodPost, "/promotedflavors", map[string]any{"flavor": map[string]any{
		"name": name, "vcpus": 1, "ram": 512, "disk": 1, "extra_specs": map[string]string{"hw:cpu_policy": "dedicated"},
	}}), http.StatusCreated)
	if err := json.Unmarshal(body, &made); err != nil {
		b.Fatal(err)
	}
	r := p.call(b, http.MethodPut, "/flavors/"+made.Flavor.ID, map[string]any{"nodes": regions})
	r.Header.Set("Prefer", "respond-async")
	begun := time.Now()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		b.Fatalf("%s: %s", r.URL, resp.Status)
	}
	operation := strings.TrimPrefix(resp.Header.Get("Location"), "/v1")
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for ; ; <-again.C { // it changes 200 times, which nobody has to be told
		var said struct{ Operation struct{ State string } }
		if err := json.Unmarshal(answer(b, p.get(b, operation+"?wait=30s"), http.StatusOK), &said); err != nil {
			b.Fatal(err)
		}
		switch said.Operation.State {
		case "running":
			continue
		case "succeeded":
			took, asked = time.Since(begun), cloud.Count(simstack.Nova, "", "", "")
			for _, region := range regions {
				has := false
				for _, f := range cloud.Flavors(region) {
					has = has || f.Name == name
				}
				if !has {
					b.Fatalf("%s lacks %s although the install succeeded", region, name)
				}
			}
			return took, asked
		}
		b.Fatalf("the install is %q", said.Operation.State)
	}
}
