package match

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// dimension is one size of a flavor, to be told of.
type dimension struct {
	wanted Range
	has    func(entry int) int64
	text   func(n int64) string // with its unit: 4 GiB of RAM
	weigh  func(n int64) Thousandths
}

func (c *Catalogue) dimensions(q *query) []dimension {
	of := func(unit string) func(int64) string {
		return func(n int64) string { return Bytes(n) + " of " + unit }
	}
	kind := strings.TrimSpace(short(q.GPUVendor) + " " + short(q.GPUModel))
	return []dimension{
		{
			q.VCPUs, func(i int) int64 { return c.sizes[i].vcpus }, func(n int64) string { return count(n, "vCPU") },
			func(n int64) Thousandths { return weigh(n, 0, 0, 0) },
		},
		{
			q.RAM, func(i int) int64 { return c.sizes[i].ram }, of("RAM"),
			func(n int64) Thousandths { return weigh(0, n, 0, 0) },
		},
		{
			q.Disk, func(i int) int64 { return c.sizes[i].disk }, of("disk"),
			func(n int64) Thousandths { return weigh(0, 0, n, 0) },
		},
		{
			q.gpuRange, func(i int) int64 { return c.counted(q, &c.sizes[i]) },
			func(n int64) string { return count(n, strings.TrimSpace(kind+" GPU")) },
			func(n int64) Thousandths { return weigh(0, 0, 0, n) },
		},
	}
}

// Why tells what is in the way where nothing fits r: the nearest miss. It is ""
// where something fits.
func (c *Catalogue) Why(r Requirement) string {
	q := c.query(&r)
	var live, named, large, retired []int
	for i := range c.entries {
		fits := c.large(&q, i)
		switch {
		case !c.sizes[i].retired:
			live = append(live, i)
			if r.Name == c.entries[i].Name {
				named = append(named, i)
			}
			if fits && c.reached(&q, i) {
				return ""
			}
			if fits {
				large = append(large, i)
			}
		case fits && c.reached(&q, i):
			retired = append(retired, i)
		}
	}
	where := ""
	if len(r.Regions) > 0 {
		regions := slices.Clone(r.Regions)
		for i, region := range regions {
			if !flavor.ValidRegionName(region) {
				regions[i] = quoted(region)
			}
		}
		where = " in " + list(regions, "or")
	}
	switch {
	case len(large) > 0:
		return c.elsewhere(large, where)
	case len(retired) > 0:
		return fmt.Sprintf("only %s fits%s, and it is retired", c.name(retired[0]), where)
	case len(live) == 0:
		return "there are no flavors"
	case r.Name != "" && len(named) == 0:
		return fmt.Sprintf("no flavor is named %s", quoted(r.Name))
	case r.Name != "":
		return c.nearest(&q, named, "")
	}
	pool := slices.DeleteFunc(slices.Clone(live), func(i int) bool { return !c.reached(&q, i) })
	if len(pool) == 0 {
		pool, where = live, ""
	}
	if r.kindOfGPU() && !slices.ContainsFunc(pool, func(i int) bool { return c.counted(&q, &c.sizes[i]) > 0 }) {
		return c.models(&q, pool, where)
	}
	var reasons []string
	for _, d := range c.dimensions(&q) {
		if !slices.ContainsFunc(pool, func(i int) bool { return d.wanted.Has(d.has(i)) }) {
			reasons = append(reasons, c.none(d, pool, where))
		}
	}
	if len(reasons) > 0 {
		return strings.Join(reasons, "; ")
	}
	return c.nearest(&q, pool, where)
}

// elsewhere tells of flavors that fit, but in no wanted region.
func (c *Catalogue) elsewhere(large []int, where string) string {
	regions := map[string]bool{}
	for _, i := range large {
		for _, region := range c.entries[i].Nodes {
			regions[region] = true
		}
	}
	switch {
	case len(regions) == 0:
		return fmt.Sprintf("%s fits, but it is in no region; install it first", c.name(large[0]))
	case len(large) == 1:
		return fmt.Sprintf("%s fits, but it is not%s; it is in %s", c.name(large[0]), where, list(slices.Sorted(maps.Keys(regions)), "and"))
	}
	return fmt.Sprintf("%d flavors fit, but none is%s; they are in %s", len(large), where, list(slices.Sorted(maps.Keys(regions)), "and"))
}

// models tells which GPUs there are, where none is of the wanted model.
func (c *Catalogue) models(q *query, pool []int, where string) string {
	there := map[string]bool{}
	for _, i := range pool {
		for _, g := range c.gpus[c.sizes[i].firstGPU:c.sizes[i].endGPU] {
			if name := model(c.kinds[g.kind]); name != "" {
				there[name] = true
			}
		}
	}
	wanted := "no flavor" + where + " has a GPU"
	if q.GPUModel != "" {
		wanted += " of model " + quoted(q.GPUModel)
	}
	if q.GPUVendor != "" {
		wanted += " by " + quoted(q.GPUVendor)
	}
	if len(there) == 0 {
		return wanted
	}
	return wanted + ": there are " + list(slices.Sorted(maps.Keys(there)), "and")
}

