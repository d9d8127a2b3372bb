package tosca_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/match"
	"github.com/flavorsync/flavorsync/internal/tosca"
)

func decoded(t *testing.T, text string) any {
	t.Helper()
	tree, err := tosca.Decode([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return tree
}

func between(low, high int64) match.Range { return match.Range{Min: low, Max: high, Bounded: true} }

const gib = 1 << 30

func TestParseHost(t *testing.T) {
	four := match.Range{Min: 4e9, Asked: 4 * gib}
	equalFour := match.OneOf(4e9, 4*gib)
	equalFour.Asked = 4 * gib
	ones := func(values ...int64) match.Range {
		r := match.OneOf(values...)
		r.Asked = r.Min
		return r
	}
	asked := func(r match.Range) match.Range { // of counts
		r.Asked = r.Min
		return r
	}
	for _, test := range []struct {
		text string
		want match.Requirement
	}{
		{`{}`, match.Requirement{}},
		// A bare value is the least, as orchestrators take it.
		{`num_cpus: 2`, match.Requirement{VCPUs: asked(match.AtLeast(2))}},
		{`num_cpus: "2"`, match.Requirement{VCPUs: asked(match.AtLeast(2))}},
		{`num_cpus: 2.0`, match.Requirement{VCPUs: asked(match.AtLeast(2))}},
		{`num_cpus: 0`, match.Requirement{}},
		{`mem_size: 4 GB`, match.Requirement{RAM: four}},
		{`disk_size: 20 GiB`, match.Requirement{Disk: asked(match.AtLeast(20 * gib))}},
		// The constraints, of which more than one may be said.
		{`num_cpus: {greater_or_equal: 2}`, match.Requirement{VCPUs: asked(match.AtLeast(2))}},
		{`num_cpus: {greater_than: 2}`, match.Requirement{VCPUs: match.Range{Min: 3, Asked: 2}}},
		{`num_cpus: {less_or_equal: 2}`, match.Requirement{VCPUs: between(0, 2)}},
		{`num_cpus: {less_than: 2}`, match.Requirement{VCPUs: between(0, 1)}},
		{`num_cpus: {equal: 2}`, match.Requirement{VCPUs: ones(2)}},
		{`num_cpus: {in_range: [1, 4]}`, match.Requirement{VCPUs: asked(between(1, 4))}},
		{`num_cpus: {in_range: [1, UNBOUNDED]}`, match.Requirement{VCPUs: asked(match.AtLeast(1))}},
		{`num_cpus: {in_range: [UNBOUNDED, 4]}`, match.Requirement{VCPUs: between(0, 4)}},
		{`num_cpus: {valid_values: [4, 2, 8]}`, match.Requirement{VCPUs: ones(2, 4, 8)}},
		{`num_cpus: [{greater_or_equal: 2}, {less_than: 9}]`, match.Requirement{VCPUs: asked(between(2, 8))}},
		{`num_cpus: {greater_or_equal: 2, less_or_equal: 8}`, match.Requirement{VCPUs: asked(between(2, 8))}},
		{`num_cpus: [{valid_values: [2, 4, 8]}, {greater_or_equal: 4}]`, match.Requirement{VCPUs: ones(4, 8)}},
		// Decimal units stand for the binary ones, too, so that more fits.
		{`mem_size: {equal: 4 GB}`, match.Requirement{RAM: equalFour}},
		{`mem_size: {equal: 4 GiB}`, match.Requirement{RAM: ones(4 * gib)}},
		{`mem_size: {less_or_equal: 4 GB}`, match.Requirement{RAM: between(0, 4*gib)}},
		{`mem_size: {less_than: 4 GB}`, match.Requirement{RAM: between(0, 4*gib-1)}},
		{`mem_size: {in_range: [2 GB, 4 GB]}`, match.Requirement{RAM: match.Range{Min: 2e9, Max: 4 * gib, Bounded: true, Asked: 2 * gib}}},
		{`mem_size: {in_range: [4 GiB, 4 GB]}`, match.Requirement{RAM: asked(between(4*gib, 4*gib))}},
		// GPUs, and the flavor's own name.
		{`{num_gpus: 1, gpu_model: " T4 ", gpu_vendor: {equal: NVIDIA}}`, match.Requirement{GPUs: asked(match.AtLeast(1)), GPUModel: "T4", GPUVendor: "NVIDIA"}},
		{`{gpu_model: 4090}`, match.Requirement{GPUModel: "4090"}},
		{`{gpu_model: "", gpu_vendor: '', instance_type: ""}`, match.Requirement{}},
		{`{num_gpus: 0, gpu_vendor: NVIDIA, gpu_model: T4}`, match.Requirement{}},
		{`{num_gpus: {equal: 0}, gpu_vendor: NVIDIA}`, match.Requirement{GPUs: ones(0)}},
		{`{num_gpus: {in_range: [0, 2]}, gpu_vendor: NVIDIA}`, match.Requirement{GPUs: between(0, 2), GPUVendor: "NVIDIA"}},
		{`instance_type: m1.small`, match.Requirement{Name: "m1.small"}},
		// As a node_filter has it.
		{`[{num_cpus: {in_range: [1, 4]}}, {mem_size: {greater_or_equal: 4 GB}}]`, match.Requirement{VCPUs: asked(between(1, 4)), RAM: four}},
		{`[{num_cpus: {greater_or_equal: 2}}, {num_cpus: {less_or_equal: 8}}]`, match.Requirement{VCPUs: asked(between(2, 8))}},
	} {
		got, err := tosca.ParseHost("host", decoded(t, test.text))
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
		} else if diff := cmp.Diff(test.want, got.Requirement); diff != "" {
			t.Errorf("%s: %s", test.text, diff)
		}
	}
}

// The same, from whatever decoder: numbers of each kind mean the same.
func TestParseHostOfOtherDecoders(t *testing.T) {
	for _, two := range []any{"2", "2.0", json.Number("2"), 2, int64(2), uint64(2), 2.0} {
		got, err := tosca.ParseHost("", map[string]any{"num_cpus": two})
		if err != nil || got.Requirement.VCPUs.Min != 2 {
			t.Errorf("%T: %v, %v", two, got, err)
		}
	}
	for _, bad := range []any{math.NaN(), math.Inf(1), 1e300, 2.5, -1, true, []byte("2"), struct{}{}} {
		if _, err := tosca.ParseHost("", map[string]any{"num_cpus": bad}); flavor.CodeOf(err) != flavor.CodeInvalid || !strings.HasPrefix(err.Error(), "num_cpus: must ") {
			t.Errorf("%T: %v", bad, err)
		}
	}
	if h, err := tosca.ParseHost("", nil); err != nil || !cmp.Equal(h, tosca.Host{}) {
		t.Errorf("nothing asks for %v, %v", h, err)
	}
}

func TestParseHostIgnores(t *testing.T) {
	got, err := tosca.ParseHost("host", decoded(t, `{sgx: true, cpu_frequency: {greater_or_equal: 2 GHz}, num_cpus: 1}`))
	if diff := cmp.Diff([]string{"cpu_frequency", "sgx"}, got.Ignored); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// Each must be told by its name, with what is taken.
func TestParseHostRefuses(t *testing.T) {
	long := strings.Repeat("x", 300)
	for text, want := range map[string]string{
		`5`:                    `host: must be a map, or a list of maps, not 5`,
		`[num_cpus]`:           `host: must be a map, or a list of maps, not a list with "num_cpus"`,
		`num_cpu: 2`:           `host.num_cpu: there is no such property of a host; there are disk_size, gpu_model, gpu_vendor, instance_type, mem_size, num_cpus, num_gpus, and cpu_frequency,`,
		`"a\nb": 2`:            `host."a\nb": there is no such property`,
		`num_cpus: two`:        `host.num_cpus: must be a whole number, not "two"`,
		`num_cpus: 1.5`:        `host.num_cpus: must be a whole number, not 1.5`,
		`num_cpus: -1`:         `host.num_cpus: must not be below 0`,
		`num_cpus: "-1.5"`:     `host.num_cpus: must not be below 0`,
		`num_cpus: 2147483648`: `host.num_cpus: must be from 0 to 2147483647, not 2147483648`,
		`num_cpus: 1e2`:        `host.num_cpus: must be a whole number, not 1e2`,
		`num_cpus: 1e309`:      `host.num_cpus: must be a whole number, not "1e309"`,
		`num_cpus: .nan`:       `host.num_cpus: must be a whole number, not ".nan"`,
		`num_cpus: 0x10`:       `host.num_cpus: must be a whole number, not "0x10"`,
		`num_cpus: true`:       `host.num_cpus: must be a whole number, not true`,
		`num_cpus:`:            `host.num_cpus: must be a whole number, not nothing`,
		`num_cpus: {}`:         `host.num_cpus: must be a value or a constraint`,
		`num_cpus: []`:         `host.num_cpus: must be a value or a constraint`,
		`num_cpus: [2, 4]`:     `host.num_cpus: must be a map, or a list of maps, not a list with 2`,
		`num_cpus: {pattern: 2}`: `host.num_cpus.pattern: is no constraint that is taken; equal, greater_or_equal, greater_than, less_or_equal, less_than, ` +
			`in_range and valid_values are`,
		`num_cpus: {equal: {a: 1}}`:                     `host.num_cpus.equal: must be a whole number, not a map`,
		`num_cpus: {valid_values: 2}`:                   `host.num_cpus.valid_values: must be a list of values, not 2`,
		`num_cpus: {valid_values: []}`:                  `host.num_cpus.valid_values: must be a list of values, not a list`,
		`num_cpus: {in_range: 2}`:                       `host.num_cpus.in_range: must be a list of two values, such as [1, 4] or [1, UNBOUNDED], not 2`,
		`num_cpus: {in_range: [2]}`:                     `host.num_cpus.in_range: must be a list of two values`,
		`num_cpus: {in_range: [4, 2]}`:                  `host.num_cpus.in_range: the second value must not be below the first`,
		`num_cpus: {in_range: [4, unbounded]}`:          `host.num_cpus.in_range: must be a whole number, not "unbounded"`,
		`num_cpus: {less_than: 0}`:                      `host.num_cpus: leaves no value, with all that is asked of it`,
		`num_cpus: [{equal: 2}, {equal: 3}]`:            `host.num_cpus: leaves no value, with all that is asked of it`,
		`[{num_cpus: 4}, {num_cpus: {equal: 2}}]`:       `host.num_cpus: leaves no value, with all that is asked of it`,
		`mem_size: 4096`:                                `host.mem_size: must be a number and a unit, such as 4 GB, not "4096"; the units are`,
		`mem_size: 4 XB`:                                `host.mem_size: must be a number and a unit, such as 4 GB, not "4 XB"; the units are`,
		`mem_size: {equal: -1 GB}`:                      `host.mem_size.equal: must not be below 0`,
		`mem_size: [{equal: 4 XB}, {equal: 3}]`:         `host.mem_size.equal: must be a number and a unit, such as 4 GB, not "4 XB"`,
		`mem_size: {}`:                                  `host.mem_size: must be a value or a constraint`,
		`mem_size: true`:                                `host.mem_size: must be a number and a unit, such as 4 GB, not true`,
		`mem_size: 99999999999 TB`:                      `host.mem_size: must be below 4194304 TiB`,
		`mem_size: ` + long:                             `host.mem_size: must be a number and a unit, such as 4 GB, not "` + long[:40] + `";`,
		`num_cpus: ` + long:                             `host.num_cpus: must be a whole number, not "` + long[:40] + `"`,
		`gpu_model: [T4]`:                               `host.gpu_model: must be a text, or {equal: a text}, not a list`,
		`gpu_model: {valid_values: [T4]}`:               `host.gpu_model: must be a text, or {equal: a text}, not a map`,
		`gpu_model: ` + long:                            `host.gpu_model: must have at most 255 characters`,
		`[{gpu_model: T4}, {gpu_model: {equal: A100}}]`: `host.gpu_model: cannot be both "T4" and "A100"`,
		`num_cpus: {get_input: n}`:                      `host.num_cpus: get_input is for a template with inputs; give a value`,
		`gpu_model: {get_property: [SELF, x]}`:          `host.gpu_model: get_property cannot be resolved here; give a value or get_input`,
		`num_cpus: {equal: {concat: [1, 2]}}`:           `host.num_cpus.equal: concat cannot be resolved here`,
	} {
		_, err := tosca.ParseHost("host", decoded(t, text))
		if flavor.CodeOf(err) != flavor.CodeInvalid || !strings.HasPrefix(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("%.60s:\n got %v\nwant %s", text, err, want)
		}
	}
}
