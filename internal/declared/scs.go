package declared

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// scsFields are those of a flavor in the format of openstack-flavor-manager, beside
// the extra specs, which are the keys with a colon. ram is in MiB, although the names
// of the flavors count GiB; disk is in GB. A flavor without disk boots from a volume.
var scsFields = []string{"name", "cpus", "ram", "disk", "flavorid", "public", "disabled", "description"}

// scs reads the format of the flavor definitions of SovereignCloudStack
// (standards, Tests/iaas/SCS-Spec.MandatoryFlavors.verbose.yaml) and of OSISM
// (openstack-flavor-manager, flavors.yaml): reference: with defaults by field, and
// the lists mandatory: and recommended:.
func (r *reader) scs(top []entry, o Options) {
	defaults := map[string]entry{}
	for _, e := range top {
		switch e.key {
		case "reference":
			r.reference(e.value, defaults)
		case "mandatory", "recommended":
		default:
			r.unknown(e, "", "reference", "mandatory", "recommended")
		}
	}
	for _, list := range []string{"mandatory", "recommended"} {
		for _, e := range top {
			if e.key != list {
				continue
			}
			for i, n := range r.items(e.value, list) {
				path := fmt.Sprintf("%s[%d]", list, i)
				f, why := r.scsFlavor(n, path, defaults)
				switch {
				case why != "":
					r.leaveOut(n, path, f.Name, why)
				case list == "recommended" && o.MandatoryOnly:
					r.leaveOut(n, path, f.Name, "recommended only")
				default:
					r.add(n, path, f)
				}
			}
		}
	}
}

// reference reads what the fields of a flavor are where it does not name them. The
// prefixes of names are for those who compare names, as openstack-flavor-manager has
// it too.
func (r *reader) reference(n *yaml.Node, defaults map[string]entry) {
	for i, item := range r.items(n, "reference") {
		path := fmt.Sprintf("reference[%d]", i)
		var field string
		var value *yaml.Node
		all := r.entries(item, path)
		for _, e := range all {
			switch e.key {
			case "field":
				field, _ = r.text(e.value, path+".field")
			case "default":
				value = e.value
			case "mandatory_prefix", "optional_prefix":
				_, _ = r.text(e.value, path+"."+e.key)
			default:
				r.unknown(e, path, "field", "default", "mandatory_prefix", "optional_prefix")
			}
		}
		switch {
		case value == nil || field == "":
		case !slices.Contains(scsFields, field) && !strings.Contains(field, ":"):
			r.wrong(value, path, "there is no field %s: there are %s, and extra specs, which have a colon", quoted(field), strings.Join(scsFields, ", "))
		default:
			if _, twice := defaults[field]; twice {
				r.wrong(value, path, "%s has a default already", quoted(field))
			}
			defaults[field] = entry{field, value, value}
		}
	}
}

// scsFlavor reads a flavor; why says that it is not for the catalogue.
func (r *reader) scsFlavor(n *yaml.Node, path string, defaults map[string]entry) (f Flavor, why string) {
	f = Flavor{Spec: flavor.Spec{RxTxFactor: 1, ExtraSpecs: map[string]string{}}}
	before := len(r.problems)
	all := r.entries(n, path)
	if all == nil && len(r.problems) > before {
		return f, ""
	}
	named := make(map[string]bool, len(all))
	for _, e := range all {
		named[e.key] = true
	}
	for field, e := range defaults {
		if !named[field] {
			all = append(all, e)
		}
	}
	// The same messages each time, whatever the order of defaults.
	slices.SortStableFunc(all, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	for _, e := range all {
		at := path + "." + e.key
		switch e.key {
		case "name":
			f.Name = r.flavorName(e.value, at)
		case "cpus":
			f.VCPUs = r.size(e.value, at, func(p *flavor.Patch, v *int) { p.VCPUs = v })
		case "ram":
			f.RAM = r.size(e.value, at, func(p *flavor.Patch, v *int) { p.RAM = v })
		case "disk":
			f.Disk = r.size(e.value, at, func(p *flavor.Patch, v *int) { p.Disk = v })
		case "description":
			f.Description = r.description(e.value, at)
		case "flavorid":
			f.ID = r.flavorID(e.value, at)
		case "public":
			if yes := r.loosely(e.value, at); yes != nil && !*yes {
				why = "public is false, and the catalogue has public flavors only"
			}
		case "disabled":
			if yes := r.loosely(e.value, at); yes != nil && *yes {
				why = "disabled is true"
			}
		default:
			if !strings.Contains(e.key, ":") {
				r.unknown(e, path, append(slices.Clone(scsFields), "extra specs, which have a colon")...)
			} else if v, ok := r.scalar(e.value, at); ok {
				f.ExtraSpecs[e.key] = v
			}
		}
	}
	r.missing(n, path, all, "name", "cpus", "ram")
	r.validSpecs(n, path, all, f.ExtraSpecs)
	return f, why
}

// flavorID is an id that the catalogue can keep. What Nova would take and is no UUID
// (auto, 100) becomes one of the catalogue's own, as with any POST.
func (r *reader) flavorID(n *yaml.Node, path string) string {
	v, ok := r.scalar(n, path)
	if !ok || !flavor.IsUUID(v) {
		return ""
	}
	return v
}

// loosely is a truth value, which older files have in quotes.
func (r *reader) loosely(n *yaml.Node, path string) *bool {
	if s := r.follow(n); s != nil && s.Kind == yaml.ScalarNode && s.ShortTag() == "!!str" {
		if yes := strings.EqualFold(s.Value, "true"); yes || strings.EqualFold(s.Value, "false") {
			return &yes
		}
	}
	return r.yesOrNo(n, path)
}

// scalar is any one value, as it is written.
func (r *reader) scalar(n *yaml.Node, path string) (string, bool) {
	s := r.follow(n)
	if s == nil {
		return "", false
	}
	if s.Kind != yaml.ScalarNode || s.ShortTag() == "!!null" {
		r.wrong(n, path, "must be one value, not %s", kindOf(s))
		return "", false
	}
	return s.Value, true
}
