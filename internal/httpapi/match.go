package httpapi

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/marketplace"
	"github.com/flavorsync/flavorsync/internal/match"
	"github.com/flavorsync/flavorsync/internal/tosca"
)

// matching is what a body asks to be matched: the nodes of a template, or one
// host, which is a node without a name.
type matching struct {
	template bool
	nodes    []tosca.Node
	regions  []string // none: any
	limit    int      // flavors for each node; 0: all
}

func matchFlavors(k *call) error {
	tree, err := k.matchTree()
	if err != nil {
		return err
	}
	m, err := readMatching(tree)
	if err != nil {
		return err
	}
	var wanted []match.Requirement
	for i := range m.nodes {
		if n := &m.nodes[i]; n.Err == nil {
			n.Requirement.Regions = m.regions
			wanted = append(wanted, n.Requirement)
		}
	}
	found, err := k.s.cfg.Market.Match(k.ctx, k.who, wanted, m.limit)
	if err != nil {
		return err
	}
	matched := make([]matchedNode, len(m.nodes))
	for i, n := range m.nodes {
		matched[i].Node = n
		if n.Err != nil {
			matched[i].Reason = known(n.Err).Message
		} else {
			matched[i].Match, found = found[0], found[1:]
		}
	}
	if prefersYAML(k.Request().Header["Accept"]) {
		return k.matchedYAML(matched)
	}
	if !m.template {
		return k.changed(encodeMatch(k.format, &matched[0]))
	}
	return k.changed(encodeMatchedNodes(k.format, matched))
}

// The members of a body beside those of a TOSCA template that is the body itself.
const matchMembers = "host, node_templates, topology_template or template, with regions, limit and inputs"

// readMatching reads a body's members, with their envelope or without.
func readMatching(tree any) (m matching, err error) {
	members, ok := tree.(map[string]any)
	if inner, enveloped := members["match"]; enveloped && len(members) == 1 {
		members, ok = inner.(map[string]any)
	}
	if !ok {
		return m, flavor.Invalid("the body must be an object with %s", matchMembers)
	}
	members = maps.Clone(members)
	take := func(name string) (any, bool) {
		value, there := members[name]
		delete(members, name)
		return value, there
	}
	if value, there := take("regions"); there {
		if m.regions, err = matchRegions(value); err != nil {
			return m, err
		}
	}
	limit, limited := take("limit")
	if limited {
		if m.limit, err = matchLimit(limit); err != nil {
			return m, err
		}
	}
	var kinds []string
	for _, kind := range []string{"host", "node_templates", "topology_template", "template"} {
		if _, there := members[kind]; there {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) != 1 {
		return m, flavor.Invalid("the body must have one of host, node_templates, topology_template and template; it has %s",
			cmp.Or(strings.Join(kinds, " and "), "none"))
	}
	if kinds[0] == "host" {
		host, _ := take("host")
		if err := nothingElse(members); err != nil {
			return m, err
		}
		if _, ok := host.(map[string]any); !ok {
			return m, flavor.Invalid("host: must be an object with the properties of a TOSCA host, such as num_cpus and mem_size")
		}
		h, err := tosca.ParseHost("host", host)
		m.nodes = []tosca.Node{{Host: h}}
		return m, err
	}
	m.template = true
	if !limited {
		m.limit = 1
	}
	if m.nodes, err = templateNodes(members, kinds[0]); err != nil {
		return m, err
	}
	if len(m.nodes)*m.limit > maxAnswers {
		return m, flavor.Invalid("limit: %d flavors for each of %d nodes are more than the %d that one answer has at most; say less, or match fewer nodes at once",
			m.limit, len(m.nodes), maxAnswers)
	}
	return m, nil
}

// maxAnswers is how many flavors the answer about a template has at most, of all
// its nodes together.
const maxAnswers = 2000

// toscaMembers are the members of a TOSCA service template, and of its topology,
// that may stand beside node_templates: nothing is read of most.
var toscaMembers = []string{
	"tosca_definitions_version", "namespace", "metadata", "template_name", "template_author", "template_version", "description",
	"dsl_definitions", "repositories", "imports", "artifact_types", "data_types", "capability_types", "interface_types",
	"relationship_types", "node_types", "group_types", "policy_types", "topology_template",
	"inputs", "node_templates", "relationship_templates", "groups", "policies", "outputs", "substitution_mappings", "workflows",
}

func nothingElse(members map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		return flavor.Invalid("%.100q: there is no such field; there are %s", name, matchMembers)
	}
	return nil
}