func model(a flavor.Accelerator) string {
	return strings.TrimSpace(short(a.Vendor) + " " + short(a.Model))
}

// none tells of a size that nothing in pool has.
func (c *Catalogue) none(d dimension, pool []int, where string) string {
	below, above := -1, -1 // the nearest on either side
	for _, i := range pool {
		n := d.has(i)
		if n < d.wanted.Min || len(d.wanted.Values) > 0 && n < d.wanted.Max {
			if below < 0 || n > d.has(below) {
				below = i
			}
		} else if above < 0 || n < d.has(above) {
			above = i
		}
	}
	text := fmt.Sprintf("no flavor%s has %s: ", where, d.wish())
	tell := func(i int) string { return fmt.Sprintf("%s (%s)", d.text(d.has(i)), c.name(i)) }
	switch {
	case above < 0:
		return text + "the largest has " + tell(below)
	case below < 0:
		return text + "the smallest has " + tell(above)
	}
	return text + "the nearest have " + tell(below) + " and " + tell(above)
}

// wish is what is wanted of a dimension.
func (d dimension) wish() string {
	w := d.wanted
	switch {
	case len(w.Values) > 0:
		texts := make([]string, len(w.Values))
		for i, n := range w.Values {
			texts[i] = d.text(n)
		}
		return list(texts, "or")
	case w.Bounded && w.Min == w.Max:
		return d.text(w.Min)
	case w.Bounded && w.Min > 0:
		return d.text(w.Min) + " to " + d.text(w.Max)
	case w.Bounded:
		return "at most " + d.text(w.Max)
	}
	return "at least " + d.text(w.Min)
}

// nearest tells of the flavor in pool that misses least: in the fewest sizes,
// then by the fewest vCPUs, as a waste is counted.
func (c *Catalogue) nearest(q *query, pool []int, where string) string {
	ds := c.dimensions(q)
	entry, fewest, least := -1, 0, Thousandths(0)
	for _, i := range pool {
		misses, by := 0, Thousandths(0)
		for _, d := range ds {
			if n := d.has(i); !d.wanted.Has(n) {
				misses++
				by += d.weigh(d.miss(n))
			}
		}
		if entry < 0 || misses < fewest || misses == fewest && by < least {
			entry, fewest, least = i, misses, by
		}
	}
	var misses []string
	for _, d := range ds {
		if n := d.has(entry); !d.wanted.Has(n) {
			misses = append(misses, d.text(n)+", not "+d.wish())
		}
	}
	if q.Name != "" {
		return c.name(entry) + " has " + strings.Join(misses, ", and ")
	}
	return fmt.Sprintf("no flavor%s has all of it; the nearest, %s, has %s", where, c.name(entry), strings.Join(misses, ", and "))
}

// miss is how far n is from what is wanted.
func (d dimension) miss(n int64) int64 {
	w := d.wanted
	least := max(w.Min-n, n-w.Max)
	if !w.Bounded {
		least = w.Min - n
	}
	for _, value := range w.Values {
		if by := max(value-n, n-value); least <= 0 || by < least {
			least = by
		}
	}
	return least
}

func (c *Catalogue) name(entry int) string { return quoted(c.entries[entry].Name) }

// quoted and short are for text that others chose: no more of it than helps.
func quoted(text string) string { return fmt.Sprintf("%.60q", text) }

func short(text string) string { return fmt.Sprintf("%.40s", text) }

// list is at most ten of the texts: a, b or c.
func list(texts []string, last string) string {
	const most = 10
	if n := len(texts); n > most {
		return strings.Join(texts[:most], ", ") + " " + last + " " + strconv.Itoa(n-most) + " more"
	}
	if n := len(texts); n > 1 {
		return strings.Join(texts[:n-1], ", ") + " " + last + " " + texts[n-1]
	}
	return strings.Join(texts, "")
}

func count(n int64, what string) string {
	text := strconv.FormatInt(n, 10) + " " + what
	if n != 1 {
		text += "s"
	}
	return text
}

// Bytes is n in the largest unit, of TOSCA's, that it is a whole number of.
func Bytes(n int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{
		{1 << 40, "TiB"}, {1e12, "TB"}, {1 << 30, "GiB"}, {1e9, "GB"}, {1 << 20, "MiB"}, {1e6, "MB"}, {1 << 10, "KiB"}, {1e3, "kB"},
	} {
		if n != 0 && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + " " + unit.name
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}
