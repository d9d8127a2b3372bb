package flavor_test

import (
	"math"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// A price that is read as another is somebody's money.
func TestParseAmount(t *testing.T) {
	for text, want := range map[string]flavor.Amount{
		"0": 0, "0.34": 340_000, "0.340000": 340_000, "5.50": 5_500_000, "8": 8_000_000, "0.000001": 1, "1.000001": 1_000_001,
		"9223372036854.775807": math.MaxInt64,
	} {
		if got, err := flavor.ParseAmount("price", text); err != nil || got != want {
			t.Errorf("%q is %d, %v; not %d", text, got, err, want)
		}
	}
	for text, words := range map[string]string{
		"-0.34": "below 0", "-1": "below 0", "0.0000001": "6 digits", "0.3400000": "6 digits", "9223372036854.775808": "at most 9223372036854.775807",
		"99999999999999999999999999": "at most", "1e3": "decimal", "": "decimal", ".5": "decimal", "5.": "decimal", "+1": "decimal", "1,5": "decimal",
		"00.34": "decimal", " 1": "decimal", "1 ": "decimal", "0x1": "decimal", "NaN": "decimal", "١": "decimal", "1.2.3": "decimal", "-": "decimal",
	} {
		_, err := flavor.ParseAmount("price", text)
		if flavor.CodeOf(err) != flavor.CodeInvalid || !strings.HasPrefix(err.Error(), "price: ") || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAmountString(t *testing.T) {
	for a, want := range map[flavor.Amount]string{
		0: "0", 1: "0.000001", 340_000: "0.34", 5_500_000: "5.5", 8_000_000: "8", math.MaxInt64: "9223372036854.775807",
		-340_000: "-0.34", math.MinInt64: "-9223372036854.775808",
	} {
		if got := a.String(); got != want {
			t.Errorf("%d is %s, not %s", int64(a), got, want)
		}
	}
}

// The formula is exact: 0.1 + 0.2 is 0.3, and half a millionth is rounded up.
func TestPricing(t *testing.T) {
	size := func(vcpus, ram int) flavor.Spec { return flavor.Spec{VCPUs: vcpus, RAM: ram} }
	p := flavor.Pricing{VCPU: 100_000, GB: 200_000, GPU: 7_000_000}
	for _, c := range []struct {
		spec flavor.Spec
		gpus int
		want flavor.Amount
	}{
		{size(1, 1024), 0, 300_000}, {size(4, 16384), 0, 3_600_000}, {size(10, 40960), 2, 23_000_000}, {size(1, 1536), 0, 400_000},
	} {
		if got, err := p.Price(c.spec, c.gpus); err != nil || got != c.want {
			t.Errorf("%+v with %d GPUs costs %d, %v; not %d", c.spec, c.gpus, got, err, c.want)
		}
	}
	tiny := flavor.Pricing{GB: 1}
	for ram, want := range map[int]flavor.Amount{511: 0, 512: 1, 1024: 1, 1535: 1, 1536: 2} {
		if got, err := tiny.Price(size(1, ram), 0); err != nil || got != want {
			t.Errorf("%d MB at a millionth a GB cost %d, %v; not %d", ram, got, err, want)
		}
	}
	huge := flavor.Pricing{VCPU: math.MaxInt64}
	if _, err := huge.Price(size(2, 1), 0); flavor.CodeOf(err) != flavor.CodeInvalid {
		t.Errorf("a price beyond an Amount: %v", err)
	}
	if got, err := huge.Price(size(1, 1), 0); err != nil || got != math.MaxInt64 {
		t.Errorf("the largest price: %d, %v", got, err)
	}
}

func TestProductValidate(t *testing.T) {
	good := flavor.Product{Category: "uc-general", Price: new(flavor.Amount), Currency: "DKK", Period: flavor.Day, CPUModel: "EPYC 大", Description: "one line"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := (flavor.Product{}).Validate(); err != nil {
		t.Errorf("nothing said: %v", err)
	}
	for words, change := range map[string]func(*flavor.Product){
		"category: ":                    func(p *flavor.Product) { p.Category = "other/uc-general" },
		"category: must have 1 to 64":   func(p *flavor.Product) { p.Category = strings.Repeat("a", 65) },
		"category: must":                func(p *flavor.Product) { p.Category = "aau@uc" },
		"price: must not be below 0":    func(p *flavor.Product) { p.Price = new(flavor.Amount(-1)) },
		"currency: must be three":       func(p *flavor.Product) { p.Currency = "dkk" },
		"period: must be minute, hour":  func(p *flavor.Product) { p.Period = "week" },
		"cpu_model: must have 1 to 128": func(p *flavor.Product) { p.CPUModel = strings.Repeat("x", 129) },
		"memory_model: must not hold":   func(p *flavor.Product) { p.MemoryModel = "a\nb" },
		"gpu_model: must not begin":     func(p *flavor.Product) { p.GPUModel = " T4" },
		"description: must be one line": func(p *flavor.Product) { p.Description = "a\u2028b" },
	} {
		p := good
		change(&p)
		if err := p.Validate(); flavor.CodeOf(err) != flavor.CodeInvalid || !strings.HasPrefix(err.Error(), words) {
			t.Errorf("%s: %v", words, err)
		}
	}
}

// OpenStackGateway's own test vectors.
func TestDefaultCategory(t *testing.T) {
	for _, c := range []struct{ name, zone, want string }{
		{"uc-t4", "uc-t4", "uc-t4"}, {"uc-t4-h", "uc-t4", "uc-t4-h"}, {"uc-general-small", "uc-general", "uc-general"},
		{"uc-general-small-h", "uc-general", "uc-general-h"}, {"any", "", "fallback"}, {"any-h", "", "fallback-h"},
	} {
		s := flavor.Spec{Name: c.name}
		if c.zone != "" {
			s.ExtraSpecs = map[string]string{"availability_zone": c.zone}
		}
		if got := flavor.DefaultCategory(s, "fallback"); got != c.want {
			t.Errorf("%s in %q is of the category %q, not %q", c.name, c.zone, got, c.want)
		}
	}
	// A zone that cannot be a category's name says nothing.
	zone := flavor.Spec{Name: "any-h", ExtraSpecs: map[string]string{"availability_zone": "my zone"}}
	if got := flavor.DefaultCategory(zone, "fallback"); got != "fallback-h" {
		t.Errorf("in a zone with a blank the category is %q", got)
	}
}
