package match

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Entry is a flavor that can be chosen, in the regions of its Nodes.
type Entry struct {
	flavor.Flavor
	Price    *flavor.Amount // nil: it has none
	Currency string
	Period   flavor.Period
}

// Fit is an entry that fits. Both are the catalogue's own: do not change them.
type Fit struct {
	*Entry
	Regions []string // those among the wanted that have it, sorted
	Waste   Waste
}

// Catalogue is an index of entries. Nothing in it changes, so any number of
// requests may match at once.
type Catalogue struct {
	entries []Entry // the preferred first, so that one place before another settles a tie
	sizes   []size  // of each entry
	gpus    []gpus  // of all entries, one behind the other
	kinds   []flavor.Accelerator
	regions []string // sorted; a region's place is its bit
	words   int      // of an entry's bits
	bits    []uint64 // of all entries, one behind the other: the regions each is in
}

// size is what is compared of an entry: small, for all of them are walked.
type size struct {
	vcpus, ram, disk int64 // RAM and disk in bytes
	gpus             int64
	accelerators     int64 // GPUs and others
	firstGPU, endGPU int32 // in Catalogue.gpus
	retired          bool
}

// gpus are the GPUs of one kind that an entry has.
type gpus struct {
	kind   int
	number int64
}

// New is an index of these entries. They are copied as far as an order needs it.
func New(entries []Entry) *Catalogue {
	c := &Catalogue{entries: slices.Clone(entries)}
	slices.SortStableFunc(c.entries, prefer)
	regions := map[string]int{}
	for i := range c.entries {
		for _, region := range c.entries[i].Nodes {
			regions[region] = 0
		}
	}
	c.regions = slices.Sorted(maps.Keys(regions))
	for bit, region := range c.regions {
		regions[region] = bit
	}
	c.words = (len(c.regions) + 63) / 64
	c.bits = make([]uint64, c.words*len(c.entries))
	c.sizes = make([]size, len(c.entries))
	kinds := map[flavor.Accelerator]int{}
	for i := range c.entries {
		e := &c.entries[i]
		for _, region := range e.Nodes {
			set(c.in(i), regions[region])
		}
		s := &c.sizes[i]
		*s = size{vcpus: int64(e.VCPUs), ram: int64(e.RAM) * mb, disk: int64(e.Disk) * gb, retired: e.Retired}
		s.firstGPU = int32(len(c.gpus)) //nolint:gosec // a catalogue is far smaller
		for _, a := range e.Accelerators() {
			number := int64(a.Number)
			s.accelerators += number
			if !a.IsGPU() {
				continue
			}
			a.Number = 0
			kind, known := kinds[a]
			if !known {
				kind = len(c.kinds)
				kinds[a] = kind
				c.kinds = append(c.kinds, a)
			}
			c.gpus = append(c.gpus, gpus{kind, number})
			s.gpus += number
		}
		s.endGPU = int32(len(c.gpus)) //nolint:gosec // as above
	}
	return c
}

// prefer orders what wastes the same: promoted before public before private,
// priced before unpriced, cheaper before dearer, then name and id. Prices are
// compared within a currency only, and currencies come by their letters: else
// three flavors could each come before the next in a ring.
func prefer(a, b Entry) int {
	first := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	if c := cmp.Or(first(a.Promoted, b.Promoted), first(a.Public, b.Public), first(a.Price != nil, b.Price != nil)); c != 0 {
		return c
	}
	if a.Price != nil {
		aHigh, aLow := perDay(a)
		bHigh, bLow := perDay(b)
		if c := cmp.Or(cmp.Compare(a.Currency, b.Currency), cmp.Compare(aHigh, bHigh), cmp.Compare(aLow, bLow)); c != 0 {
			return c
		}
	}
	return flavor.Compare(a.Flavor, b.Flavor)
}

// perDay is an entry's price for a day, in 128 bits: the longest period, for
// which nothing need be divided.
func perDay(e Entry) (high, low uint64) {
	times := uint64(1)
	switch e.Period {
	case flavor.Minute:
		times = 24 * 60
	case flavor.Hour:
		times = 24
	}
	return bits.Mul64(uint64(max(0, *e.Price)), times)
}

// in is the bits of an entry's regions.
func (c *Catalogue) in(entry int) []uint64 { return c.bits[entry*c.words : (entry+1)*c.words] }

func set(words []uint64, bit int) { words[bit/64] |= 1 << (bit % 64) }

func common(a, b []uint64) bool {
	for i := range a {
		if a[i]&b[i] != 0 {
			return true
		}
	}
	return false
}

