package tosca_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/match"
	"github.com/flavorsync/flavorsync/internal/tosca"
)

// cluster is written as the templates of INDIGO and EGI's Infrastructure Manager
// are: types from an import, everything from inputs, GPUs left open by "" and 0,
// software on hosts, disks beside them.
const cluster = `
tosca_definitions_version: tosca_simple_yaml_1_0
imports:
  - indigo_types: https://example.org/custom_types.yaml
description: >
  A cluster with GPUs: one front end, and workers.
metadata:
  template_version: "1.2.1"
topology_template:
  inputs:
    fe_cpus:
      type: integer
      default: 2
      required: yes
      constraints:
        - valid_values: [ 2, 4, 8 ]
    fe_mem:
      type: scalar-unit.size
      default: 4 GiB
    wn_cpus: { type: integer, default: 8 }
    wn_mem: { type: scalar-unit.size, default: 16 GB }
    wn_gpus: { type: integer, default: 0 }
    wn_gpu_vendor: { type: string, default: '' }
    wn_gpu_model: { type: string, default: '' }
    wn_flavor: { type: string, default: "" }
    disk: { type: scalar-unit.size, default: 20 GiB }
    count: { type: integer, default: 3 }
  node_templates:
    lrms_front_end:
      type: tosca.nodes.indigo.LRMS.FrontEnd.Slurm
      capabilities:
        endpoint:
          properties:
            ports: { http_port: { protocol: tcp, source: 80 } }
      properties:
        wn_ips: { get_attribute: [ lrms_wn, private_address ] }
      requirements:
        - host: lrms_server
    lrms_server:
      type: tosca.nodes.indigo.Compute
      capabilities:
        endpoint:
          properties: { network_name: PUBLIC }
        host:
          properties:
            num_cpus: { get_input: fe_cpus }
            mem_size: { get_input: fe_mem }
        os:
          properties: { distribution: ubuntu, type: linux, version: 22.04 }
      requirements:
        - local_storage:
            node: fe_disk
            relationship: { type: AttachesTo, properties: { location: /data } }
    fe_disk:
      type: tosca.nodes.BlockStorage
      properties: { size: { get_input: disk } }
    wn_node:
      type: tosca.nodes.indigo.LRMS.WorkerNode.Slurm
      properties:
        front_end_ip: { get_attribute: [ lrms_server, private_address, 0 ] }
      requirements:
        - host: lrms_wn
    lrms_wn:
      type: tosca.nodes.indigo.Compute
      capabilities:
        scalable:
          properties: { count: { get_input: count } }
        host:
          properties:
            num_cpus: { get_input: wn_cpus }
            mem_size: { get_input: wn_mem }
            disk_size: { get_input: disk }
            num_gpus: { get_input: wn_gpus }
            gpu_vendor: { get_input: wn_gpu_vendor }
            gpu_model: { get_input: wn_gpu_model }
            instance_type: { get_input: wn_flavor }
            preemtible_instance: false
  outputs:
    address: { value: { get_attribute: [ lrms_server, public_address, 0 ] } }
`

func least(n int64) match.Range { return match.Range{Min: n, Asked: n} }

// said is what a test compares of nodes: errors as text.
func said(nodes []tosca.Node) map[string]string {
	all := map[string]string{}
	for _, n := range nodes {
		text := ""
		for _, r := range []struct {
			name  string
			sizes match.Range
		}{
			{"cpus", n.Requirement.VCPUs}, {"ram", n.Requirement.RAM}, {"disk", n.Requirement.Disk}, {"gpus", n.Requirement.GPUs},
		} {
			switch {
			case cmp.Equal(r.sizes, match.Range{}):
			case r.sizes.Bounded:
				text += fmt.Sprintf("%s %d-%d ", r.name, r.sizes.Min, r.sizes.Max)
			default:
				text += fmt.Sprintf("%s %d ", r.name, r.sizes.Min)
			}
		}
		text = strings.TrimSpace(text + strings.TrimSpace(n.Requirement.GPUVendor+" "+n.Requirement.GPUModel))
		if n.Err != nil {
			text = n.Err.Error()
		}
		all[n.Name] = text
	}
	return all
}

