package match_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/match"
)

const gib = 1 << 30

// entry is a public flavor in Trento, changed.
func entry(name string, vcpus, ram, disk int, change ...func(*match.Entry)) match.Entry {
	e := match.Entry{Flavor: flavor.Flavor{
		ID: "id-" + name, Spec: flavor.Spec{Name: name, VCPUs: vcpus, RAM: ram, Disk: disk, RxTxFactor: 1},
		Public: true, Nodes: []string{"Trento"},
	}}
	for _, c := range change {
		c(&e)
	}
	return e
}

func promoted(e *match.Entry) { e.Promoted = true }
func private(e *match.Entry)  { e.Public = false }
func retired(e *match.Entry)  { e.Promoted, e.Retired = true, true }

func in(regions ...string) func(*match.Entry) {
	return func(e *match.Entry) { e.Nodes = regions }
}

func price(amount flavor.Amount, currency string, period flavor.Period) func(*match.Entry) {
	return func(e *match.Entry) { e.Price, e.Currency, e.Period = &amount, currency, period }
}

func gpu(number int, vendor, model string) func(*match.Entry) {
	return func(e *match.Entry) {
		e.ExtraSpecs = map[string]string{
			"Accelerator:Number": fmt.Sprint(number), "Accelerator:Type": "GPU", "Accelerator:Vendor": vendor, "Accelerator:Model": model,
		}
	}
}

func names(fits []match.Fit) string {
	var all []string
	for _, f := range fits {
		all = append(all, f.Name)
	}
	return strings.Join(all, " ")
}

// Who asks for a machine must be shown the one that wastes least, and among
// equals what the federation promotes, then what costs least.
func TestOrder(t *testing.T) {
	same := func(name string, change ...func(*match.Entry)) match.Entry {
		return entry(name, 2, 4096, 20, change...)
	}
	for _, test := range []struct {
		what, want string
		entries    []match.Entry
	}{
		{"waste goes before everything", "small large", []match.Entry{
			entry("large", 4, 4096, 20, promoted, price(1, "EUR", flavor.Hour)), entry("small", 2, 4096, 20, private),
		}},
		{"promoted, public, private", "c b a", []match.Entry{same("a", private), same("b"), same("c", promoted)}},
		{"cheaper first, and what has no price last", "free cheap dear unpriced", []match.Entry{
			same("unpriced"), same("dear", price(2, "EUR", flavor.Hour)), same("cheap", price(1, "EUR", flavor.Hour)), same("free", price(0, "EUR", flavor.Hour)),
		}},
		{"prices of unlike periods are brought to one", "day hour minute", []match.Entry{
			same("hour", price(100, "EUR", flavor.Hour)),    // 2400 a day
			same("day", price(2399, "EUR", flavor.Day)),     // less
			same("minute", price(2, "EUR", flavor.Minute))}, // 2880 a day
		},
		{"no price is too large to be compared", "a b", []match.Entry{
			same("b", price(1<<62, "EUR", flavor.Minute)), same("a", price(1<<62-1, "EUR", flavor.Minute)),
		}},
		{"prices of two currencies are not compared", "b a c", []match.Entry{
			same("a", price(1, "EUR", flavor.Hour)), same("b", price(9, "DKK", flavor.Hour)), same("c", price(2, "EUR", flavor.Hour)),
		}},
		{"then the name, then the id", "a a b", []match.Entry{
			same("b"), same("a", func(e *match.Entry) { e.ID = "2" }), same("a", func(e *match.Entry) { e.ID = "1" }),
		}},
		{"a GPU that nobody asked for goes last", "large gpu", []match.Entry{
			entry("gpu", 1, 1024, 0, gpu(1, "NVIDIA", "T4")), entry("large", 16, 1024, 0),
		}},
	} {
		for range 2 {
			slices.Reverse(test.entries)
			fits := match.New(test.entries).Match(match.Requirement{}, 0)
			if names(fits) != test.want {
				t.Errorf("%s: got %s, not %s", test.what, names(fits), test.want)
			}
		}
	}
	fits := match.New([]match.Entry{
		same("a", func(e *match.Entry) { e.ID = "2" }), same("a", func(e *match.Entry) { e.ID = "1" }),
	}).Match(match.Requirement{}, 1)
	if len(fits) != 1 || fits[0].ID != "1" {
		t.Errorf("of two flavors with one name, the lower id goes first; got %v", fits)
	}
}