// query is a requirement as the index knows it.
type query struct {
	*Requirement
	gpuRange Range
	kinds    []bool   // of the GPUs that count; nil: all do
	regions  []uint64 // the bits of those wanted; nil: any will do
}

func (c *Catalogue) query(r *Requirement) query {
	q := query{Requirement: r, gpuRange: r.gpus()}
	if r.kindOfGPU() {
		q.kinds = make([]bool, len(c.kinds))
		for i, kind := range c.kinds {
			q.kinds[i] = (r.GPUModel == "" || kind.IsModel(r.GPUModel)) && (r.GPUVendor == "" || strings.EqualFold(kind.Vendor, r.GPUVendor))
		}
	}
	if len(r.Regions) > 0 {
		q.regions = make([]uint64, c.words)
		for _, region := range r.Regions {
			if bit, known := slices.BinarySearch(c.regions, region); known {
				set(q.regions, bit)
			}
		}
	}
	return q
}

// reached says whether the entry is in a wanted region.
func (c *Catalogue) reached(q *query, entry int) bool {
	if q.regions == nil {
		return len(c.entries[entry].Nodes) > 0
	}
	return common(c.in(entry), q.regions)
}

// counted is how many GPUs of an entry count.
func (c *Catalogue) counted(q *query, s *size) int64 {
	if q.kinds == nil {
		return s.gpus
	}
	n := int64(0)
	for _, g := range c.gpus[s.firstGPU:s.endGPU] {
		if q.kinds[g.kind] {
			n += g.number
		}
	}
	return n
}

// large says whether the entry has what is wanted, wherever it is.
func (c *Catalogue) large(q *query, entry int) bool {
	s := &c.sizes[entry]
	return q.VCPUs.Has(s.vcpus) && q.RAM.Has(s.ram) && q.Disk.Has(s.disk) && q.gpuRange.Has(c.counted(q, s)) &&
		(q.Name == "" || q.Name == c.entries[entry].Name)
}

// surplus is what a fitting entry has beyond what was asked.
func (q *query) surplus(s *size) (vcpus, ram, disk, gpus int64) {
	return q.VCPUs.surplus(s.vcpus), q.RAM.surplus(s.ram), q.Disk.surplus(s.disk), q.gpuRange.surplus(s.accelerators)
}

// Match is the flavors that fit, at most limit of them, the best first: the
// least waste, then promoted before public before private, then cheaper before
// dearer, then by name and id. No limit is 0. A retired flavor fits nobody, for
// it goes away, nor does one that is in no wanted region.
func (c *Catalogue) Match(r Requirement, limit int) []Fit {
	q := c.query(&r)
	if limit >= len(c.entries) {
		limit = 0
	}
	var found []scored
	if limit > 0 {
		found = make([]scored, 0, min(2*limit, len(c.entries)))
	}
	full := false // found's first limit are the best so far
	for i := range c.sizes {
		s := &c.sizes[i]
		if s.retired || !c.large(&q, i) || !c.reached(&q, i) {
			continue
		}
		f := scored{weigh(q.surplus(s)), i}
		if full && better(f, found[limit-1]) > 0 {
			continue
		}
		found = append(found, f)
		if limit > 0 && len(found) == 2*limit {
			slices.SortFunc(found, better)
			found, full = found[:limit], true
		}
	}
	slices.SortFunc(found, better)
	if limit > 0 && len(found) > limit {
		found = found[:limit]
	}
	return c.fits(&q, found)
}

// fits tells of what was found, with all region names in one piece of memory.
func (c *Catalogue) fits(q *query, found []scored) []Fit {
	if len(found) == 0 {
		return nil
	}
	var names []string
	if q.regions != nil {
		n := 0
		for _, f := range found {
			for i, word := range c.in(f.entry) {
				n += bits.OnesCount64(word & q.regions[i])
			}
		}
		names = make([]string, 0, n)
	}
	fits := make([]Fit, len(found))
	for i, f := range found {
		e := &c.entries[f.entry]
		fits[i] = Fit{Entry: e, Regions: e.Nodes, Waste: newWaste(q.surplus(&c.sizes[f.entry]))}
		if q.regions != nil {
			first := len(names)
			for w, word := range c.in(f.entry) {
				for word &= q.regions[w]; word != 0; word &= word - 1 {
					names = append(names, c.regions[w*64+bits.TrailingZeros64(word)])
				}
			}
			fits[i].Regions = names[first:len(names):len(names)]
		}
	}
	return fits
}
