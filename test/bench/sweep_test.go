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

// everyRegion is a service with that many regions, which has looked at each of
// them, and whose catalogue has what they have in common. It looks again when it
// is told to alone.
func everyRegion(b *testing.B, regions int) (p product, cloud federation, database string) {
	b.Helper()
	cloud = apart(b, regions, flavorsOfARegion)
	settings := filled(b, "sqlite", func(tx *store.Tx) error {
		for _, name := range regionNames(regions) {
			if err := tx.InsertRegion(flavor.Region{
				Name: name, KeystoneURL: cloud.KeystoneURL(), AuthType: flavor.AuthPassword,
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
	p = serve(b, cloud.KeystoneURL(), cloud, settings, map[string]any{"engine": map[string]any{"sweep_interval": "24h"}})
	fmt.Printf("the first sweep of %d regions, which finds everything new: %s\n", regions, p.sweep(b).Round(time.Millisecond))
	return p, cloud, settings["database"].(map[string]any)["dsn"].(string)
}

// sweep has every region looked at, and is how long that took.
func (p product) sweep(b *testing.B) time.Duration {
	b.Helper()
	r := p.get(b, "/flavors")
	r.Header.Set("Cache-Control", "no-cache")
	return timed(b, r)
}

// A thousand regions of 50 ms: a sweep of all of them, what it costs in memory,
// and what whoever reads the catalogue meanwhile feels of it.
func BenchmarkSweep(b *testing.B) {
	const regions = 1000
	p, cloud, _ := everyRegion(b, regions)
	cloud.delay(b, 50*time.Millisecond)
	read := [][]byte{request(p.address, "/v1/flavors", http.Header{"X-Auth-Token": {"user"}})}
	latencies(b, p.address, read, time.Second)
	var sweeps []time.Duration
	var ratios []float64
	for range 5 {
		quiet := percentile95(latencies(b, p.address, read, 2*time.Second))
		swept := make(chan time.Duration, 1)
		go func() { swept <- p.sweep(b) }()
		during := percentile95(latencies(b, p.address, read, 2*time.Second))
		sweeps = append(sweeps, <-swept)
		ratios = append(ratios, float64(during)/float64(quiet))
	}
	what := fmt.Sprintf("%d regions of 50 ms with %d flavors each", regions, flavorsOfARegion)
	report(b, "seconds for a sweep of "+what, median(sweeps).Seconds(), "<=", 60)
	report(b, "p95 of GET /v1/flavors during a sweep of "+what+" against the quiet", median(ratios), "<=", 2)
	report(b, "MiB resident at most, "+what, memory(b, p.pid, "VmHWM"), "<=", 300)
}

// A sweep that finds nothing new costs each region the same, however many there
// are, and writes down when it looked and nothing else.
func BenchmarkSweepWithoutNews(b *testing.B) {
	var each []float64
	for _, regions := range []int{250, 500, 1000} {
		p, _, database := everyRegion(b, regions)
		p.sweep(b)
		written := watch(b, database)
		before := processorTime(b, p.pid)
		for range 3 {
			p.sweep(b)
		}
		spent := processorTime(b, p.pid) - before
		each = append(each, float64(spent)/3/float64(regions))
		fmt.Printf("a sweep of %d regions without news: %s of processor time for each\n", regions, time.Duration(each[len(each)-1]).Round(time.Microsecond))
		report(b, fmt.Sprintf("rows written but the times of the looks, sweeping %d regions without news", regions), float64(written()), "<=", 0)
	}
	report(b, "processor time for a region in a sweep of 1000 without news, against one of 250", each[2]/each[0], "<=", 1.3)
}

// watch counts from now on how many rows of the database are written, even to the
// same, but those of the looks, and those by which replicas tell that they live.
func watch(b *testing.B, database string) (written func() int) {
	b.Helper()
	db, err := sql.Open("sqlite", database+"?_pragma=busy_timeout(10000)")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	do := func(statement string) {
		if _, err := db.Exec(statement); err != nil {
			b.Fatalf("%s: %v", statement, err)
		}
	}
	all := tables(b, db)
	do("CREATE TABLE bench_written (what TEXT)")
	for _, table := range all {
		for _, how := range []string{"INSERT", "UPDATE", "DELETE"} {
			do(fmt.Sprintf("CREATE TRIGGER bench_%s_%s AFTER %s ON %q BEGIN INSERT INTO bench_written VALUES ('%s %s'); END", table, how, how, table, how, table))
		}
	}
	return func() (count int) {
		var what sql.NullString
		if err := db.QueryRow("SELECT COUNT(*), GROUP_CONCAT(DISTINCT what) FROM bench_written").Scan(&count, &what); err != nil {
			b.Fatal(err)
		}
		if count > 0 {
			fmt.Println("written:", what.String)
		}
		return count
	}
}

// tables are those that no look and no replica that lives has to write to.
func tables(b *testing.B, db *sql.DB) (names []string) {
	b.Helper()
	rows, err := db.Query(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
		AND name NOT IN ('looks', 'leases', 'keyset_replicas', 'meta')`)
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

// An install into 200 regions that is not waited for, against what one region's
// takes, 32 at a time.
func BenchmarkInstallIntoTwoHundredRegions(b *testing.B) {
	const atOnce, delay = 32, 100 * time.Millisecond
	regions := regionNames(200)
	cloud := simulate(b, regions...)
	p := serve(b, cloud.KeystoneURL(), cloud, map[string]any{"engine": map[string]any{"max_in_flight": atOnce}})
	p.register(b, cloud.KeystoneURL(), regions...)
	p.sweep(b) // every service account is authenticated
	for _, region := range regions {
		cloud.Delay(region, delay)
	}
	var ratios []float64
	for range 3 {
		one := p.installLater(b, cloud, regions[:1])
		ideal := one * time.Duration(len(regions)) / atOnce
		all := p.installLater(b, cloud, regions)
		fmt.Printf("an install into one region of 100 ms: %s, into %d: %s\n", one.Round(time.Millisecond), len(regions), all.Round(time.Millisecond))
		ratios = append(ratios, float64(all)/float64(ideal))
	}
	report(b, "asynchronous install into 200 regions of 100 ms, 32 in flight, against the ideal", median(ratios), "<=", 1.3)
}

// installLater installs a new flavor in the regions without waiting for it, and is
// how long it takes until all of them have it.
func (p product) installLater(b *testing.B, cloud *simstack.Stack, regions []string) time.Duration {
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
	for {
		var said struct{ Operation struct{ State string } }
		if err := json.Unmarshal(answer(b, p.get(b, operation+"?wait=30s"), http.StatusOK), &said); err != nil {
			b.Fatal(err)
		}
		switch said.Operation.State {
		case "running":
			continue
		case "succeeded":
			took := time.Since(begun)
			for _, region := range regions {
				has := false
				for _, f := range cloud.Flavors(region) {
					has = has || f.Name == name
				}
				if !has {
					b.Fatalf("%s lacks %s although the install succeeded", region, name)
				}
			}
			return took
		}
		b.Fatalf("the install is %q", said.Operation.State)
	}
}