// The waste is shown, so its parts and its sum must be what they are said to be.
func TestWaste(t *testing.T) {
	c := match.New([]match.Entry{entry("m", 4, 8192+512, 45, gpu(3, "NVIDIA", "T4"))})
	for _, test := range []struct {
		r     match.Requirement
		want  match.Waste
		total string
	}{
		{
			match.Requirement{VCPUs: match.AtLeast(2), RAM: match.AtLeast(4 * gib), Disk: match.AtLeast(20 * gib), GPUs: match.AtLeast(2)},
			match.Waste{VCPUs: 2, RAMMB: 4608, DiskGB: 25, GPUs: 1, Total: 2000 + 1125 + 250 + 16000}, "19.375",
		},
		{match.Requirement{}, match.Waste{VCPUs: 4, RAMMB: 8704, DiskGB: 45, GPUs: 3, Total: 4000 + 2125 + 450 + 48000}, "54.575"},
		{
			match.Requirement{VCPUs: match.OneOf(4), RAM: match.AtLeast(8704 << 20), Disk: match.AtLeast(45 * gib), GPUModel: "T4", GPUs: match.OneOf(3)},
			match.Waste{}, "0",
		},
		// One GPU at least, where a model is named.
		{
			match.Requirement{VCPUs: match.AtLeast(4), RAM: match.AtLeast(8704 << 20), Disk: match.AtLeast(45 * gib), GPUModel: "T4"},
			match.Waste{GPUs: 2, Total: 32000}, "32",
		},
		// Parts of a MB or GB are no surplus.
		{
			match.Requirement{VCPUs: match.AtLeast(4), RAM: match.AtLeast(8703<<20 + 1), Disk: match.AtLeast(44*gib + 1), GPUs: match.AtLeast(3)},
			match.Waste{}, "0",
		},
		// 4 GB are 4 GiB for operators: no waste.
		{
			match.Requirement{VCPUs: match.AtLeast(4), RAM: match.Range{Min: 8e9, Asked: 8 * gib}, Disk: match.AtLeast(45 * gib), GPUs: match.AtLeast(3)},
			match.Waste{RAMMB: 512, Total: 125}, "0.125",
		},
	} {
		fits := c.Match(test.r, 10)
		if len(fits) != 1 {
			t.Fatalf("%+v: %s", test.r, c.Why(test.r))
		}
		if diff := gocmp.Diff(test.want, fits[0].Waste); diff != "" {
			t.Error(diff)
		}
		if fits[0].Waste.Total.String() != test.total {
			t.Errorf("got %s, not %s", fits[0].Waste.Total, test.total)
		}
	}
}

// What a card is that is no GPU, nobody can ask for by num_gpus; it is wasted
// on everybody else all the same.
func TestOtherAccelerators(t *testing.T) {
	c := match.New([]match.Entry{entry("fpga", 1, 1024, 0, gpu(2, "Xilinx", "U50"), func(e *match.Entry) { e.ExtraSpecs["Accelerator:Type"] = "FPGA" })})
	if fits := c.Match(match.Requirement{GPUs: match.AtLeast(1)}, 0); len(fits) > 0 {
		t.Error("an FPGA was given for a GPU")
	}
	if fits := c.Match(match.Requirement{}, 0); len(fits) != 1 || fits[0].Waste.GPUs != 2 {
		t.Errorf("got %+v", fits)
	}
}

