package tosca

import (
	"maps"
	"slices"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// maxNodes is how many node templates a template may have: each is matched.
const maxNodes = 1000

// maxDerived is how many types one may be derived over. TOSCA's own need three.
const maxDerived = 64

// Node is a compute node of a template, or a node that wants a host which the
// template does not have.
type Node struct {
	Name string
	Type string
	Host
	// Err, CodeInvalid, says why it cannot be known what the node is to have; the
	// rest of the template is none the worse for it.
	Err error
}

// Names of types that are compute nodes without the document saying so: TOSCA's
// own, in its three spellings, and INDIGO's, whose types are imported.
var computeTypes = []string{
	"tosca.nodes.Compute", "tosca:Compute", "Compute", "tosca.nodes.indigo.Compute", "tosca.nodes.indigo.MonitoredCompute",
}

// What a node_filter can call the capability: by its name or by its type.
var hostCapabilities = []string{"host", "tosca.capabilities.Compute", "tosca.capabilities.Container"}

// ParseTemplate is Template of what Decode reads.
func ParseTemplate(text []byte, given map[string]any) ([]Node, error) {
	tree, err := Decode(text)
	if err != nil {
		return nil, err
	}
	return Template(tree, given)
}

// Template reads a service template, as Decode gives it, or only its
// node_templates (with inputs and node_types beside them, if need be), and tells
// of its compute nodes, by name. These are the nodes of a compute type, or of one
// derived from it in node_types, and those with the properties of a host, as
// their type may be imported. Imports are not followed.
//
// A node is to have what its type, its capability host, its own node_filter and
// the node_filters of the nodes hosted on it say together. A node that is to be
// hosted on none of the template's nodes, but on any with a node_filter or of a
// compute type, is told of under its own name.
//
// given are the values of inputs, which go before their defaults. An error,
// CodeInvalid, is of the whole template; one of a node is the node's.
func Template(tree any, given map[string]any) ([]Node, error) {
	t, err := open(tree, given)
	if err != nil {
		return nil, err
	}
	if err := t.cycle(); err != nil {
		return nil, err
	}
	for _, name := range t.names {
		if err := t.node(name); err != nil {
			return nil, err
		}
	}
	for _, name := range t.names {
		for _, h := range t.hosts[name] {
			if err := t.filter(name, h); err != nil {
				return nil, err
			}
		}
	}
	if t.work.left < 0 {
		return nil, errTooMuchWork // which some nodes have taken for theirs
	}
	nodes := make([]Node, 0, len(t.asked))
	for _, name := range slices.Sorted(maps.Keys(t.asked)) {
		a := t.asked[name]
		kind, _ := t.nodes[name]["type"].(string)
		n := Node{Name: name, Type: kind, Err: a.err}
		if n.Err == nil {
			n.Host = a.host()
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// template is one that is being read.
type template struct {
	names           []string // of the nodes, sorted
	nodes           map[string]map[string]any
	nodeTypes       map[string]any
	capabilityTypes map[string]any
	inputs          *inputs
	work            *work
	hosts           map[string][]hostOn // of each node
	asked           map[string]*asking  // of the nodes that will be told of
}

// hostOn is a requirement host: where a node is to be.
type hostOn struct {
	field  string
	node   string // the name of a node or a type; "": any
	filter any    // its node_filter; nil: none
}

// asking is what is asked of a node so far; err is the first thing wrong with it.
type asking struct {
	reader
	err error
}

// try adds to what is asked.
func (a *asking) try(add func(*reader) error) {
	if a.err == nil {
		a.err = add(&a.reader)
	}
}

func open(tree any, given map[string]any) (*template, error) {
	document, ok := tree.(map[string]any)
	if !ok {
		return nil, flavor.Invalid("the template must be a map, not %s", shown(tree))
	}
	topology := document
	if _, whole := document["topology_template"]; whole {
		var err error
		if topology, err = mapping("topology_template", document["topology_template"]); err != nil {
			return nil, err
		}
	}
	if _, ok := topology["node_templates"]; !ok {
		return nil, flavor.Invalid("the template has no node_templates: a service template has them in topology_template")
	}
	t := &template{nodes: map[string]map[string]any{}, hosts: map[string][]hostOn{}, asked: map[string]*asking{}, work: newWork()}
	templates, err := mapping("node_templates", topology["node_templates"])
	if err != nil {
		return nil, err
	}
	if n := len(templates); n > maxNodes {
		return nil, flavor.Invalid("node_templates: has %d nodes; at most %d are taken", n, maxNodes)
	}
	t.names = slices.Sorted(maps.Keys(templates))
	for _, name := range t.names {
		field := under("node_templates", name)
		if t.nodes[name], err = copied(templates, field, name); err != nil {
			return nil, err
		}
		if t.hosts[name], err = hosts(under(field, "requirements"), t.nodes[name]["requirements"]); err != nil {
			return nil, err
		}
	}
	if t.nodeTypes, err = mapping("node_types", document["node_types"]); err != nil {
		return nil, err
	}
	if t.capabilityTypes, err = mapping("capability_types", document["capability_types"]); err != nil {
		return nil, err
	}
	t.inputs = &inputs{given: given}
	t.inputs.declared, err = mapping("inputs", topology["inputs"])
	return t, err
}

// copied is a node template, with what it copies from another where it does not say
// otherwise itself.
func copied(templates map[string]any, field, name string) (map[string]any, error) {
	node, err := mapping(field, templates[name])
	source, copies := node["copy"]
	if err != nil || !copies {
		return node, err
	}
	from, ok := source.(string)
	if _, there := templates[from]; !ok || !there {
		return nil, flavor.Invalid("%s.copy: must be the name of a node template that there is, not %s", field, shown(source))
	}
	original, err := mapping(under("node_templates", from), templates[from])
	if err != nil {
		return nil, err
	}
	if _, again := original["copy"]; again {
		return nil, flavor.Invalid("%s.copy: %.60q is a copy itself, and TOSCA has no copies of copies", field, from)
	}
	whole := maps.Clone(original)
	maps.Copy(whole, node)
	return whole, nil
}

// mapping is a map; nothing is an empty one.
func mapping(field string, tree any) (map[string]any, error) {
	switch v := tree.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return v, nil
	}
	return nil, flavor.Invalid("%s: must be a map, not %s", field, shown(tree))
}

// hosts are the requirements named host, in their two notations.
func hosts(field string, tree any) ([]hostOn, error) {
	requirements, err := pairs(field, tree)
	if err != nil {
		return nil, err
	}
	var all []hostOn
	for _, r := range requirements {
		if r.key != "host" {
			continue
		}
		h := hostOn{field: under(field, "host")}
		switch v := r.value.(type) {
		case string:
			h.node = v
		case map[string]any:
			h.filter = v["node_filter"]
			if v["node"] != nil {
				var ok bool
				if h.node, ok = v["node"].(string); !ok {
					return nil, flavor.Invalid("%s.node: must be the name of a node or a type, not %s", h.field, shown(v["node"]))
				}
			}
		default:
			return nil, flavor.Invalid("%s: must be the name of a node, or a map with node and node_filter, not %s", h.field, shown(r.value))
		}
		all = append(all, h)
	}
	return all, nil
}

// cycle refuses nodes that are hosted on each other.
func (t *template) cycle() error {
	done := map[string]bool{}
	var path []string
	var visit func(name string) error
	visit = func(name string) error {
		if i := slices.Index(path, name); i >= 0 {
			return flavor.Invalid("node_templates: %s", ring("are hosted on each other", path[i:]))
		}
		if done[name] {
			return nil
		}
		path = append(path, name)
		for _, h := range t.hosts[name] {
			if _, ok := t.nodes[h.node]; ok {
				if err := visit(h.node); err != nil {
					return err
				}
			}
		}
		path = path[:len(path)-1]
		done[name] = true
		return nil
	}
	for _, name := range t.names {
		if err := visit(name); err != nil {
			return err
		}
	}
	return nil
}

// ring names those that are in a cycle, as far as it helps.
func ring(what string, names []string) string {
	const most = 5
	named := make([]string, 0, most+2)
	for _, name := range names[:min(most, len(names))] {
		named = append(named, under("", name))
	}
	if len(names) > most {
		named = append(named, "...")
	}
	named = append(named, under("", names[0]))
	return what + " in a cycle: " + strings.Join(named, " -> ")
}

// derived are the definitions of a type in types and of those it is derived from,
// itself first, and the names of all of them. The last has no definition there
// where it is TOSCA's own, imported or nobody's.
func derived(field string, types map[string]any, name string) (definitions []map[string]any, names []string, err error) {
	for name != "" {
		if i := slices.Index(names, name); i >= 0 {
			return nil, nil, flavor.Invalid("%s: %s", field, ring("are derived from each other", names[i:]))
		}
		if len(names) > maxDerived {
			return nil, nil, flavor.Invalid("%s: is derived over more than %d types", under(field, names[0]), maxDerived)
		}
		names = append(names, name)
		definition, err := mapping(under(field, name), types[name])
		if err != nil {
			return nil, nil, err
		}
		if definition != nil {
			definitions = append(definitions, definition)
		}
		name, _ = definition["derived_from"].(string)
	}
	return definitions, names, nil
}

// compute says whether a type is one of compute nodes, with its definitions.
func (t *template) compute(name string) (definitions []map[string]any, is bool, err error) {
	definitions, names, err := derived("node_types", t.nodeTypes, name)
	if err == nil {
		err = t.work.take(1 + len(names))
	}
	return definitions, slices.ContainsFunc(names, func(name string) bool { return slices.Contains(computeTypes, name) }), err
}

// node asks what a node says of itself, if it is a compute node.
func (t *template) node(name string) error {
	node := t.nodes[name]
	kind, _ := node["type"].(string)
	field := under("node_templates", name)
	definitions, is, err := t.compute(kind)
	if err != nil {
		return err
	}
	own, ownErr := hostProperties(under(field, "capabilities"), node["capabilities"])
	if !is && !slices.ContainsFunc(own, func(p pair) bool { return properties[p.key] != nil }) {
		return nil
	}
	a := t.ask(name)
	a.try(func(*reader) error { return ownErr })
	a.try(func(r *reader) error { return t.defaults(r, kind, definitions, own) })
	field = under(under(field, "capabilities"), "host.properties")
	for _, p := range own {
		a.try(func(r *reader) error { return r.property(under(field, p.key), p.key, p.value) })
	}
	a.try(func(r *reader) error {
		return filtered(r, under(under("node_templates", name), "node_filter"), node["node_filter"])
	})
	return nil
}

// ask is what is asked of a node; from now on it is told of.
func (t *template) ask(name string) *asking {
	if t.asked[name] == nil {
		t.asked[name] = &asking{reader: reader{inputs: t.inputs, work: t.work}}
	}
	return t.asked[name]
}

// hostProperties are those that a node assigns.
func hostProperties(field string, capabilities any) ([]pair, error) {
	all, err := pairs(field, capabilities)
	if err != nil {
		return nil, err
	}
	var own []pair
	for _, c := range all {
		if c.key != "host" {
			continue
		}
		host, err := mapping(under(field, "host"), c.value)
		if err != nil {
			return nil, err
		}
		said, err := pairs(under(field, "host.properties"), host["properties"])
		if err != nil {
			return nil, err
		}
		own = append(own, said...)
	}
	return own, nil
}

// defaults asks what a type says of its host: the constraints of all the types it
// is derived from, and the nearest default of what the node does not assign.
func (t *template) defaults(r *reader, kind string, definitions []map[string]any, own []pair) error {
	field := under("node_types", kind)
	settled := map[string]bool{}
	for _, p := range own {
		settled[p.key] = true
	}
	capability := ""
	for _, definition := range definitions {
		capabilities, err := mapping(under(field, "capabilities"), definition["capabilities"])
		if err != nil {
			return err
		}
		host, ok := capabilities["host"].(map[string]any)
		if !ok {
			host = map[string]any{"type": capabilities["host"]} // its short notation
		}
		if name, ok := host["type"].(string); ok && capability == "" {
			capability = name
		}
		if err := t.defined(r, under(field, "capabilities.host.properties"), host["properties"], settled); err != nil {
			return err
		}
	}
	of, _, err := derived("capability_types", t.capabilityTypes, capability)
	if err != nil {
		return err
	}
	field = under(under("capability_types", capability), "properties")
	for _, definition := range of {
		if err := t.defined(r, field, definition["properties"], settled); err != nil {
			return err
		}
	}
	return nil
}

// defined asks what the definitions of properties say.
func (t *template) defined(r *reader, field string, tree any, settled map[string]bool) error {
	all, err := t.work.pairs(field, tree)
	if err != nil {
		return err
	}
	for _, p := range all {
		field := under(field, p.key)
		definition, err := mapping(field, p.value)
		if err != nil {
			return err
		}
		if properties[p.key] == nil {
			continue // a type may define what it likes
		}
		// A type's constraint on a text is on what may be written, and of no more use.
		if constraints := definition["constraints"]; constraints != nil && slices.Contains(sizes, p.key) {
			if err := properties[p.key](r, under(field, "constraints"), constraints); err != nil {
				return err
			}
		}
		if value := definition["default"]; value != nil && !settled[p.key] {
			settled[p.key] = true
			if err := properties[p.key](r, under(field, "default"), value); err != nil {
				return err
			}
		}
	}
	return nil
}

// filter asks what a node says of its host: of the node it names, or of one that
// is still to be found.
func (t *template) filter(name string, h hostOn) error {
	field := under(h.field, "node_filter")
	if _, there := t.nodes[h.node]; there {
		if a := t.asked[h.node]; a != nil {
			a.try(func(r *reader) error { return filtered(r, field, h.filter) })
		}
		return nil // it speaks of a host that is no compute node
	}
	definitions, is, err := t.compute(h.node)
	if err != nil {
		return err
	}
	if is || filtersHost(h.filter) {
		a := t.ask(name)
		a.try(func(r *reader) error { return t.defaults(r, h.node, definitions, nil) })
		a.try(func(r *reader) error { return filtered(r, field, h.filter) })
	}
	return nil
}

// filtersHost says whether a node_filter is of a host, as far as it can be read.
func filtersHost(tree any) bool {
	filter, err := mapping("", tree)
	capabilities, err2 := pairs("", filter["capabilities"])
	return err != nil || err2 != nil || slices.ContainsFunc(capabilities, func(c pair) bool { return slices.Contains(hostCapabilities, c.key) })
}

// filtered asks what a node_filter says of the capability host. What it says of
// others, such as os, no flavor tells.
func filtered(r *reader, field string, tree any) error {
	filter, err := mapping(field, tree)
	if err != nil {
		return err
	}
	capabilities, err := r.work.pairs(under(field, "capabilities"), filter["capabilities"])
	if err != nil {
		return err
	}
	for _, c := range capabilities {
		if !slices.Contains(hostCapabilities, c.key) {
			continue
		}
		field := under(under(field, "capabilities"), c.key)
		capability, err := mapping(field, c.value)
		if err != nil {
			return err
		}
		if err := r.add(under(field, "properties"), capability["properties"]); err != nil {
			return err
		}
	}
	return nil
}
