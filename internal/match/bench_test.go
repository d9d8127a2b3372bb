package match_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/match"
)

// The federation that the product is made for: a hundred regions with a hundred
// flavors each, once all different, once the same hundred everywhere.
func BenchmarkMatch(b *testing.B) {
	const regions, each = 100, 100
	var names []string
	for i := range regions {
		names = append(names, fmt.Sprintf("Region%02d", i))
	}
	var apart, shared []match.Entry
	for i := range regions * each {
		apart = append(apart, benchEntry(i, names[i%regions]))
	}
	for i := range each {
		shared = append(shared, benchEntry(i*101, names...))
	}
	const gib = 1 << 30
	one := match.Requirement{
		VCPUs: match.AtLeast(4), RAM: match.Range{Min: 8e9, Asked: 8 * gib}, Disk: match.AtLeast(20 * gib),
		Regions: []string{"Region07", "Region42", "Region99"},
	}
	anywhere := one
	anywhere.Regions = nil
	gpu := anywhere
	gpu.GPUs, gpu.GPUModel, gpu.GPUVendor = match.AtLeast(1), "T4", "nvidia"
	for _, catalogue := range []struct {
		name    string
		entries []match.Entry
	}{{"10000 flavors in one region each", apart}, {"100 flavors in 100 regions each", shared}} {
		c := match.New(catalogue.entries)
		for _, r := range []struct {
			name  string
			r     match.Requirement
			limit int
		}{
			{"in 3 regions", one, 100},
			{"anywhere", anywhere, 100},
			{"with a GPU", gpu, 100},
			{"that fits all", match.Requirement{}, 100},
			{"that fits all, 1000 of them", match.Requirement{}, 1000},
		} {
			b.Run(catalogue.name+"/"+r.name, func(b *testing.B) {
				if len(c.Match(r.r, r.limit)) == 0 {
					b.Fatal("nothing fits:", c.Why(r.r))
				}
				b.ReportAllocs()
				var times []time.Duration
				for b.Loop() {
					start := time.Now()
					c.Match(r.r, r.limit)
					times = append(times, time.Since(start))
				}
				slices.Sort(times)
				const target = 1000
				p50 := float64(times[len(times)/2].Nanoseconds()) / 1000
				verdict := "met"
				if p50 >= target {
					verdict = "MISSED"
				}
				fmt.Printf("match %s, %s: p50 %.0f µs (target under %d µs, %s)\n", catalogue.name, r.name, p50, target, verdict)
				b.ReportMetric(p50, "p50-µs")
			})
		}
	}
}

func benchEntry(i int, regions ...string) match.Entry {
	price := flavor.Amount(1 + i%997)
	e := match.Entry{Flavor: flavor.Flavor{
		ID: fmt.Sprintf("%08x-0000-4000-8000-000000000000", i),
		Spec: flavor.Spec{
			Name: fmt.Sprintf("bench.%d", i), VCPUs: 1 + i%64, RAM: 1024 * (1 + i*7%128), Disk: 20 * (i % 11), RxTxFactor: 1,
			ExtraSpecs: map[string]string{"hw:cpu_policy": "shared"},
		},
		Public: true, Promoted: i%10 == 0, Nodes: regions,
	}, Currency: "EUR", Period: flavor.Hour}
	if i%3 == 0 {
		e.Price = &price
	}
	if i%5 == 0 {
		e.ExtraSpecs["Accelerator:Number"] = "1"
		e.ExtraSpecs["Accelerator:Type"] = "GPU"
		e.ExtraSpecs["Accelerator:Model"] = []string{"Tesla T4", "A100", "V100"}[i/5%3]
		e.ExtraSpecs["Accelerator:Vendor"] = "NVIDIA"
	}
	return e
}
