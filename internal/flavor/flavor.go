// Package flavor is the ground floor: what a flavor, a region and a caller are,
// what is valid, and the codes of everything that can go wrong. It imports the
// standard library only and knows nobody above it.
package flavor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Spec is everything about a flavor that counts when two are compared. Whether
// a Nova flavor is public and who has access to it does not: that is the
// region's own affair.
type Spec struct {
	Name        string
	VCPUs       int               // count
	RAM         int               // MB (Nova's MiB)
	Disk        int               // GB
	Swap        int               // MB (Nova's MiB)
	Ephemeral   int               // GB
	RxTxFactor  float64           // Nova's default is 1
	Description string            // at most 65535 characters
	ExtraSpecs  map[string]string // nil and empty are the same
}

// Flavor is a flavor as the marketplace speaks of it: one of the catalogue
// (Public), or a private one of a single region.
type Flavor struct {
	ID string // a UUID in the catalogue; Nova's own id for a private one
	Spec
	Promoted bool
	Public   bool     // the catalogue's word, not Nova's is_public
	Retired  bool     // a promoted flavor that takes no new installs
	Nodes    []string // names of the regions that have it, sorted
}

// NovaFlavor is a flavor as one region's Nova holds it.
type NovaFlavor struct {
	ID string
	Spec
	IsPublic bool // Nova's os-flavor-access:is_public
}

// Installation is a catalogue flavor's presence in one region.
type Installation struct {
	FlavorID string // in the catalogue
	Region   string
	NodeID   string // the id in that region's Nova; often FlavorID
	Created  bool   // we created it there; false: it was adopted
}

// Difference is one field in which two flavors differ, both values as text.
type Difference struct {
	Field, Wanted, Found string
}

func (d Difference) String() string {
	return fmt.Sprintf("%s is %s, not %s", d.Field, d.Found, d.Wanted)
}

// Differences lists the fields in which found is not what s wants, in the
// order of the struct; none where they are equal. Extra specs are named one by
// one (extra_specs.hw:cpu_policy).
func (s Spec) Differences(found Spec) []Difference {
	var ds []Difference
	text := func(field, wanted, got string) {
		if wanted != got {
			ds = append(ds, Difference{field, strconv.Quote(wanted), strconv.Quote(got)})
		}
	}
	number := func(field string, wanted, got int) {
		if wanted != got {
			ds = append(ds, Difference{field, strconv.Itoa(wanted), strconv.Itoa(got)})
		}
	}
	text("name", s.Name, found.Name)
	number("vcpus", s.VCPUs, found.VCPUs)
	number("ram", s.RAM, found.RAM)
	number("disk", s.Disk, found.Disk)
	number("swap", s.Swap, found.Swap)
	number("ephemeral", s.Ephemeral, found.Ephemeral)
	// Nova on MariaDB keeps single precision.
	if float32(s.RxTxFactor) != float32(found.RxTxFactor) {
		ds = append(ds, Difference{"rxtx_factor", FormatFactor(s.RxTxFactor), FormatFactor(found.RxTxFactor)})
	}
	text("description", s.Description, found.Description)
	keys := slices.Collect(maps.Keys(s.ExtraSpecs))
	for key := range found.ExtraSpecs {
		if _, both := s.ExtraSpecs[key]; !both {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	quoted := func(specs map[string]string, key string) string {
		if value, ok := specs[key]; ok {
			return strconv.Quote(value)
		}
		return "absent"
	}
	for _, key := range keys {
		if w, f := quoted(s.ExtraSpecs, key), quoted(found.ExtraSpecs, key); w != f {
			ds = append(ds, Difference{"extra_specs." + key, w, f})
		}
	}
	return ds
}

// FormatFactor writes an rxtx_factor as short as it can be read back.
func FormatFactor(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// Equal says whether the two have no Differences.
func (s Spec) Equal(o Spec) bool { return len(s.Differences(o)) == 0 }

// Clone is s with extra specs of its own.
func (s Spec) Clone() Spec {
	s.ExtraSpecs = maps.Clone(s.ExtraSpecs)
	return s
}

// Compare orders flavors as every list shows them: by name, then id, then region.
func Compare(a, b Flavor) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID), slices.Compare(a.Nodes, b.Nodes))
}

// Patch is what a POST or a PUT says of a flavor; nil is what it does not say.
type Patch struct {
	ID          *string
	Name        *string
	VCPUs       *int
	RAM         *int
	Disk        *int
	Swap        *int
	Ephemeral   *int
	RxTxFactor  *float64
	Description *string
	ExtraSpecs  *map[string]string // replaces all of them
	Promoted    *bool
	Public      *bool
	Retired     *bool
	Nodes       *[]string // of `nodes`, or of the one `node`
	// Accelerators follow from extra specs and name; see AcceleratorsUnchanged.
	Accelerators *[]Accelerator
}

// Spec is the spec a POST describes. name, vcpus, ram and disk must be there;
// the rest has Nova's defaults. The result is validated.
func (p Patch) Spec() (Spec, error) {
	for _, required := range []struct {
		field  string
		absent bool
	}{
		{"name", p.Name == nil}, {"vcpus", p.VCPUs == nil}, {"ram", p.RAM == nil}, {"disk", p.Disk == nil},
	} {
		if required.absent {
			return Spec{}, Invalid("%s is missing: a flavor needs name, vcpus, ram and disk", required.field)
		}
	}
	spec := p.Apply(Spec{RxTxFactor: 1})
	return spec, spec.Validate()
}

// Validate tells the first value of p that no flavor can have.
func (p Patch) Validate() error {
	return p.Apply(Spec{Name: "any", VCPUs: 1, RAM: 1, RxTxFactor: 1}).Validate()
}

// Apply is s with what p names. It validates nothing.
func (p Patch) Apply(s Spec) Spec {
	s = s.Clone()
	set(&s.Name, p.Name)
	set(&s.VCPUs, p.VCPUs)
	set(&s.RAM, p.RAM)
	set(&s.Disk, p.Disk)
	set(&s.Swap, p.Swap)
	set(&s.Ephemeral, p.Ephemeral)
	set(&s.RxTxFactor, p.RxTxFactor)
	set(&s.Description, p.Description)
	if p.ExtraSpecs != nil {
		s.ExtraSpecs = maps.Clone(*p.ExtraSpecs)
	}
	return s
}

// AcceleratorsUnchanged refuses accelerators that p's flavor has neither before
// p nor after it: they are read from elsewhere, and sent back at most.
func (p Patch) AcceleratorsUnchanged(before Spec) error {
	if p.Accelerators == nil || slices.Equal(*p.Accelerators, before.Accelerators()) ||
		slices.Equal(*p.Accelerators, p.Apply(before).Accelerators()) {
		return nil
	}
	return Invalid("accelerators: follow from the extra specs and the name, and may not change by themselves; change extra_specs")
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}
