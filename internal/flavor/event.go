package flavor

import (
	"slices"
	"time"
)

// EventType is what an event tells of.
type EventType string

// The types of events.
const (
	FlavorPublished EventType = "flavor.published" // it is in the catalogue from now on
	FlavorPromoted  EventType = "flavor.promoted"
	FlavorRetired   EventType = "flavor.retired"
	FlavorChanged   EventType = "flavor.changed" // in anything else
	FlavorDeleted   EventType = "flavor.deleted" // from the catalogue

	NodeInstalled EventType = "node.installed" // a region has the flavor from now on
	NodeRemoved   EventType = "node.removed"   // it has it no more, or nobody looks there any more
	NodeFailed    EventType = "node.failed"    // an install or a removal
	NodeDrifted   EventType = "node.drifted"   // what a region has is not what the catalogue says
	NodeRepaired  EventType = "node.repaired"

	RegionRegistered EventType = "region.registered"
	RegionForgotten  EventType = "region.forgotten"
	RegionCameUp     EventType = "region.up"
	RegionWentDown   EventType = "region.down" // does not answer, or refuses the service account
)

// EventTypes are all of them.
var EventTypes = []EventType{
	FlavorPublished, FlavorPromoted, FlavorRetired, FlavorChanged, FlavorDeleted,
	NodeInstalled, NodeRemoved, NodeFailed, NodeDrifted, NodeRepaired,
	RegionRegistered, RegionForgotten, RegionCameUp, RegionWentDown,
}

// Event is one thing that has happened, told to whoever follows the stream.
// Changes of one transaction are told in the order in which they were made, and
// transactions in the order of their commits.
type Event struct {
	ID      int64 // assigned by the store: later ones are higher
	At      time.Time
	Type    EventType
	Flavor  string // its id in the catalogue, "" where there is none
	Name    string // the flavor's, as it was then
	Region  string // "" where there is none
	Created bool   // of NodeInstalled: we created it there; false: it was adopted
	Message string // what was wrong; only for those whose region it is, see Event.For
}

// For is e as p may see it; false where it is not for p. What fails or drifts in a
// region, and what is said of it, is its owners' affair.
func (e Event) For(p Principal) (Event, bool) {
	if !p.Can(ReadEvents) {
		return Event{}, false
	}
	theirs := p.Manager
	if e.Region != "" {
		theirs = p.Can(ReadRegionEvents, e.Region)
	}
	switch e.Type {
	case NodeFailed, NodeDrifted, NodeRepaired:
		if !theirs {
			return Event{}, false
		}
	}
	if !theirs {
		e.Message = ""
	}
	return e, true
}

// EventFilter narrows the events; what is empty does not.
type EventFilter struct {
	Types   []EventType
	Regions []string
}

// Passes says whether f lets e through. An event of no region passes no filter by
// regions.
func (f EventFilter) Passes(e Event) bool {
	return (len(f.Types) == 0 || slices.Contains(f.Types, e.Type)) && (len(f.Regions) == 0 || slices.Contains(f.Regions, e.Region))
}
