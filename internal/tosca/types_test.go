package tosca_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/match"
	"github.com/flavorsync/flavorsync/internal/tosca"
)

func fit(id, name string, vcpus, ram, disk int, specs ...string) match.Fit {
	e := match.Entry{Flavor: flavor.Flavor{
		ID: id, Spec: flavor.Spec{Name: name, VCPUs: vcpus, RAM: ram, Disk: disk, RxTxFactor: 1, ExtraSpecs: map[string]string{}},
		Public: true, Nodes: []string{"Spain2", "Trento"},
	}}
	for i := 0; i < len(specs); i += 2 {
		e.ExtraSpecs[specs[i]] = specs[i+1]
	}
	return match.Fit{Entry: &e, Regions: e.Nodes}
}

func TestNodeTypes(t *testing.T) {
	text, err := tosca.NodeTypes([]match.Fit{
		fit("1", "m1.small", 2, 4096, 20),
		fit("2", "gpu", 8, 32768, 0, "Accelerator:Number", "2", "Accelerator:Model", "Tesla T4"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `tosca_definitions_version: tosca_simple_yaml_1_3
capability_types:
  flavorsync.capabilities.Compute:
    derived_from: tosca.capabilities.Compute
    properties:
      num_gpus: {type: integer, required: false}
      gpu_model: {type: string, required: false}
      gpu_vendor: {type: string, required: false}
node_types:
  flavorsync.nodes.Compute.m1.small:
    derived_from: tosca.nodes.Compute
    metadata:
      flavor_id: "1"
      flavor_name: "m1.small"
      regions: "Spain2, Trento"
    capabilities:
      host:
        type: tosca.capabilities.Compute
        properties:
          num_cpus: {type: integer, default: 2, constraints: [{equal: 2}]}
          mem_size: {type: scalar-unit.size, default: 4096 MiB, constraints: [{equal: 4096 MiB}]}
          disk_size: {type: scalar-unit.size, default: 20 GiB, constraints: [{equal: 20 GiB}]}
  flavorsync.nodes.Compute.gpu:
    derived_from: tosca.nodes.Compute
    metadata:
      flavor_id: "2"
      flavor_name: "gpu"
      regions: "Spain2, Trento"
    capabilities:
      host:
        type: flavorsync.capabilities.Compute
        properties:
          num_cpus: {type: integer, default: 8, constraints: [{equal: 8}]}
          mem_size: {type: scalar-unit.size, default: 32768 MiB, constraints: [{equal: 32768 MiB}]}
          disk_size: {type: scalar-unit.size, default: 0 GiB, constraints: [{equal: 0 GiB}]}
          num_gpus: {type: integer, default: 2, constraints: [{equal: 2}]}
          gpu_model: {type: string, default: "Tesla T4", constraints: [{equal: "Tesla T4"}]}
          gpu_vendor: {type: string, default: "NVIDIA", constraints: [{equal: "NVIDIA"}]}
`
	if string(text) != want {
		t.Errorf("got %s", text)
	}
	text, err = tosca.NodeTypes([]match.Fit{fit("1", "a b", 1, 1, 1), fit("x/2", "a-b", 1, 1, 1), fit("x/2", "a-b", 1, 1, 1)})
	if err != nil {
		t.Fatal(err)
	}
	// A name that cannot be a type's is told apart by its id in every document, so
	// that it never means another flavor.
	for _, name := range []string{"a-b.1:", "a-b:", "a-b.x-2:"} {
		if !strings.Contains(string(text), "\n  flavorsync.nodes.Compute."+name+"\n") {
			t.Errorf("no type is named %s in %s", name, text)
		}
	}
	if text, err := tosca.NodeTypes(nil); err != nil || string(text) != "tosca_definitions_version: tosca_simple_yaml_1_3\nnode_types: {}\n" {
		t.Errorf("of none: %s, %v", text, err)
	}
}

// A template whose nodes are of the types that were answered must ask for those
// very flavors, whatever they are called.
func TestNodeTypesRoundTrip(t *testing.T) {
	names := []string{
		"m1.small", "m1 small", "m1-small", "m1-small.a", "yes", "null", "1.0", "0x10", "2024-01-01", "<<", "*a", "&a", "!x", "a: b", "# x", "- x", "{}", "[]", "'", `"`, `\`,
		"%s", "né 日本", "日本", "本日", "a\u2028b", "a\nb", "a\tb", "\x00\x1b", "\xff", "\ufeff", "|", ">", "?", "@", "`", strings.Repeat("x", 255),
	}
	var fits []match.Fit
	var entries []match.Entry
	for i, name := range names {
		f := fit(fmt.Sprintf("id %d", i), name, 1+i, 512*(1+i), i)
		switch i % 4 {
		case 1:
			f = fit(fmt.Sprintf("id %d", i), name, 1+i, 512*(1+i), i, "Accelerator:Number", fmt.Sprint(i), "Accelerator:Vendor", "NVIDIA", "Accelerator:Model", "Tesla: T4 #1")
		case 2:
			f = fit(fmt.Sprintf("id %d", i), name, 1+i, 512*(1+i), i, "Accelerator:Number", "1", "Accelerator:Model", "???")
		case 3:
			f = fit(fmt.Sprintf("id %d", i), name, 1+i, 512*(1+i), i, "pci_passthrough:alias", "nvidia-t4:1,nvidia-a100:2")
		}
		fits = append(fits, f)
		entries = append(entries, *f.Entry)
	}
	text, err := tosca.NodeTypes(fits)
	if err != nil {
		t.Fatal(err)
	}
	again, err := tosca.NodeTypes(fits)
	if err != nil || !bytes.Equal(text, again) {
		t.Error("the second time it is another text")
	}
	var document struct {
		Types map[string]struct {
			Metadata map[string]string
		} `yaml:"node_types"`
	}
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Types) != len(fits) {
		t.Fatalf("%d types of %d flavors", len(document.Types), len(fits))
	}
	template := string(text) + "topology_template:\n  node_templates:\n"
	for name := range document.Types {
		template += fmt.Sprintf("    %q: {type: %q}\n", name, name)
	}
	nodes, err := tosca.ParseTemplate([]byte(template), nil)
	if err != nil || len(nodes) != len(fits) {
		t.Fatalf("%d nodes; %v", len(nodes), err)
	}
	c := match.New(entries)
	for _, n := range nodes {
		metadata := document.Types[n.Type].Metadata
		if n.Err != nil {
			t.Errorf("%s: %v", n.Name, n.Err)
			continue
		}
		found := c.Match(n.Requirement, 0)
		if len(found) != 1 || found[0].ID != metadata["flavor_id"] || strings.ToValidUTF8(found[0].Name, "\uFFFD") != metadata["flavor_name"] {
			t.Errorf("%s is %q: got %v; %s", n.Name, metadata, found, c.Why(n.Requirement))
			continue
		}
		if (found[0].Waste != match.Waste{}) {
			t.Errorf("%s wastes %+v", n.Name, found[0].Waste)
		}
		if metadata["regions"] != "Spain2, Trento" {
			t.Error(metadata)
		}
	}
}
