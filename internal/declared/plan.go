package declared

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Verb is what becomes of a flavor.
type Verb int

// What becomes of a flavor, in the order in which it is done: a name that a change
// gives up may be another flavor's to take.
const (
	Change Verb = iota + 1
	Create
	Delete
)

// Step is all that is to be done with one flavor.
type Step struct {
	Verb   Verb
	Name   string        // as the catalogue has it now, or is to have it
	Wanted Flavor        // not of Delete
	Found  flavor.Flavor // not of Create
	// Differences are those of the fields, of Change.
	Differences []flavor.Difference
	Promote     bool // Create: create it promoted; Change: promote it
	// Publish is, of Create, the private flavor of the first region of Install which
	// is the wanted one, and becomes the catalogue's; nil where there is none.
	Publish *flavor.Flavor
	Install []string // regions to install it in; of an unpromoted Create, the first is where it is created
	// Blocked is why Flavorsync would refuse it; nothing of the step is done then.
	Blocked []string
}

// Catalogue is what there is now.
type Catalogue struct {
	Flavors []flavor.Flavor // the public ones
	Private []flavor.Flavor // that the caller sees
	Regions []string        // that are registered; read only where the file names any
	Mine    []string        // that the caller owns; as Regions
}

// Wish is what is to be done with the catalogue beside what the file says.
type Wish struct {
	Promote bool // what the file leaves open is to be promoted
	Prune   bool // promoted flavors that the file does not name and no region has go
}

// Plan is the way from the catalogue as it is to what a file declares.
type Plan struct {
	Steps   []Step // changes, creations, deletions, each in the file's or the catalogue's order
	Same    int    // flavors that are as declared
	LeftOut []LeftOut
	// Kept are promoted flavors that the file does not name and some region has.
	// They are told where the wish was to prune; nothing is ever uninstalled.
	Kept []flavor.Flavor
	// Others is the number of flavors that the file does not name and nothing is done
	// with, without Kept.
	Others int
}

// Failing is the number of steps that are blocked.
func (p Plan) Failing() int {
	n := 0
	for _, s := range p.Steps {
		if len(s.Blocked) > 0 {
			n++
		}
	}
	return n
}

// NewPlan compares. A declared flavor is the one of the catalogue that has its id,
// else the one that has its name.
func NewPlan(file File, now Catalogue, wish Wish) Plan {
	p := planner{now: now, wish: wish, byID: map[string]int{}, byName: map[string]int{}, taken: make([]bool, len(now.Flavors))}
	for i, f := range now.Flavors {
		if at, twice := p.byID[f.ID]; twice {
			p.taken[at] = true // on two pages, for it was renamed between them
		}
		p.byID[f.ID], p.byName[f.Name] = i, i
	}
	plan := Plan{LeftOut: file.LeftOut}
	meets := p.match(file.Flavors)
	for i, f := range file.Flavors {
		if meets[i] < 0 {
			plan.Steps = append(plan.Steps, p.create(f))
			continue
		}
		if s := p.change(f, meets[i]); s.differs() {
			plan.Steps = append(plan.Steps, s)
		} else {
			plan.Same++
		}
	}
	for _, l := range file.LeftOut {
		if i, ok := p.byName[l.Name]; ok {
			p.taken[i] = true // named, so it is not pruned
		}
	}
	for i, f := range now.Flavors {
		switch {
		case p.taken[i]:
		case !wish.Prune || !f.Promoted:
			plan.Others++
		case len(f.Nodes) > 0:
			plan.Kept = append(plan.Kept, f)
		default:
			plan.Steps = append(plan.Steps, Step{Verb: Delete, Name: f.Name, Found: f})
		}
	}
	slices.SortStableFunc(plan.Steps, func(a, b Step) int { return int(a.Verb) - int(b.Verb) })
	return plan
}

type planner struct {
	now          Catalogue
	wish         Wish
	byID, byName map[string]int // to the place in now.Flavors
	taken        []bool         // by a declared flavor
}

// match is, for each declared flavor, the place of the catalogue's that it is, or -1.
func (p *planner) match(all []Flavor) []int {
	meets := make([]int, len(all))
	for i, f := range all {
		meets[i] = -1
		if at, ok := p.byID[f.ID]; ok && f.ID != "" {
			meets[i], p.taken[at] = at, true
		}
	}
	for i, f := range all {
		if meets[i] >= 0 {
			continue
		}
		if at, ok := p.byName[f.Name]; ok && !p.taken[at] {
			meets[i], p.taken[at] = at, true
		}
	}
	return meets
}

func (p *planner) create(f Flavor) Step {
	s := Step{Verb: Create, Name: f.Name, Wanted: f, Install: slices.Clone(f.Nodes)}
	// Without a region it can be nowhere but in the catalogue, promoted.
	s.Promote = f.Promoted != nil && *f.Promoted || f.Promoted == nil && (p.wish.Promote || len(f.Nodes) == 0)
	retire := f.Retired != nil && *f.Retired
	if !s.Promote {
		if len(f.Nodes) == 0 {
			s.block("it is in no region yet and not to be promoted: give nodes, one of which it is created in, or promoted: true")
		}
		if retire {
			s.block("retired: only a promoted flavor is retired")
		}
		first := slices.IndexFunc(s.Install, func(node string) bool { return slices.Contains(p.now.Mine, node) })
		if i := slices.IndexFunc(p.now.Private, s.is); i >= 0 {
			s.Publish = &p.now.Private[i]
			first = slices.Index(s.Install, s.Publish.Nodes[0])
		}
		if first > 0 {
			node := s.Install[first]
			s.Install = slices.Insert(slices.Delete(s.Install, first, first+1), 0, node)
		}
	}
	p.installable(&s, retire)
	return s
}