func TestRangesFit(t *testing.T) {
	c := match.New([]match.Entry{
		entry("one", 1, 1024, 0), entry("two", 2, 4096, 20), entry("four", 4, 8192, 40),
		entry("t4", 8, 8192, 40, gpu(1, "NVIDIA", "Tesla T4"), in("Spain2", "Trento")), entry("a100", 16, 65536, 40, gpu(4, "NVIDIA", "A100"), in("Spain2")),
		entry("old", 2, 4096, 20, retired), entry("nowhere", 2, 4096, 20, in()),
	})
	for _, test := range []struct {
		r    match.Requirement
		want string
	}{
		{match.Requirement{VCPUs: match.AtLeast(2)}, "two four t4 a100"},
		{match.Requirement{VCPUs: match.Range{Min: 1, Max: 2, Bounded: true}}, "one two"},
		{match.Requirement{VCPUs: match.OneOf(1, 4)}, "one four"},
		{match.Requirement{VCPUs: match.OneOf(3)}, ""},
		{match.Requirement{Disk: match.Range{Max: 20*gib - 1, Bounded: true}}, "one"},
		{match.Requirement{RAM: match.OneOf(4e9, 4*gib)}, "two"},
		{match.Requirement{GPUs: match.OneOf(0), VCPUs: match.AtLeast(4)}, "four"},
		{match.Requirement{GPUs: match.AtLeast(1)}, "t4 a100"},
		{match.Requirement{GPUModel: "t4"}, "t4"},
		{match.Requirement{GPUModel: "T4", GPUs: match.AtLeast(2)}, ""},
		{match.Requirement{GPUVendor: "nvidia", GPUs: match.AtLeast(2)}, "a100"},
		{match.Requirement{GPUVendor: "AMD"}, ""},
		{match.Requirement{Regions: []string{"Spain2"}}, "t4 a100"},
		{match.Requirement{Regions: []string{"Lannion2", "Trento"}, GPUs: match.AtLeast(1)}, "t4"},
		{match.Requirement{Regions: []string{"Lannion2"}}, ""},
		{match.Requirement{Name: "two"}, "two"},
		{match.Requirement{Name: "TWO"}, ""},
		{match.Requirement{Name: "old"}, ""},
		{match.Requirement{Name: "nowhere"}, ""},
	} {
		fits := c.Match(test.r, 0)
		if names(fits) != test.want {
			t.Errorf("%+v: got %q, not %q", test.r, names(fits), test.want)
		}
		if why := c.Why(test.r); (why == "") != (test.want != "") {
			t.Errorf("%+v: the reason is %q", test.r, why)
		}
	}
	for _, test := range []struct {
		wanted, want []string
	}{
		{nil, []string{"Spain2", "Trento"}},
		{[]string{"Trento"}, []string{"Trento"}},
		{[]string{"Trento", "Lannion2", "Spain2"}, []string{"Spain2", "Trento"}},
	} {
		fits := c.Match(match.Requirement{GPUModel: "T4", Regions: test.wanted}, 1)
		if diff := gocmp.Diff(test.want, fits[0].Regions); diff != "" {
			t.Errorf("of %v: %s", test.wanted, diff)
		}
	}
}

