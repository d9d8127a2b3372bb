package tosca

import "github.com/flavorsync/flavorsync/internal/flavor"

// inputs are a template's: what the caller gives goes before a default.
type inputs struct {
	given    map[string]any
	declared map[string]any
}

// The functions of TOSCA that a value can be made by. What they say is known to
// an orchestrator at work, but for get_input.
var functions = []string{
	"get_input", "get_property", "get_attribute", "get_artifact", "get_operation_output", "get_nodes_of_type", "concat", "join", "token",
}

// resolve is value, or what it stands for where it is a function. What an input
// says is no function again.
func (r *reader) resolve(field string, value any) (any, error) {
	m, ok := value.(map[string]any)
	if !ok || len(m) != 1 {
		return value, nil
	}
	for _, function := range functions {
		argument, called := m[function]
		switch {
		case !called:
			continue
		case function != "get_input":
			return nil, flavor.Invalid("%s: %s cannot be resolved here; give a value or get_input", field, function)
		case r.inputs == nil:
			return nil, flavor.Invalid("%s: get_input is for a template with inputs; give a value", field)
		}
		return r.inputs.get(field, argument)
	}
	return value, nil
}

// get is the value of the input that get_input's argument names: its name, or a
// list of nothing else.
func (in *inputs) get(field string, argument any) (any, error) {
	if list, ok := argument.([]any); ok && len(list) == 1 {
		argument = list[0]
	}
	name, ok := argument.(string)
	if !ok {
		return nil, flavor.Invalid("%s: get_input takes the name of an input, not %s", field, shown(argument))
	}
	if value := in.given[name]; value != nil {
		return value, nil
	}
	declared, ok := in.declared[name]
	if !ok {
		return nil, flavor.Invalid("%s: there is no input %.60q; give it a value in inputs", field, name)
	}
	if definition, ok := declared.(map[string]any); ok {
		if value := definition["default"]; value != nil {
			return value, nil
		}
	}
	return nil, flavor.Invalid("%s: the input %.60q has neither a value nor a default; give it a value in inputs", field, name)
}
