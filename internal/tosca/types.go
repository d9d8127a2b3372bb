package tosca

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/match"
)

const (
	version        = "tosca_simple_yaml_1_3"
	nodeType       = "tosca.nodes.Compute"
	ourNodeType    = "flavorsync.nodes.Compute"
	capability     = "tosca.capabilities.Compute"
	ourCapability  = "flavorsync.capabilities.Compute"
	integer        = "integer"
	str            = "string"
	scalarUnitSize = "scalar-unit.size"
)

// NodeTypes writes a TOSCA 1.3 document, in YAML, with a node type for each
// flavor, in their order. A type's host has the flavor's sizes, as defaults and as
// the only values that can be: a template of that type asks for that very size.
// TOSCA's own capability has no GPUs, so where there are any the document defines
// one that has.
func NodeTypes(fits []match.Fit) ([]byte, error) {
	types := mapNode()
	names := map[string]bool{}
	gpus := false
	for _, f := range fits {
		accelerators := f.Accelerators()
		gpus = gpus || f.GPUs() > 0
		add(types, typeName(f.Flavor, names), f, accelerators)
	}
	document := mapNode("tosca_definitions_version", plainNode(version))
	if gpus {
		document.Content = append(document.Content, mapNode("capability_types", mapNode(ourCapability, mapNode(
			"derived_from", plainNode(capability),
			"properties", mapNode(
				"num_gpus", flow(mapNode("type", plainNode(integer), "required", plainNode("false"))),
				"gpu_model", flow(mapNode("type", plainNode(str), "required", plainNode("false"))),
				"gpu_vendor", flow(mapNode("type", plainNode(str), "required", plainNode("false"))),
			),
		))).Content...)
	}
	document.Content = append(document.Content, mapNode("node_types", types).Content...)
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(document); err != nil {
		return nil, fmt.Errorf("while writing node types: %w", err)
	}
	return text.Bytes(), nil
}

// add adds a flavor's type.
func add(types *yaml.Node, name string, f match.Fit, accelerators []flavor.Accelerator) {
	properties := mapNode(
		"num_cpus", property(integer, plainNode(strconv.Itoa(f.VCPUs))),
		"mem_size", property(scalarUnitSize, plainNode(strconv.Itoa(f.RAM)+" MiB")),
		"disk_size", property(scalarUnitSize, plainNode(strconv.Itoa(f.Disk)+" GiB")),
	)
	of := capability
	if n := f.GPUs(); n > 0 {
		of = ourCapability
		more := mapNode("num_gpus", property(integer, plainNode(strconv.Itoa(n))))
		// A type has one model only, so of several kinds none is told.
		if a := accelerators[0]; len(accelerators) == 1 {
			if a.IsModel(a.Model) { // one without a letter or digit cannot be asked for
				more.Content = append(more.Content, mapNode("gpu_model", property(str, textNode(a.Model))).Content...)
			}
			if a.Vendor != "" {
				more.Content = append(more.Content, mapNode("gpu_vendor", property(str, textNode(a.Vendor))).Content...)
			}
		}
		properties.Content = append(properties.Content, more.Content...)
	}
	metadata := mapNode("flavor_id", textNode(f.ID), "flavor_name", textNode(f.Name)) // texts, all of them
	if len(f.Regions) > 0 {
		metadata.Content = append(metadata.Content, mapNode("regions", textNode(strings.Join(f.Regions, ", "))).Content...)
	}
	types.Content = append(types.Content, mapNode(name, mapNode(
		"derived_from", plainNode(nodeType),
		"metadata", metadata,
		"capabilities", mapNode("host", mapNode("type", plainNode(of), "properties", properties)),
	)).Content...)
}

// property defines one that can have one value only.
func property(kind string, value *yaml.Node) *yaml.Node {
	return flow(mapNode("type", plainNode(kind), "default", value, "constraints", &yaml.Node{
		Kind: yaml.SequenceNode, Content: []*yaml.Node{mapNode("equal", value)},
	}))
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9_.-]`)

// typeName is a flavor's, with its id where the name cannot be a type's as it is, so
// that it means one flavor in every document. Flavors may be named as they like,
// types hardly so.
func typeName(f flavor.Flavor, taken map[string]bool) string {
	clean := func(text string) string { return notInName.ReplaceAllString(text, "-") }
	name := ourNodeType + "." + clean(f.Name)
	if clean(f.Name) != f.Name || taken[name] {
		name += "." + clean(f.ID)
	}
	unique := name
	for i := 2; taken[unique]; i++ {
		unique = name + "." + strconv.Itoa(i)
	}
	taken[unique] = true
	return unique
}

// mapNode is a map of keys and *yaml.Node in turn.
func mapNode(content ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, c := range content {
		switch c := c.(type) {
		case string:
			n.Content = append(n.Content, plainNode(c))
		case *yaml.Node:
			n.Content = append(n.Content, c)
		}
	}
	return n
}

// plainNode is text that is ours: as it stands.
func plainNode(value string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: value} }

// textNode is text of others: in quotes, whatever it looks like.
func textNode(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: strings.ToValidUTF8(value, "\uFFFD")}
}

// flow writes n on one line.
func flow(n *yaml.Node) *yaml.Node {
	n.Style = yaml.FlowStyle
	return n
}
