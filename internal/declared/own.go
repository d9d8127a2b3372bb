package declared

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// ownFields are those of a flavor in our own format, in the words of the API.
var ownFields = []string{"name", "id", "vcpus", "ram", "disk", "swap", "ephemeral", "rxtx_factor", "description", "extra_specs", "promoted", "retired", "nodes"}

// own reads our own format: flavors: and a list below.
func (r *reader) own(top []entry) {
	for _, e := range top {
		if e.key != "flavors" {
			r.unknown(e, "", "flavors")
			continue
		}
		for i, n := range r.items(e.value, e.key) {
			path := fmt.Sprintf("flavors[%d]", i)
			r.add(n, path, r.ownFlavor(n, path))
		}
	}
}

func (r *reader) ownFlavor(n *yaml.Node, path string) Flavor {
	f := Flavor{Spec: flavor.Spec{RxTxFactor: 1}}
	before := len(r.problems)
	all := r.entries(n, path)
	if all == nil && len(r.problems) > before {
		return f
	}
	for _, e := range all {
		at := path + "." + e.key
		switch e.key {
		case "name":
			f.Name = r.flavorName(e.value, at)
		case "id":
			f.ID = r.uuid(e.value, at)
		case "vcpus":
			f.VCPUs = r.size(e.value, at, func(p *flavor.Patch, v *int) { p.VCPUs = v })
		case "ram":
			f.RAM = r.size(e.value, at, func(p *flavor.Patch, v *int) { p.RAM = v })
		case "disk":
			f.Disk = r.size(e.value, at, func(p *flavor.Patch, v *int) { p.Disk = v })
		case "swap":
			f.Swap = r.size(e.value, at, func(p *flavor.Patch, v *int) { p.Swap = v })
		case "ephemeral":
			f.Ephemeral = r.size(e.value, at, func(p *flavor.Patch, v *int) { p.Ephemeral = v })
		case "rxtx_factor":
			if v, ok := r.number(e.value, at); ok && r.valid(e.value, at, flavor.Patch{RxTxFactor: &v}) {
				f.RxTxFactor = v
			}
		case "description":
			f.Description = r.description(e.value, at)
		case "extra_specs":
			f.ExtraSpecs = r.extraSpecs(e.value, at)
		case "promoted":
			f.Promoted = r.yesOrNo(e.value, at)
		case "retired":
			f.Retired = r.yesOrNo(e.value, at)
		case "nodes":
			f.Nodes = r.nodes(e.value, at)
		default:
			r.unknown(e, path, ownFields...)
		}
	}
	r.missing(n, path, all, "name", "vcpus", "ram", "disk")
	return f
}

func (r *reader) flavorName(n *yaml.Node, path string) string {
	if v, ok := r.text(n, path); ok && r.valid(n, path, flavor.Patch{Name: &v}) {
		return v
	}
	return ""
}

func (r *reader) description(n *yaml.Node, path string) string {
	if v, ok := r.text(n, path); ok && r.valid(n, path, flavor.Patch{Description: &v}) {
		return v
	}
	return ""
}

// size reads a whole number, which set puts where it is to be checked.
func (r *reader) size(n *yaml.Node, path string, set func(*flavor.Patch, *int)) int {
	v, ok := r.whole(n, path)
	var p flavor.Patch
	if set(&p, &v); ok && r.valid(n, path, p) {
		return v
	}
	return 0
}

// uuid reads an id. The catalogue has UUIDs only; a POST would put a new one in the
// place of any other, and the file could never be met.
func (r *reader) uuid(n *yaml.Node, path string) string {
	v, ok := r.text(n, path)
	if ok && !flavor.IsUUID(v) {
		r.wrong(n, path, "must be a UUID in lower case, as the catalogue's ids are: leave it out to get one")
		return ""
	}
	return v
}

func (r *reader) extraSpecs(n *yaml.Node, path string) map[string]string {
	specs := map[string]string{}
	all := r.entries(n, path)
	for _, e := range all {
		if v, ok := r.text(e.value, path+"."+e.key); ok {
			specs[e.key] = v
		}
	}
	r.validSpecs(n, path, all, specs)
	return specs
}

// validSpecs tells what Nova would refuse of specs, which were read at n and have
// some of all as their entries: each by itself, or all together.
func (r *reader) validSpecs(n *yaml.Node, path string, all []entry, specs map[string]string) {
	if (flavor.Patch{ExtraSpecs: &specs}).Validate() == nil {
		return
	}
	before := len(r.problems)
	for _, e := range all {
		if v, ok := specs[e.key]; ok {
			r.valid(e.value, path+"."+e.key, flavor.Patch{ExtraSpecs: &map[string]string{e.key: v}})
		}
	}
	if len(r.problems) == before {
		r.valid(n, path, flavor.Patch{ExtraSpecs: &specs})
	}
}

func (r *reader) nodes(n *yaml.Node, path string) []string {
	var nodes []string
	for i, item := range r.items(n, path) {
		at := fmt.Sprintf("%s[%d]", path, i)
		node, ok := r.text(item, at)
		switch {
		case !ok:
		case node == "":
			r.wrong(item, at, "must be a region's name")
		case slices.Contains(nodes, node):
			r.wrong(item, at, "%s is in the list already", quoted(node))
		default:
			nodes = append(nodes, node)
		}
	}
	return nodes
}
