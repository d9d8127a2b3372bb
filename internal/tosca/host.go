package tosca

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/match"
)

// Host is what the host capability of a compute node asks for.
type Host struct {
	Requirement match.Requirement // of any region
	// Ignored are the properties that were said but that no flavor tells of,
	// sorted: they are no reason for or against one.
	Ignored []string
}

// The properties of a host that flavors tell of. Those of GPUs and instance_type,
// the flavor's name, are INDIGO's and EGI's.
var properties = map[string]func(*reader, string, any) error{
	"num_cpus":      func(r *reader, field string, v any) error { return r.and(&r.VCPUs, field, v, r.count) },
	"mem_size":      func(r *reader, field string, v any) error { return r.and(&r.RAM, field, v, r.size) },
	"disk_size":     func(r *reader, field string, v any) error { return r.and(&r.Disk, field, v, r.size) },
	"num_gpus":      func(r *reader, field string, v any) error { return r.and(&r.GPUs, field, v, r.count) },
	"gpu_model":     func(r *reader, field string, v any) error { return r.text(&r.GPUModel, field, v) },
	"gpu_vendor":    func(r *reader, field string, v any) error { return r.text(&r.GPUVendor, field, v) },
	"instance_type": func(r *reader, field string, v any) error { return r.text(&r.Name, field, v) },
}

// Those of them that are sizes.
var sizes = []string{"num_cpus", "mem_size", "disk_size", "num_gpus"}

// The other properties of tosca.capabilities.Compute and of INDIGO's hosts.
var untold = []string{"cpu_frequency", "disk_type", "name", "preemtible_instance", "sgx", "sgx_epc_size"}

// ParseHost reads the properties of a host, decoded from YAML or JSON: a map of
// them, or a list of such maps as a node_filter has it. What each is to be is one
// of
//
//   - a value, which is asked for as the least: orchestrators give a machine at
//     least so large
//   - a constraint: equal, greater_or_equal, greater_than, less_or_equal,
//     less_than, in_range (with UNBOUNDED at either end) or valid_values; or a list
//     of them, all of which hold
//
// A size in a decimal unit stands for its binary namesake, too: at least 4 GB is
// 4,000,000,000 bytes, at most 4 GB is 4 GiB, and equal to 4 GB is either. field
// is what an error, CodeInvalid, begins with; "" is the bare property.
func ParseHost(field string, tree any) (Host, error) {
	r := reader{work: newWork()}
	if err := r.add(field, tree); err != nil {
		return Host{}, err
	}
	return r.host(), nil
}

// reader gathers what is asked of one host, from wherever it is said.
type reader struct {
	match.Requirement
	gpusSaid bool // whether num_gpus was, not only by a type
	ignored  map[string]bool
	inputs   *inputs // nil: there is no template
	work     *work
}

// work is what may still be read. A type is read again for each node that is of
// it, so a short document can be long to read.
type work struct{ left int }

// maxWork is far above what templates of a thousand nodes take.
const maxWork = 300_000

func newWork() *work { return &work{maxWork} }

// take takes n more things to read into account.
func (w *work) take(n int) error {
	w.left -= n
	if w.left < 0 {
		return errTooMuchWork
	}
	return nil
}

var errTooMuchWork = flavor.Invalid("the document takes too long to read: its nodes and their types have more than %d things to look at, all together", maxWork)

// pairs is pairs of a tree that may be read many times.
func (w *work) pairs(field string, tree any) ([]pair, error) {
	size := 1
	switch v := tree.(type) {
	case map[string]any:
		size += len(v)
	case []any:
		size += len(v)
	}
	if err := w.take(size); err != nil {
		return nil, err
	}
	return pairs(field, tree)
}

// host is what was gathered. A kind of GPU beside num_gpus: 0 is what forms and
// templates leave there when nobody wants a GPU.
func (r *reader) host() Host {
	h := Host{Requirement: r.Requirement, Ignored: slices.Sorted(maps.Keys(r.ignored))}
	if r.gpusSaid && (r.GPUs.Min == 0 && !r.GPUs.Bounded || r.GPUs.Bounded && r.GPUs.Max == 0) {
		h.Requirement.GPUModel, h.Requirement.GPUVendor = "", ""
	}
	return h
}

