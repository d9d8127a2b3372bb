package flavor

import "testing"

// What fails and drifts in a region is told to its owners and to managers, and to
// nobody else; nor is why something happened.
func TestEventFor(t *testing.T) {
	user := Principal{ID: "u", Name: "u", Regions: []string{"Trento"}}
	owner := Principal{ID: "o", Name: "o", Regions: []string{"Mordor"}}
	manager := Principal{ID: "m", Name: "m", Manager: true}
	for _, kind := range EventTypes {
		theirs := kind == NodeFailed || kind == NodeDrifted || kind == NodeRepaired
		e := Event{ID: 1, Type: kind, Region: "Mordor", Message: "why"}
		for _, p := range []Principal{owner, manager} {
			if seen, ok := e.For(p); !ok || seen != e {
				t.Errorf("%s is told of %s: %t, %+v", p.Name, kind, ok, seen)
			}
		}
		seen, ok := e.For(user)
		if ok == theirs || seen.Message != "" {
			t.Errorf("somebody is told of %s: %t, %+v", kind, ok, seen)
		}
	}
	// Of no region it is nobody's but managers'.
	e := Event{Type: FlavorChanged, Message: "why"}
	if seen, ok := e.For(owner); !ok || seen.Message != "" {
		t.Errorf("%t, %+v", ok, seen)
	}
	if seen, ok := e.For(manager); !ok || seen.Message == "" {
		t.Errorf("%t, %+v", ok, seen)
	}
}

// A filter by regions lets through what is of these regions.
func TestEventFilter(t *testing.T) {
	e, bare := Event{Type: NodeFailed, Region: "Mordor"}, Event{Type: FlavorChanged}
	for _, c := range []struct {
		f         EventFilter
		one, none bool
	}{
		{EventFilter{}, true, true},
		{EventFilter{Types: []EventType{FlavorChanged, NodeFailed}}, true, true},
		{EventFilter{Types: []EventType{FlavorChanged}}, false, true},
		{EventFilter{Regions: []string{"Trento", "Mordor"}}, true, false},
		{EventFilter{Regions: []string{"Mordor"}, Types: []EventType{NodeDrifted}}, false, false},
	} {
		if c.f.Passes(e) != c.one || c.f.Passes(bare) != c.none {
			t.Errorf("%+v: %t, %t", c.f, c.f.Passes(e), c.f.Passes(bare))
		}
	}
}