// What is told when nothing fits must say what to change.
func TestWhy(t *testing.T) {
	c := match.New([]match.Entry{
		entry("small", 1, 1024, 10), entry("fat", 2, 65536, 10), entry("wide", 32, 4096, 10),
		entry("t4", 8, 8192, 40, gpu(1, "NVIDIA", "Tesla T4"), in("Spain2")), entry("a100", 8, 8192, 40, gpu(2, "NVIDIA", "A100"), in("Spain2", "Trento")),
		entry("old", 64, 1024, 10, retired), entry("uninstalled", 48, 1024, 10, in()), entry("dup", 3, 1024, 10, in("Spain2")), entry("dup", 3, 1024, 10, in("Lannion2")),
	})
	for _, test := range []struct {
		r    match.Requirement
		want string
	}{
		{match.Requirement{VCPUs: match.AtLeast(65)}, `no flavor has at least 65 vCPUs: the largest has 32 vCPUs ("wide")`},
		{match.Requirement{VCPUs: match.AtLeast(33), Regions: []string{"Spain2"}}, `"uninstalled" fits, but it is in no region; install it first`},
		{match.Requirement{VCPUs: match.AtLeast(49)}, `only "old" fits, and it is retired`},
		{match.Requirement{VCPUs: match.AtLeast(49), Regions: []string{"Spain2"}}, `no flavor in Spain2 has at least 49 vCPUs: the largest has 8 vCPUs ("a100")`},
		{match.Requirement{VCPUs: match.AtLeast(65), Regions: []string{"Empty"}}, `no flavor has at least 65 vCPUs: the largest has 48 vCPUs ("uninstalled")`},
		{match.Requirement{VCPUs: match.OneOf(12)}, `no flavor has 12 vCPUs: the nearest have 8 vCPUs ("a100") and 32 vCPUs ("wide")`},
		{match.Requirement{VCPUs: match.OneOf(64, 65), Disk: match.AtLeast(1)}, `only "old" fits, and it is retired`},
		{match.Requirement{VCPUs: match.OneOf(65, 66)}, `no flavor has 65 vCPUs or 66 vCPUs: the largest has 32 vCPUs ("wide")`},
		{match.Requirement{VCPUs: match.Range{Min: 4, Max: 7, Bounded: true}}, `no flavor has 4 vCPUs to 7 vCPUs: the nearest have 3 vCPUs ("dup") and 8 vCPUs ("a100")`},
		{match.Requirement{Disk: match.Range{Max: 9 * gib, Bounded: true}}, `no flavor has at most 9 GiB of disk: the smallest has 10 GiB of disk ("dup")`},
		{match.Requirement{RAM: match.AtLeast(4e12)}, `no flavor has at least 4 TB of RAM: the largest has 64 GiB of RAM ("fat")`},
		{
			match.Requirement{RAM: match.AtLeast(4e12), VCPUs: match.AtLeast(65)},
			`no flavor has at least 65 vCPUs: the largest has 32 vCPUs ("wide"); no flavor has at least 4 TB of RAM: the largest has 64 GiB of RAM ("fat")`,
		},
		{match.Requirement{GPUModel: "V100"}, `no flavor has a GPU of model "V100": there are NVIDIA A100 and NVIDIA Tesla T4`},
		{match.Requirement{GPUVendor: "AMD", Regions: []string{"Trento"}}, `no flavor in Trento has a GPU by "AMD": there are NVIDIA A100`},
		{match.Requirement{GPUModel: "T4", Regions: []string{"Lannion2"}}, `"t4" fits, but it is not in Lannion2; it is in Spain2`},
		{match.Requirement{GPUModel: "V100", Regions: []string{"Lannion2"}}, `no flavor in Lannion2 has a GPU of model "V100"`},
		{match.Requirement{GPUs: match.AtLeast(1), Regions: []string{"Lannion2", "a\nb"}}, `2 flavors fit, but none is in Lannion2 or "a\nb"; they are in Spain2 and Trento`},
		{match.Requirement{GPUModel: "T4", GPUs: match.AtLeast(3)}, `no flavor has at least 3 T4 GPUs: the largest has 1 T4 GPU ("t4")`},
		{
			match.Requirement{VCPUs: match.AtLeast(3), RAM: match.AtLeast(16 * gib)},
			`no flavor has all of it; the nearest, "fat", has 2 vCPUs, not at least 3 vCPUs`,
		},
		{
			match.Requirement{VCPUs: match.AtLeast(31), RAM: match.AtLeast(5 * gib), Regions: []string{"Trento"}},
			`no flavor in Trento has all of it; the nearest, "wide", has 4 GiB of RAM, not at least 5 GiB of RAM`,
		},
		{match.Requirement{Name: "big"}, `no flavor is named "big"`},
		{match.Requirement{Name: "small", VCPUs: match.AtLeast(4), RAM: match.AtLeast(2 * gib)}, `"small" has 1 vCPU, not at least 4 vCPUs, and 1 GiB of RAM, not at least 2 GiB of RAM`},
		{match.Requirement{Name: "dup", Regions: []string{"Trento"}}, `2 flavors fit, but none is in Trento; they are in Lannion2 and Spain2`},
		{match.Requirement{VCPUs: match.AtLeast(2)}, ""},
	} {
		if why := c.Why(test.r); why != test.want {
			t.Errorf("%+v:\n got %s\nwant %s", test.r, why, test.want)
		}
	}
	if why := match.New(nil).Why(match.Requirement{}); why != "there are no flavors" {
		t.Error(why)
	}
	var many []match.Entry
	for i := range 30 {
		many = append(many, entry(fmt.Sprint(i), 1, 1, 1, in(fmt.Sprintf("R%02d", i))))
	}
	want := "30 flavors fit, but none is in X; they are in R00, R01, R02, R03, R04, R05, R06, R07, R08, R09 and 20 more"
	if why := match.New(many).Why(match.Requirement{Regions: []string{"X"}}); why != want {
		t.Error(why)
	}
}