// is says whether a region's own flavor is the wanted one. Where it would keep
// another id than the declared one, it is not.
func (s *Step) is(private flavor.Flavor) bool {
	return len(private.Nodes) == 1 && slices.Contains(s.Install, private.Nodes[0]) && s.Wanted.Equal(private.Spec) &&
		(s.Wanted.ID == "" || s.Wanted.ID == private.ID)
}

func (p *planner) change(f Flavor, at int) Step {
	found := p.now.Flavors[at]
	s := Step{Verb: Change, Name: found.Name, Wanted: f, Found: found, Differences: f.Differences(found.Spec)}
	if f.ID != "" && f.ID != found.ID {
		s.Differences = slices.Insert(s.Differences, 0, flavor.Difference{Field: "id", Wanted: f.ID, Found: found.ID})
		s.block("id: an id may not change: leave it out of the file, or write the catalogue's")
	}
	if at, ok := p.byName[f.Name]; ok && f.Name != found.Name {
		s.block("name: the catalogue has another flavor of this name, with the id %s: rename or delete that first", p.now.Flavors[at].ID)
	}
	s.Promote = !found.Promoted && (f.Promoted != nil && *f.Promoted || f.Promoted == nil && p.wish.Promote)
	if f.Promoted != nil && !*f.Promoted && found.Promoted {
		s.Differences = append(s.Differences, flavor.Difference{Field: "promoted", Wanted: "false", Found: "true"})
		s.block("promoted: a flavor is not unpromoted: declare it retired, or delete it (DELETE /v1/promotedflavors/%s)", found.ID)
	}
	promoted := s.Promote || found.Promoted
	if len(f.Differences(found.Spec)) > 0 {
		switch {
		case !promoted:
			s.block("a flavor that is not promoted cannot be changed: promote it (promoted: true, or --promote), or declare it as it is")
		case !inPlace(s.Differences) && len(found.Nodes) > 0:
			s.block("it is installed in %s, so only its description and extra specs may change: remove it there first, or declare a new flavor and retire this one",
				strings.Join(found.Nodes, ", "))
		}
	}
	retired := found.Retired
	if f.Retired != nil && *f.Retired != found.Retired {
		retired = *f.Retired
		s.Differences = append(s.Differences, flavor.Difference{Field: "retired", Wanted: strconv.FormatBool(retired), Found: strconv.FormatBool(found.Retired)})
		if !promoted {
			s.block("retired: only a promoted flavor is retired: promote it, or leave retired out")
		}
	}
	for _, node := range f.Nodes {
		if !slices.Contains(found.Nodes, node) {
			s.Install = append(s.Install, node)
		}
	}
	p.installable(&s, retired)
	return s
}

// installable blocks what no region would take.
func (p *planner) installable(s *Step, retired bool) {
	if len(s.Install) == 0 {
		return
	}
	if retired {
		s.block("nodes: it is retired, and takes no new installs: declare it with retired: false, or leave %s out", strings.Join(s.Install, ", "))
	}
	for _, node := range s.Install {
		if !slices.Contains(p.now.Regions, node) {
			s.block("nodes: no region %q is registered: there are %s", node, strings.Join(p.now.Regions, ", "))
		}
	}
}

// inPlace says whether a flavor can change so while regions have it.
func inPlace(ds []flavor.Difference) bool {
	return !slices.ContainsFunc(ds, func(d flavor.Difference) bool {
		switch d.Field {
		case "name", "vcpus", "ram", "disk", "swap", "ephemeral", "rxtx_factor":
			return true
		}
		return false
	})
}

func (s *Step) block(format string, args ...any) {
	s.Blocked = append(s.Blocked, fmt.Sprintf(format, args...))
}

func (s *Step) differs() bool {
	return len(s.Differences) > 0 || s.Promote || len(s.Install) > 0 || len(s.Blocked) > 0
}

// Changes is what a PUT under /v1/promotedflavors is to say so that the flavor has
// the wanted fields: nothing of what is as it should be.
func (s *Step) Changes() map[string]any {
	body := map[string]any{}
	for _, d := range s.Differences {
		switch d.Field {
		case "name":
			body["name"] = s.Wanted.Name
		case "vcpus":
			body["vcpus"] = s.Wanted.VCPUs
		case "ram":
			body["ram"] = s.Wanted.RAM
		case "disk":
			body["disk"] = s.Wanted.Disk
		case "swap":
			body["swap"] = s.Wanted.Swap
		case "ephemeral":
			body["ephemeral"] = s.Wanted.Ephemeral
		case "rxtx_factor":
			body["rxtx_factor"] = s.Wanted.RxTxFactor
		case "description":
			body["description"] = s.Wanted.Description
		case "retired":
			body["retired"] = *s.Wanted.Retired
		default:
			if strings.HasPrefix(d.Field, "extra_specs.") {
				body["extra_specs"] = s.specs()
			}
		}
	}
	return body
}

// New is the body that creates the flavor.
func (s *Step) New() map[string]any {
	body := map[string]any{
		"name": s.Wanted.Name, "vcpus": s.Wanted.VCPUs, "ram": s.Wanted.RAM, "disk": s.Wanted.Disk, "swap": s.Wanted.Swap,
		"ephemeral": s.Wanted.Ephemeral, "rxtx_factor": s.Wanted.RxTxFactor, "description": s.Wanted.Description, "extra_specs": s.specs(),
	}
	if s.Wanted.ID != "" {
		body["id"] = s.Wanted.ID
	}
	return body
}

// specs is never nil: null is no object.
func (s *Step) specs() map[string]string {
	if s.Wanted.ExtraSpecs == nil {
		return map[string]string{}
	}
	return s.Wanted.ExtraSpecs
}
