package tosca_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/tosca"
)

// A short document that is long to read would stop everybody else's: a type counts
// for each node that is of it, and for each requirement of it.
func TestLongReadingIsRefused(t *testing.T) {
	var properties, nodes, constraints strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&properties, "p%d: {type: string}, ", i)
	}
	for i := range 900 {
		fmt.Fprintf(&nodes, "    n%d: {type: T}\n", i)
	}
	for range 4000 {
		constraints.WriteString("{greater_or_equal: 1}, ")
	}
	typed := func(host string) string {
		return "node_types:\n  T: {derived_from: tosca.nodes.Compute, capabilities: {host: {type: C, properties: {" + host + "}}}}\nnode_templates:\n"
	}
	for name, text := range map[string]string{
		"properties of a type":   typed(properties.String()) + nodes.String(),
		"constraints of a type":  typed("num_cpus: {type: integer, constraints: ["+constraints.String()+"]}") + nodes.String(),
		"requirements of a type": typed(properties.String()) + "    a: {type: X, requirements: [" + strings.Repeat("{host: T}, ", 1000) + "]}\n",
		"a filter by alias": "node_templates:\n    b: {type: Compute}\n    a: {type: X, requirements: [{host: {node: b, node_filter: &f {capabilities: [{host: {properties: [{num_cpus: [" +
			constraints.String() + "]}]}}]}}}" + strings.Repeat(", {host: {node: b, node_filter: *f}}", 20) + "]}\n",
	} {
		_, err := tosca.ParseTemplate([]byte(text), nil)
		if flavor.CodeOf(err) != flavor.CodeInvalid || !strings.Contains(err.Error(), "takes too long to read") && !strings.Contains(err.Error(), "more than 100000 values") {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	// What people write is far below.
	large := typed("num_cpus: {type: integer, default: 2, constraints: [{in_range: [1, 8]}]}, mem_size: {type: scalar-unit.size, default: 4 GB}") + nodes.String()
	if got, err := tosca.ParseTemplate([]byte(large), nil); err != nil || len(got) != 900 || got[0].Err != nil {
		t.Errorf("900 nodes of one type: %d, %v", len(got), err)
	}
}

func TestManyValidValuesAreRefused(t *testing.T) {
	values := make([]any, 101)
	for i := range values {
		values[i] = fmt.Sprint(i)
	}
	if _, err := tosca.ParseHost("host", map[string]any{"num_cpus": map[string]any{"valid_values": values[:100]}}); err != nil {
		t.Errorf("100 values: %v", err)
	}
	_, err := tosca.ParseHost("host", map[string]any{"num_cpus": map[string]any{"valid_values": values}})
	if flavor.CodeOf(err) != flavor.CodeInvalid || !strings.Contains(err.Error(), "host.num_cpus.valid_values: has 101 values") {
		t.Errorf("101 values: %v", err)
	}
}