func (r *reader) add(field string, tree any) error {
	said, err := r.work.pairs(field, tree)
	if err != nil {
		return err
	}
	for _, p := range said {
		if err := r.property(under(field, p.key), p.key, p.value); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) property(field, name string, value any) error {
	if read := properties[name]; read != nil {
		r.gpusSaid = r.gpusSaid || name == "num_gpus"
		return read(r, field, value)
	}
	if !slices.Contains(untold, name) {
		return flavor.Invalid("%s: there is no such property of a host; there are %s, and %s, which no flavor tells of", field,
			strings.Join(slices.Sorted(maps.Keys(properties)), ", "), strings.Join(untold, ", "))
	}
	if r.ignored == nil {
		r.ignored = map[string]bool{}
	}
	r.ignored[name] = true
	return nil
}

// scalarReader reads one value. low and high differ where it can be taken in two
// ways: the decimal size and the binary one.
type scalarReader func(field string, value any) (low, high int64, err error)

// and narrows into to what value says, too.
func (r *reader) and(into *match.Range, field string, value any, read scalarReader) error {
	value, err := r.resolve(field, value)
	if err != nil {
		return err
	}
	var constraints []pair
	switch v := value.(type) {
	case map[string]any, []any:
		if constraints, err = r.work.pairs(field, v); err != nil {
			return err
		}
		if len(constraints) == 0 {
			return flavor.Invalid("%s: must be a value or a constraint, such as greater_or_equal, not an empty one", field)
		}
	default:
		constraints = []pair{{atLeast, v}}
	}
	for _, c := range constraints {
		// A value's own error names the property only.
		f := field
		if c.key != atLeast || len(constraints) > 1 {
			f = under(field, c.key)
		}
		allowed, err := r.constraint(f, c, read)
		if err != nil {
			return err
		}
		both, ok := into.And(allowed)
		if !ok {
			return flavor.Invalid("%s: leaves no value, with all that is asked of it", field)
		}
		*into = both
	}
	return nil
}

const atLeast = "greater_or_equal"

// constraint is what one constraint allows. Bounds are taken so that more fits:
// the lower one in the decimal unit, the upper one in the binary one.
func (r *reader) constraint(field string, c pair, read scalarReader) (match.Range, error) {
	value, err := r.resolve(field, c.value)
	if err != nil {
		return match.Range{}, err
	}
	one := func(allowed func(low, high int64) match.Range) (match.Range, error) {
		low, high, err := read(field, value)
		return allowed(low, high), err
	}
	switch c.key {
	case atLeast:
		return one(func(low, high int64) match.Range { return match.Range{Min: low, Asked: high} })
	case "greater_than":
		return one(func(low, high int64) match.Range { return match.Range{Min: low + 1, Asked: high} })
	case "less_or_equal":
		return one(func(_, high int64) match.Range { return match.Range{Max: high, Bounded: true} })
	case "less_than":
		return one(func(_, high int64) match.Range { return match.Range{Max: high - 1, Bounded: true} })
	case "equal":
		return r.values(field, []any{value}, read)
	case "valid_values":
		list, ok := value.([]any)
		if !ok || len(list) == 0 {
			return match.Range{}, flavor.Invalid("%s: must be a list of values, not %s", field, shown(value))
		}
		return r.values(field, list, read)
	case "in_range":
		return r.between(field, value, read)
	}
	return match.Range{}, flavor.Invalid("%s: is no constraint that is taken; equal, greater_or_equal, greater_than, less_or_equal, less_than, in_range and valid_values are", field)
}

// maxValidValues is more than there are sizes of machines.
const maxValidValues = 100

// values allows these only. A surplus is counted from the least.
func (r *reader) values(field string, list []any, read scalarReader) (match.Range, error) {
	if len(list) > maxValidValues {
		return match.Range{}, flavor.Invalid("%s: has %d values; at most %d are taken", field, len(list), maxValidValues)
	}
	if err := r.work.take(len(list)); err != nil {
		return match.Range{}, err
	}
	var all []int64
	asked := int64(math.MaxInt64)
	for _, value := range list {
		value, err := r.resolve(field, value)
		if err != nil {
			return match.Range{}, err
		}
		low, high, err := read(field, value)
		if err != nil {
			return match.Range{}, err
		}
		all, asked = append(all, low, high), min(asked, high)
	}
	allowed := match.OneOf(all...)
	allowed.Asked = asked
	return allowed, nil
}

func (r *reader) between(field string, value any, read scalarReader) (match.Range, error) {
	ends, ok := value.([]any)
	if !ok || len(ends) != 2 {
		return match.Range{}, flavor.Invalid("%s: must be a list of two values, such as [1, 4] or [1, UNBOUNDED], not %s", field, shown(value))
	}
	allowed := match.Range{}
	for i, end := range ends {
		end, err := r.resolve(field, end)
		if err != nil {
			return match.Range{}, err
		}
		if end == "UNBOUNDED" {
			continue
		}
		low, high, err := read(field, end)
		switch {
		case err != nil:
			return match.Range{}, err
		case i == 0:
			allowed.Min, allowed.Asked = low, high
		default:
			allowed.Max, allowed.Bounded = high, true
		}
	}
	if allowed.Bounded && allowed.Min > allowed.Max {
		return match.Range{}, flavor.Invalid("%s: the second value must not be below the first", field)
	}
	return allowed, nil
}

// whole is a count. INDIGO's templates write 1.0 as well.
var whole = regexp.MustCompile(`^([0-9]{1,40})(?:\.0{1,40})?$`)

func (r *reader) count(field string, value any) (low, high int64, err error) {
	text, ok := written(value)
	parts := whole.FindStringSubmatch(text)
	switch {
	case ok && negative.MatchString(text):
		return 0, 0, flavor.Invalid("%s: must not be below 0", field)
	case !ok || parts == nil:
		return 0, 0, flavor.Invalid("%s: must be a whole number, not %s", field, shown(value))
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || n > flavor.MaxNumber {
		return 0, 0, flavor.Invalid("%s: must be from 0 to %d, not %s", field, flavor.MaxNumber, shown(value))
	}
	return n, n, nil
}

func (r *reader) size(field string, value any) (low, high int64, err error) {
	text, ok := written(value)
	if !ok {
		return 0, 0, flavor.Invalid("%s: must be a number and a unit, such as 4 GB, not %s", field, shown(value))
	}
	s, err := ParseSize(field, text)
	return s.Bytes, s.Binary, err
}

// written is a value as it was written, where it is text or a number.
func written(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case int, int64, uint64:
		return fmt.Sprint(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}

// text narrows into to what value says: a text, or equal to one. "" says
// nothing, as templates have it where a form leaves it open.
func (r *reader) text(into *string, field string, value any) error {
	value, err := r.resolve(field, value)
	if err != nil {
		return err
	}
	if constraint, ok := value.(map[string]any); ok && len(constraint) == 1 && constraint["equal"] != nil {
		if value, err = r.resolve(under(field, "equal"), constraint["equal"]); err != nil {
			return err
		}
	}
	text, ok := written(value)
	switch text = strings.TrimSpace(text); {
	case !ok:
		return flavor.Invalid("%s: must be a text, or {equal: a text}, not %s", field, shown(value))
	case utf8.RuneCountInString(text) > 255:
		return flavor.Invalid("%s: must have at most 255 characters", field)
	case *into != "" && text != "" && !strings.EqualFold(*into, text):
		return flavor.Invalid("%s: cannot be both %.40q and %.40q", field, *into, text)
	case text != "":
		*into = text
	}
	return nil
}

// pair is a key with its value.
type pair struct {
	key   string
	value any
}

// pairs are those of a map, by the key, or of a list of maps, in its order.
// Nothing at all has none.
func pairs(field string, tree any) ([]pair, error) {
	switch v := tree.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		all := make([]pair, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			all = append(all, pair{key, v[key]})
		}
		return all, nil
	case []any:
		var all []pair
		for _, item := range v {
			m, ok := item.(map[string]any)
			if !ok {
				return nil, flavor.Invalid("%s: must be a map, or a list of maps, not a list with %s", field, shown(item))
			}
			of, err := pairs(field, m)
			if err != nil {
				return nil, err
			}
			all = append(all, of...)
		}
		return all, nil
	}
	return nil, flavor.Invalid("%s: must be a map, or a list of maps, not %s", field, shown(tree))
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,60}$`)

// under is the path of a key, as errors show it.
func under(field, key string) string {
	if !plain.MatchString(key) {
		key = fmt.Sprintf("%.60q", key)
	}
	if field == "" {
		return key
	}
	return field + "." + key
}