func TestAnINDIGOTemplate(t *testing.T) {
	nodes, err := tosca.ParseTemplate([]byte(cluster), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []tosca.Node{
		{Name: "lrms_server", Type: "tosca.nodes.indigo.Compute", Host: tosca.Host{Requirement: match.Requirement{VCPUs: least(2), RAM: least(4 * gib)}}},
		{Name: "lrms_wn", Type: "tosca.nodes.indigo.Compute", Host: tosca.Host{Requirement: match.Requirement{
			VCPUs: least(8), RAM: match.Range{Min: 16e9, Asked: 16 * gib}, Disk: least(20 * gib),
		}, Ignored: []string{"preemtible_instance"}}},
	}
	if diff := cmp.Diff(want, nodes); diff != "" {
		t.Error(diff)
	}
	nodes, err = tosca.ParseTemplate([]byte(cluster), map[string]any{
		"wn_gpus": json.Number("2"), "wn_gpu_vendor": "NVIDIA", "wn_gpu_model": "T4", "wn_cpus": nil, "wn_flavor": "gpu.large", "other": 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := nodes[1].Requirement
	if r.GPUs.Min != 2 || r.GPUVendor != "NVIDIA" || r.GPUModel != "T4" || r.Name != "gpu.large" || r.VCPUs.Min != 8 {
		t.Errorf("what is given does not go before the defaults: %+v", r)
	}
	// The same in JSON.
	body, err := json.Marshal(decoded(t, cluster))
	if err != nil {
		t.Fatal(err)
	}
	again, err := tosca.ParseTemplate(body, nil)
	if diff := cmp.Diff(want, again); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// Which nodes are told of, and with what.
func TestTemplate(t *testing.T) {
	for _, test := range []struct {
		what, text string
		want       map[string]string
	}{
		{"the spellings of Compute", `
node_templates:
  a: {type: tosca.nodes.Compute}
  b: {type: "tosca:Compute"}
  c: {type: Compute}
  d: {type: tosca.nodes.indigo.Compute}
  e: {type: tosca.nodes.SoftwareComponent}
  f: {type: tosca.nodes.DBMS, capabilities: {host: {properties: {}}, endpoint: {properties: {port: 1}}}}
  g: {}`, map[string]string{"a": "", "b": "", "c": "", "d": ""}},
		{"an imported type whose host has sizes", `
node_templates:
  a: {type: my.Machine, capabilities: {host: {properties: {num_cpus: 2}}}}
  b: {type: my.Thing, capabilities: {host: {properties: {color: red}}}}`, map[string]string{"a": "cpus 2"}},
		{"capabilities as a list, and what the macros of YAML make", `
dsl_definitions:
  props: &props {disk_size: 10 GiB, num_cpus: 1, mem_size: 2 GiB}
topology_template:
  node_templates:
    a: {type: Compute, capabilities: [{host: {properties: *props}}]}
    b: {type: Compute, capabilities: {host: {properties: {<<: *props, num_cpus: 2}}}}
    c: {type: Compute, capabilities: {host: {properties: {<<: [*props, {num_gpus: 1}]}}}}`, map[string]string{
			"a": "cpus 1 ram 2147483648 disk 10737418240", "b": "cpus 2 ram 2147483648 disk 10737418240", "c": "cpus 1 ram 2147483648 disk 10737418240 gpus 1",
		}},
		{"types of the document, with the nearest default and all constraints", `
node_types:
  my.Small: {derived_from: my.Base, capabilities: {host: {properties: {num_cpus: {type: integer, default: 2}, color: {type: string}}}}}
  my.Base:
    derived_from: tosca.nodes.Compute
    capabilities:
      host:
        type: my.Host
        properties:
          num_cpus: {type: integer, default: 1, constraints: [{less_or_equal: 8}]}
          mem_size: {type: scalar-unit.size, default: 1 GiB}
          gpu_model: {type: string, constraints: [{valid_values: ['', T4]}]}
capability_types:
  my.Host: {derived_from: tosca.capabilities.Compute, properties: {disk_size: {type: scalar-unit.size, default: 5 GiB}, num_gpus: {type: integer, constraints: [{greater_or_equal: 0}]}}}
node_templates:
  a: {type: my.Small}
  b: {type: my.Small, capabilities: {host: {properties: {num_cpus: 4, gpu_model: T4}}}}
  c: {type: my.Small, capabilities: {host: {properties: {num_cpus: 16}}}}
  d: {type: my.Base, capabilities: {host: {properties: {num_cpus: {less_than: 4}}}}}`, map[string]string{
			"a": "cpus 2-8 ram 1073741824 disk 5368709120",
			"b": "cpus 4-8 ram 1073741824 disk 5368709120 T4",
			"c": "node_templates.c.capabilities.host.properties.num_cpus: leaves no value, with all that is asked of it",
			"d": "cpus 0-3 ram 1073741824 disk 5368709120",
		}},
		{"filters of those hosted on it", `
node_templates:
  app:
    type: tosca.nodes.SoftwareComponent
    requirements:
      - host:
          node: server
          node_filter:
            capabilities:
              - host: {properties: [{num_cpus: {in_range: [2, 8]}}, {mem_size: {greater_or_equal: 4 GiB}}]}
              - os: {properties: [{architecture: {equal: x86_64}}]}
  app2: {type: x, requirements: [{host: {node: server, node_filter: {capabilities: {tosca.capabilities.Compute: {properties: {num_cpus: {less_or_equal: 4}}}}}}}]}
  app3: {type: x, requirements: {host: server}}
  on_app: {type: x, requirements: [{host: {node: app, node_filter: {capabilities: [{host: {properties: [{num_cpus: {equal: 99}}]}}]}}}]}
  server: {type: Compute, capabilities: {host: {properties: {num_cpus: 1}}}, node_filter: {capabilities: [{host: {properties: [{disk_size: {equal: 5 GiB}}]}}]}}`,
			map[string]string{"server": "cpus 2-4 ram 4294967296 disk 5368709120-5368709120"}},
		{"hosts that are still to be found", `
node_types:
  my.Compute: {derived_from: Compute, capabilities: {host: {properties: {num_cpus: {default: 4}}}}}
node_templates:
  a: {type: x, requirements: [{host: {node_filter: {capabilities: [{host: {properties: [{num_cpus: {in_range: [1, 4]}}]}}]}}}]}
  b: {type: x, requirements: [{host: {node: tosca.nodes.Compute, node_filter: {capabilities: [{host: {properties: [{mem_size: 1 GiB}]}}]}}}]}
  c: {type: x, requirements: [{host: my.Compute}]}
  d: {type: x, requirements: [{host: somewhere}, {host: {node: tosca.nodes.DBMS, node_filter: {properties: [{port: {equal: 1}}]}}}, {host: {}}]}
  e: {type: x, requirements: [{host: {node: my.Unknown, node_filter: {capabilities: {host: {properties: {num_cpu: 1}}}}}}]}
  f: {type: x, requirements: [{host: {node_filter: 5}}]}`, map[string]string{
			"a": "cpus 1-4", "b": "ram 1073741824", "c": "cpus 4",
			"e": "node_templates.e.requirements.host.node_filter.capabilities.host.properties.num_cpu: there is no such property of a host",
			"f": "node_templates.f.requirements.host.node_filter: must be a map, not 5",
		}},
		{"what is wrong with one node is its own", `
inputs: {known: {default: 4}, open: {type: integer}, empty: }
node_templates:
  a: {type: Compute, capabilities: {host: {properties: {num_cpus: {get_input: missing}}}}}
  b: {type: Compute, capabilities: {host: {properties: {num_cpus: {get_input: open}}}}}
  c: {type: Compute, capabilities: {host: {properties: {num_cpus: {equal: {get_input: empty}}}}}}
  d: {type: Compute, capabilities: {host: {properties: {num_cpus: {in_range: [{get_input: [known]}, 8]}}}}}
  e: {type: Compute, capabilities: {host: {properties: {num_cpus: {get_input: [known, deep]}}}}}
  f: {type: Compute, capabilities: {host: {properties: {mem_size: 4 XB}}}}
  g: {type: Compute, capabilities: {host: 5}}
  h: {type: Compute, capabilities: 5}
  i: {type: Compute, node_filter: []}
  "a\nb": {type: Compute, capabilities: {host: {properties: {num_cpus: -1}}}}`, map[string]string{
			"a":    `node_templates.a.capabilities.host.properties.num_cpus: there is no input "missing"; give it a value in inputs`,
			"b":    `node_templates.b.capabilities.host.properties.num_cpus: the input "open" has neither a value nor a default; give it a value in inputs`,
			"c":    `node_templates.c.capabilities.host.properties.num_cpus.equal: the input "empty" has neither a value nor a default`,
			"d":    "cpus 4-8",
			"e":    `node_templates.e.capabilities.host.properties.num_cpus: get_input takes the name of an input, not a list`,
			"f":    `node_templates.f.capabilities.host.properties.mem_size: must be a number and a unit`,
			"g":    `node_templates.g.capabilities.host: must be a map, not 5`,
			"h":    `node_templates.h.capabilities: must be a map, or a list of maps, not 5`,
			"i":    `node_templates.i.node_filter: must be a map, not a list`,
			"a\nb": `node_templates."a\nb".capabilities.host.properties.num_cpus: must not be below 0`,
		}},
		{"no nodes", `{node_templates: }`, map[string]string{}},
	} {
		nodes, err := tosca.ParseTemplate([]byte(test.text), nil)
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		got := said(nodes)
		if len(got) != len(test.want) {
			t.Errorf("%s: got %v", test.what, got)
		}
		for name, want := range test.want {
			if text, there := got[name]; !there || text != want && (!strings.Contains(want, ": ") || !strings.HasPrefix(text, want)) {
				t.Errorf("%s: %s:\n got %q\nwant %q", test.what, name, text, want)
			}
		}
		for _, n := range nodes {
			if n.Err != nil && flavor.CodeOf(n.Err) != flavor.CodeInvalid {
				t.Errorf("%s: %v has no code", test.what, n.Err)
			}
		}
	}
}

// bomb doubles with each line.
func bomb(lines int) string {
	text := "a0: &a0 [x, x]\n"
	for i := range lines {
		text += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	return text
}

// A template of somebody who means harm, or who has lost count, must be refused
// with the reason.
func TestTemplateRefuses(t *testing.T) {
	many := func(n int) string {
		var text strings.Builder
		text.WriteString("node_templates:\n")
		for i := range n {
			fmt.Fprintf(&text, "  n%d: {}\n", i)
		}
		return text.String()
	}
	chain := func(n int) string {
		text := "node_types:\n"
		for i := range n {
			text += fmt.Sprintf("  t%d: {derived_from: t%d}\n", i, i+1)
		}
		return text + "node_templates: {a: {type: t0}}"
	}
	for text, want := range map[string]string{
		"":                                    "the document is empty",
		"# nothing":                           "the document is empty",
		"~":                                   "the template must be a map, not nothing",
		"[1]":                                 "the template must be a map, not a list",
		"{}":                                  "the template has no node_templates",
		"topology_template: {}":               "the template has no node_templates",
		"topology_template: 5":                "topology_template: must be a map, not 5",
		"node_templates: [a]":                 "node_templates: must be a map, not a list",
		"node_templates: {a: 5}":              "node_templates.a: must be a map, not 5",
		"{node_templates: {}, node_types: 5}": "node_types: must be a map, not 5",
		"{node_templates: {a: {type: x}}, node_types: {x: 5}}":       "node_types.x: must be a map, not 5",
		"{node_templates: {}, capability_types: 5}":                  "capability_types: must be a map, not 5",
		"{node_templates: {}, inputs: [5]}":                          "inputs: must be a map, not a list",
		"node_templates: {a: {requirements: 5}}":                     "node_templates.a.requirements: must be a map, or a list of maps, not 5",
		"node_templates: {a: {requirements: [{host: 5}]}}":           "node_templates.a.requirements.host: must be the name of a node, or a map with node and node_filter, not 5",
		"node_templates: {a: {requirements: [{host: {node: [b]}}]}}": "node_templates.a.requirements.host.node: must be the name of a node or a type, not a list",
		"a: b: c":                         "the document is not YAML: mapping values are not allowed",
		"a: *b":                           "the document is not YAML: unknown anchor",
		"a: \xff":                         "the document must be in UTF-8",
		"a: 1\n---\nb: 2":                 "there is a second document; one was expected",
		"a: 1\n---\n*":                    "the document is not YAML: ",
		"{a: 1, b: {c: 1, c: 2}}":         `line 1: "c" is given twice`,
		`{"a": 1, "b": {"c": 1, "c": 2}}`: `"c" is given twice`,
		"{a: 1, ? [b] : 2}":               "line 1: a key must be text, not a map or a list",
		"{<<: 5}":                         "line 1: << merges a map or a list of maps",
		"{<<: [5]}":                       "line 1: << merges a map or a list of maps",
		bomb(40):                          "the document has more than 100000 values",
		"a: &a [*a]":                      "the document is more than 64 levels deep",
		"a: &a {<<: *a}":                  "the document is more than 64 levels deep",
		strings.Repeat("[", 5000):         "the document is not YAML: ",
		strings.Repeat("[", 500) + strings.Repeat("]", 500):                 "the document is more than 64 levels deep",
		`{"a":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + "}": "the document is more than 64 levels deep",
		strings.Repeat("- ", 500):                                           "the document is more than 64 levels deep",
		"{" + strings.Repeat("a,", 1<<19):                                   "the document has more than 100000 values",
		strings.Repeat("- \n", 1<<18):                                       "the document has more than 100000 values",
		`{"a": [` + strings.Repeat("1,", 1<<18) + "1]}":                     "the document has more than 100000 values",
		many(1001):    "node_templates: has 1001 nodes; at most 1000 are taken",
		many(100_000): "the document has more than 100000 values",
		"{node_templates: {a: {type: x}}, node_types: {x: {derived_from: y}, y: {derived_from: x}}}": "node_types: are derived from each other in a cycle: x -> y -> x",
		"{node_templates: {a: {type: x}}, node_types: {x: {derived_from: x}}}":                       "node_types: are derived from each other in a cycle: x -> x",
		"{node_templates: {a: {requirements: [{host: x}]}}, node_types: {x: {derived_from: x}}}":     "node_types: are derived from each other in a cycle: x -> x",
		chain(100): "node_types.t0: is derived over more than 64 types",
		"node_templates: {a: {requirements: [{host: b}]}, b: {requirements: [{host: c}]}, c: {requirements: [{host: {node: b}}]}}": "node_templates: are hosted on each other in a cycle: b -> c -> b",
		"node_templates: {a: {type: Compute, requirements: [{host: a}]}}":                                                          "node_templates: are hosted on each other in a cycle: a -> a",
	} {
		_, err := tosca.ParseTemplate([]byte(text), nil)
		if flavor.CodeOf(err) != flavor.CodeInvalid || !strings.HasPrefix(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("%.80q:\n got %.500v\nwant %s", text, err, want)
		}
	}
	// Of a whole tree, which no text limits.
	nodes := map[string]any{}
	for i := range 100_000 {
		nodes[fmt.Sprint(i)] = map[string]any{}
	}
	_, err := tosca.Template(map[string]any{"node_templates": nodes}, nil)
	if err == nil || err.Error() != "node_templates: has 100000 nodes; at most 1000 are taken" {
		t.Error(err)
	}
	// A long cycle is not told at length.
	ring := "node_templates:\n"
	for i := range 1000 {
		ring += fmt.Sprintf("  n%d: {requirements: [{host: n%d}]}\n", i, (i+1)%1000)
	}
	_, err = tosca.ParseTemplate([]byte(ring), nil)
	if err == nil || err.Error() != "node_templates: are hosted on each other in a cycle: n0 -> n1 -> n2 -> n3 -> n4 -> ... -> n0" {
		t.Error(err)
	}
	// Nodes that are hosted on each of two are no cycle, and are walked once.
	ladder := "node_templates:\n  a99: {}\n  b99: {}\n"
	for i := range 99 {
		ladder += fmt.Sprintf("  a%d: {requirements: [{host: a%d}, {host: b%d}]}\n  b%d: {requirements: [{host: a%d}, {host: b%d}]}\n", i, i+1, i+1, i, i+1, i+1)
	}
	if _, err = tosca.ParseTemplate([]byte(ladder), nil); err != nil {
		t.Error(err)
	}
	cycle := `{node_templates: {a: {type: Compute2}, b: {type: Compute}}, node_types: {Compute2: {derived_from: Compute, capabilities: {host: x}}},
		capability_types: {x: {derived_from: y}, y: {derived_from: x}}}`
	of, err := tosca.ParseTemplate([]byte(cycle), nil)
	if err != nil || of[0].Err == nil || of[0].Err.Error() != "capability_types: are derived from each other in a cycle: x -> y -> x" || of[1].Err != nil {
		t.Error(of, err)
	}
}

// A text of a megabyte must not take hundreds for itself.
func TestDecodeTakesLittleMemory(t *testing.T) {
	for _, text := range []struct{ start, piece, end string }{
		{"", "a\n", ""}, {"", "- a: b\n", ""}, {"", "-\n", ""}, {"", "a:\r", ""}, {"", "a:\u0085", ""},
		{"", strings.Repeat("- ", 20) + "a\n", ""}, {"", strings.Repeat("? ", 20) + "a\n", ""},
		{"[", "a,", "]"}, {"[", "[],", "]"}, {"[", "{a,b},", "]"}, {"[", "[? a : b],", "]"}, {"[", "&a [],", "]"}, {"[", `"a":1,`, "]"},
		{"{", "a,", "}"}, {"{", `"a":1,`, "}"}, {`{"a": [`, "1,", "1]}"}, {"", "[", ""}, {"", "{", ""},
	} {
		few := 99_000 / max(1, strings.Count(text.piece, ",")+strings.Count(text.piece, "\n")+strings.Count(text.piece, "- ")+strings.Count(text.piece, "["))
		for _, pieces := range []int{few, 1 << 20 / len(text.piece)} {
			body := []byte(text.start + strings.Repeat(text.piece, pieces) + text.end)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := tosca.Decode(body)
			runtime.ReadMemStats(&after)
			if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 100 {
				t.Errorf("%d times %q: %d MB; %v", pieces, text.piece, mb, err)
			}
		}
	}
}

func TestDecode(t *testing.T) {
	for text, want := range map[string]any{
		`{"a": "\ud83d\ude00", "b": [1, 2.50, true, null, "x"]}`: map[string]any{
			"a": "😀", "b": []any{json.Number("1"), json.Number("2.50"), true, nil, "x"},
		},
		"{\n\t\"a\":\t1}\n":                    map[string]any{"a": json.Number("1")},
		"{a: 12345678901234567890123, b: yes}": map[string]any{"a": json.Number("12345678901234567890123"), "b": "yes"},
		"1: x\ntrue: y\n~: z":                  map[string]any{"1": "x", "true": "y", "~": "z"},
		"- 2024-01-01\n- !x 5\n- !!str 5":      []any{"2024-01-01", "5", "5"},
		"a: &x 1\nb: *x":                       map[string]any{"a": json.Number("1"), "b": json.Number("1")},
		"x: &x {a: 1, b: 2}\ny: {a: 3, <<: *x}": map[string]any{
			"x": map[string]any{"a": json.Number("1"), "b": json.Number("2")}, "y": map[string]any{"a": json.Number("3"), "b": json.Number("2")},
		},
		"\"<<\": 1": map[string]any{"<<": json.Number("1")},
	} {
		got, err := tosca.Decode([]byte(text))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
}

func FuzzParseTemplate(f *testing.F) {
	for _, text := range []string{
		cluster, bomb(10), "a: &a {<<: *a}", "{}", "node_templates: {a: {type: Compute, requirements: [{host: a}]}}",
		`{"node_templates": {"a": {"type": "Compute", "capabilities": {"host": {"properties": {"num_cpus": {"in_range": [1, 4]}}}}}}}`,
		"node_types: {x: {derived_from: Compute, capabilities: {host: {properties: {mem_size: {default: 4 GB}}}}}}\nnode_templates: {a: {type: x}}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<20 {
			return
		}
		nodes, err := tosca.ParseTemplate(text, nil)
		if err != nil {
			if flavor.CodeOf(err) != flavor.CodeInvalid || len(err.Error()) > 3000 {
				t.Fatalf("%v", err)
			}
			return
		}
		if len(nodes) > 1000 {
			t.Fatalf("%d nodes", len(nodes))
		}
		for _, n := range nodes {
			if n.Err != nil && (flavor.CodeOf(n.Err) != flavor.CodeInvalid || len(n.Err.Error()) > 3000) {
				t.Fatalf("%v", n.Err)
			}
			for _, r := range []match.Range{n.Requirement.VCPUs, n.Requirement.RAM, n.Requirement.Disk, n.Requirement.GPUs} {
				if r.Min < 0 || r.Bounded && r.Max < r.Min {
					t.Fatalf("%s: nothing can be %+v", n.Name, r)
				}
			}
		}
		again, err := tosca.ParseTemplate(text, nil)
		if err != nil || len(again) != len(nodes) {
			t.Fatalf("the second time: %v, %v", again, err)
		}
		for i := range nodes {
			if fmt.Sprint(nodes[i]) != fmt.Sprint(again[i]) {
				t.Fatalf("first %v, then %v", nodes[i], again[i])
			}
		}
	})
}

// A node that is a copy asks for what it copies, where it does not say otherwise.
func TestCopies(t *testing.T) {
	text := "node_templates:\n  big: {type: tosca.nodes.Compute, capabilities: {host: {properties: {num_cpus: 16}}}}\n"
	got, err := tosca.ParseTemplate([]byte(text+"  copied: {copy: big}\n  other: {copy: big, capabilities: {host: {properties: {num_cpus: 2}}}}\n"), nil)
	if err != nil || len(got) != 3 || got[1].Requirement.VCPUs.Min != 16 || got[2].Requirement.VCPUs.Min != 2 || got[1].Type != "tosca.nodes.Compute" {
		t.Errorf("got %+v, %v", got, err)
	}
	for more, words := range map[string]string{
		"  a: {copy: b}\n  b: {copy: a}\n": "is a copy itself",
		"  a: {copy: nobody}\n":            "must be the name of a node template that there is",
		"  a: {copy: [big]}\n":             "must be the name of a node template that there is",
	} {
		if _, err := tosca.ParseTemplate([]byte(text+more), nil); flavor.CodeOf(err) != flavor.CodeInvalid || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", more, err)
		}
	}
}