// templateNodes are the compute nodes of the template that members hold as kind.
func templateNodes(members map[string]any, kind string) ([]tosca.Node, error) {
	given, err := givenInputs(members, kind == "node_templates")
	if err != nil {
		return nil, err
	}
	if kind != "template" {
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if !slices.Contains(toscaMembers, name) {
				return nil, flavor.Invalid("%.100q: there is no such field; there are %s, and those of a TOSCA service template", name, matchMembers)
			}
		}
		return tosca.Template(members, given)
	}
	text, ok := members[kind].(string)
	if !ok {
		return nil, flavor.Invalid("template: must be the text of a TOSCA template, as a string")
	}
	delete(members, kind)
	delete(members, "inputs")
	if err := nothingElse(members); err != nil {
		return nil, err
	}
	tree, err := tosca.Decode([]byte(text))
	if err != nil {
		return nil, err
	}
	return tosca.Template(tree, given)
}

// givenInputs are the values of a template's inputs. Beside node_templates its own
// are declared by the same name, each by a map.
func givenInputs(members map[string]any, declared bool) (map[string]any, error) {
	inputs, there := members["inputs"]
	if !there {
		return nil, nil
	}
	given, ok := inputs.(map[string]any)
	if !ok {
		return nil, flavor.Invalid("inputs: must be an object of values")
	}
	if !declared {
		return given, nil
	}
	given = maps.Clone(given)
	maps.DeleteFunc(given, func(_ string, value any) bool {
		_, declaration := value.(map[string]any)
		return declaration
	})
	return given, nil
}

// matchRegions reads a list of names, one name, or any.
func matchRegions(value any) ([]string, error) {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	var names []string
	for _, one := range list {
		name, ok := one.(string)
		switch {
		case !ok || !flavor.ValidRegionName(name):
			return nil, flavor.Invalid("regions: must be a list of the names of regions, or any")
		case name == "any" && len(list) == 1:
			return nil, nil
		case name == "any":
			return nil, flavor.Invalid("regions: any stands alone, without the names of regions")
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, flavor.Invalid("regions: names none; leave it out, or say any, for all of them")
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func matchLimit(value any) (int, error) {
	if number, ok := value.(json.Number); ok {
		if n, err := strconv.ParseUint(number.String(), 10, 31); err == nil && n > 0 {
			return int(n), nil
		}
	}
	return 0, flavor.Invalid("limit: must be a whole number from 1 to %d", flavor.MaxNumber)
}

// matchedNode is a node, or the one host, with what fits it.
type matchedNode struct {
	tosca.Node
	marketplace.Match
}

var yamlContent = []string{"application/x-yaml; charset=utf-8"}

// matchedYAML answers with a TOSCA node type for each flavor that fits.
func (k *call) matchedYAML(nodes []matchedNode) error {
	var fits []match.Fit
	seen := map[string]bool{}
	for _, n := range nodes {
		for _, f := range n.Fits {
			if !seen[f.ID] {
				seen[f.ID] = true
				fits = append(fits, f)
			}
		}
	}
	body, err := tosca.NodeTypes(fits)
	if err != nil {
		return err
	}
	return k.write(http.StatusOK, yamlContent, body, strconv.Itoa(len(body)))
}