func TestRangeAnd(t *testing.T) {
	between := func(low, high int64) match.Range { return match.Range{Min: low, Max: high, Bounded: true} }
	for _, test := range []struct {
		a, b, want match.Range
		ok         bool
	}{
		{match.Range{}, match.Range{}, match.Range{}, true},
		{match.AtLeast(2), between(0, 4), between(2, 4), true},
		{between(2, 8), between(4, 16), between(4, 8), true},
		{between(2, 3), match.AtLeast(4), match.Range{}, false},
		{match.OneOf(8, 2, 4, 2), match.AtLeast(4), match.OneOf(4, 8), true},
		{match.OneOf(2, 4), match.OneOf(4, 8), match.OneOf(4), true},
		{match.OneOf(2, 4), match.OneOf(8), match.Range{}, false},
		{match.OneOf(2, 4), between(3, 3), match.Range{}, false},
		{match.Range{Min: 4e9, Asked: 4 * gib}, match.AtLeast(2), match.Range{Min: 4e9, Asked: 4 * gib}, true},
		{match.Range{}, between(0, -1), match.Range{}, false},
	} {
		for range 2 {
			got, ok := test.a.And(test.b)
			if ok != test.ok || ok && !gocmp.Equal(got, test.want) {
				t.Errorf("%+v and %+v: got %+v, %t", test.a, test.b, got, ok)
			}
			test.a, test.b = test.b, test.a
		}
	}
}

