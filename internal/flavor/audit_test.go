package flavor_test

import (
	"maps"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// A reader of the audit must see what changed and nothing else, and tell a field
// that came from an object that did.
func TestDiffering(t *testing.T) {
	type fields = map[string]string
	for _, c := range []struct{ before, after, was, is fields }{
		{nil, fields{"a": "1"}, nil, fields{"a": "1"}},
		{fields{"a": "1"}, nil, fields{"a": "1"}, nil},
		{fields{"a": "1", "b": "2"}, fields{"a": "1", "b": "3"}, fields{"b": "2"}, fields{"b": "3"}},
		{fields{"a": "1"}, fields{"a": "1", "b": "2"}, fields{"b": ""}, fields{"b": "2"}},
		{fields{"a": "1", "b": "2"}, fields{"a": "1"}, fields{"b": "2"}, fields{"b": ""}},
		{fields{"a": "1"}, fields{"a": "1"}, nil, nil},
		{fields{}, fields{}, nil, nil},
		{nil, nil, nil, nil},
	} {
		was, is := flavor.Differing(c.before, c.after)
		if !maps.Equal(was, c.was) || !maps.Equal(is, c.is) || (was == nil) != (c.was == nil) || (is == nil) != (c.is == nil) {
			t.Errorf("%v to %v: %v to %v", c.before, c.after, was, is)
		}
	}
}
