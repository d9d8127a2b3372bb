// Package match finds the flavors that fit what a computer is to have, and tells
// why none does. It knows neither TOSCA nor HTTP.
package match

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Range is what a size may be; the zero Range is any size.
type Range struct {
	Min     int64
	Max     int64 // where Bounded
	Bounded bool
	// Values are the only sizes taken, where there are any: sorted, each once.
	Values []int64
	// Asked is what a surplus is counted from, where it is above Min. It tells
	// "4 GB", which a flavor of 4 GB satisfies as well as the 4 GiB flavor that
	// operators mean by it, which is then no waste.
	Asked int64
}

// AtLeast is n or more.
func AtLeast(n int64) Range { return Range{Min: n} }

// OneOf is one of the values, and nothing else.
func OneOf(values ...int64) Range {
	values = slices.Compact(slices.Sorted(slices.Values(values)))
	if len(values) == 0 {
		return Range{}
	}
	return Range{Min: values[0], Max: values[len(values)-1], Bounded: true, Values: values}
}

// Has says whether n is in r.
func (r *Range) Has(n int64) bool {
	if n < r.Min || r.Bounded && n > r.Max {
		return false
	}
	if len(r.Values) == 0 {
		return true
	}
	_, found := slices.BinarySearch(r.Values, n)
	return found
}

// And is what is in both; false where nothing is.
func (r Range) And(o Range) (Range, bool) {
	both := Range{Min: max(r.Min, o.Min), Max: r.Max, Bounded: r.Bounded || o.Bounded, Asked: max(r.Asked, o.Asked)}
	if o.Bounded && (!r.Bounded || o.Max < r.Max) {
		both.Max = o.Max
	}
	if len(r.Values)+len(o.Values) > 0 {
		var values []int64
		for _, n := range slices.Concat(r.Values, o.Values) {
			if r.Has(n) && o.Has(n) {
				values = append(values, n)
			}
		}
		if len(values) == 0 {
			return Range{}, false
		}
		asked := both.Asked
		both = OneOf(values...)
		both.Asked = asked
	}
	return both, !both.Bounded || both.Min <= both.Max
}

// asked is what a surplus is counted from.
func (r *Range) asked() int64 { return max(r.Min, r.Asked) }

// surplus is what n has beyond what was asked.
func (r *Range) surplus(n int64) int64 { return max(0, n-r.asked()) }

// Requirement is what a computer is to have. The zero Requirement is anything.
type Requirement struct {
	Name  string // the flavor's own name; "" is any
	VCPUs Range  // count
	RAM   Range  // bytes
	Disk  Range  // bytes; of the root disk
	// GPUs counts those of GPUModel and GPUVendor where one is named, and then
	// at least one is wanted.
	GPUs      Range
	GPUModel  string   // as flavor.Accelerator.IsModel takes it; "" is any
	GPUVendor string   // in any case; "" is any
	Regions   []string // one of them will do; none is any region
}

// kindOfGPU says whether it must be a certain one.
func (r *Requirement) kindOfGPU() bool { return r.GPUModel != "" || r.GPUVendor != "" }

// gpus is GPUs, at least one where a certain one is named.
func (r *Requirement) gpus() Range {
	g := r.GPUs
	if r.kindOfGPU() {
		g.Min = max(1, g.Min)
	}
	return g
}

// Thousandths is an exact number in thousandths.
type Thousandths int64

// String is t as a decimal without zeros at its end: 2.25, 16.
func (t Thousandths) String() string {
	text := strconv.FormatInt(int64(t/1000), 10)
	if rest := int64(t % 1000); rest != 0 {
		text += strings.TrimRight("."+strconv.FormatInt(1000+rest, 10)[1:], "0")
	}
	return text
}

// What a surplus weighs, in thousandths of a vCPU. A flavor with a GPU comes
// behind those without where none was asked.
const (
	weightVCPU = 1000
	weightGB   = 250 // of RAM
	weightDisk = 10  // for each GB
	weightGPU  = 16000
)

// Waste is what a flavor has beyond what was asked; nothing asked is 0 asked.
type Waste struct {
	VCPUs  int
	RAMMB  int // MB (Nova's MiB), rounded down
	DiskGB int // GB (Nova's GiB), rounded down
	GPUs   int // of any model, and other accelerators
	// Total is the four as vCPUs: a vCPU is 1, 1024 MB of RAM 0.25, a GB of disk
	// 0.01 and a GPU 16. Rounded down.
	Total Thousandths
}

const (
	mb = 1 << 20 // Nova's MB
	gb = 1 << 30 // Nova's GB
)

// weigh is the total of a surplus; RAM and disk are in bytes.
func weigh(vcpus, ram, disk, gpus int64) Thousandths {
	return Thousandths(vcpus*weightVCPU + ram/mb*weightGB/1024 + disk/gb*weightDisk + gpus*weightGPU)
}

func newWaste(vcpus, ram, disk, gpus int64) Waste {
	return Waste{
		VCPUs: int(vcpus), RAMMB: int(ram / mb), DiskGB: int(disk / gb), GPUs: int(gpus),
		Total: weigh(vcpus, ram, disk, gpus),
	}
}

// scored is an entry, by its place in the catalogue, with its waste.
type scored struct {
	total Thousandths
	entry int
}

// better orders by waste; entries are in their order already.
func better(a, b scored) int {
	if a.total != b.total {
		return cmp.Compare(a.total, b.total)
	}
	return a.entry - b.entry
}