// The index must say what looking at one flavor after the other says, whatever
// is asked and however much of the answer is wanted.
func TestAgainstLookingAtEach(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	regions := make([]string, 70) // more than one word of bits
	for i := range regions {
		regions[i] = fmt.Sprintf("R%02d", i)
	}
	some := func(most int) []string {
		var picked []string
		for range random.IntN(most + 1) {
			picked = append(picked, regions[random.IntN(len(regions))])
		}
		slices.Sort(picked)
		return slices.Compact(picked)
	}
	ranged := func(unit int64) match.Range {
		r := match.Range{}
		if random.IntN(2) == 0 {
			r.Min = unit * random.Int64N(4)
		}
		if random.IntN(4) == 0 {
			r.Max, r.Bounded = r.Min+unit*random.Int64N(6), true
		}
		return r
	}
	for range 300 {
		var entries []match.Entry
		for i := range random.IntN(60) {
			e := entry(fmt.Sprintf("f%d", i), 1+random.IntN(6), 1024*(1+random.IntN(6)), random.IntN(6), in(some(30)...))
			e.Promoted, e.Public, e.Retired = random.IntN(3) == 0, random.IntN(2) == 0, random.IntN(9) == 0
			if random.IntN(3) == 0 {
				gpu(1+random.IntN(2), "NVIDIA", []string{"T4", "A100"}[random.IntN(2)])(&e)
			}
			entries = append(entries, e)
		}
		r := match.Requirement{VCPUs: ranged(1), RAM: ranged(gib), Disk: ranged(gib), Regions: some(3)}
		if random.IntN(4) == 0 {
			r.GPUModel = "T4"
		}
		var want []string
		totals := map[string]match.Thousandths{}
		for _, e := range entries {
			has := func(r match.Range, n int) bool { return int64(n) >= r.Min && (!r.Bounded || int64(n) <= r.Max) }
			reached := len(r.Regions) == 0 && len(e.Nodes) > 0 || slices.ContainsFunc(e.Nodes, func(n string) bool { return slices.Contains(r.Regions, n) })
			if e.Retired || !reached || !has(r.VCPUs, e.VCPUs) || !has(r.RAM, e.RAM<<20) || !has(r.Disk, e.Disk<<30) || r.GPUModel != "" && e.ExtraSpecs["Accelerator:Model"] != "T4" {
				continue
			}
			gpus := e.GPUs()
			if r.GPUModel != "" {
				gpus--
			}
			want = append(want, e.Name)
			totals[e.Name] = match.Thousandths(1000*(e.VCPUs-int(r.VCPUs.Min)) + (e.RAM-int(r.RAM.Min>>20))*250/1024 + 10*(e.Disk-int(r.Disk.Min>>30)) + 16000*gpus)
		}
		c := match.New(entries)
		all := c.Match(r, 0)
		for i, f := range all {
			if f.Waste.Total != totals[f.Name] {
				t.Fatalf("%s of %+v wastes %s, not %s", f.Name, r, f.Waste.Total, totals[f.Name])
			}
			if i > 0 && cmp.Compare(all[i-1].Waste.Total, f.Waste.Total) > 0 {
				t.Fatalf("%s comes before %s", all[i-1].Name, f.Name)
			}
			for _, region := range f.Regions {
				if !slices.Contains(f.Nodes, region) || len(r.Regions) > 0 && !slices.Contains(r.Regions, region) {
					t.Fatalf("%s is told to be in %v, of %v", f.Name, f.Regions, r.Regions)
				}
			}
		}
		found := strings.Fields(names(all))
		for _, limit := range []int{1, 2, 5, 20, 1000} {
			if got := names(c.Match(r, limit)); got != strings.Join(found[:min(limit, len(found))], " ") {
				t.Fatalf("the best %d are %s of %s", limit, got, names(all))
			}
		}
		slices.Sort(want)
		slices.Sort(found)
		if !slices.Equal(want, found) {
			t.Fatalf("%+v: got %v, not %v", r, found, want)
		}
		if why := c.Why(r); (why == "") != (len(found) > 0) {
			t.Fatalf("%+v: %d fit, but the reason is %q", r, len(found), why)
		}
	}
}

func TestNumbersAsText(t *testing.T) {
	for n, want := range map[match.Thousandths]string{0: "0", 1: "0.001", 250: "0.25", 2250: "2.25", 16000: "16", 1010: "1.01"} {
		if n.String() != want {
			t.Errorf("%d: got %s, not %s", int64(n), n, want)
		}
	}
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1000: "1 kB", 1024: "1 KiB", 4e9: "4 GB", 4 * gib: "4 GiB", 4095 << 20: "4095 MiB", 2e12: "2 TB", 3 << 40: "3 TiB", 4_000_000_001: "4000000001 B",
	} {
		if match.Bytes(n) != want {
			t.Errorf("%d: got %s, not %s", n, match.Bytes(n), want)
		}
	}
}
