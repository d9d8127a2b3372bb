package flavor

import "time"

// FederationStatus is how the federation is, as far as who asks may know.
type FederationStatus struct {
	Regions    []RegionOverview // by name
	Operations OperationCounts
	Nodes      NodeCounts
	Failed     []FailedNode // the latest first, MaxFailed at most
}

// MaxFailed is how many failed nodes a FederationStatus has at most; the regions
// count all of them.
const MaxFailed = 100

// RegionOverview is how a region is, and what is to be done there.
type RegionOverview struct {
	Name  string
	State RegionState
	// SeenAt is when it last answered, LookedAt when it was last asked, NextLook when
	// it is to be asked again. Zero: never, or it is not known.
	SeenAt, LookedAt, NextLook time.Time
	Took                       time.Duration // of the last look
	LastError                  string        // "" where the last look went well
	Pending, Failed            int           // nodes of operations, of this region
	Drift                      []DriftCount  // by kind; a kind without any is left out
	// Whole says that all of this may be told. Else only the name, SeenAt and whether
	// it is up may.
	Whole bool
}

// DriftCount is how many flavors of a region are otherwise than they should be.
type DriftCount struct {
	Kind  DriftKind
	Count int
}

// Drifted is how many flavors there are otherwise than they should be.
func (r RegionOverview) Drifted() (n int) {
	for _, d := range r.Drift {
		n += d.Count
	}
	return n
}

// Outline is r as it may be told to everybody: a region that refuses us is one that
// does not answer, for why is its owner's affair.
func (r RegionOverview) Outline() RegionOverview {
	if r.State == RegionRefused {
		r.State = RegionUnreachable
	}
	return RegionOverview{Name: r.Name, State: r.State, SeenAt: r.SeenAt}
}

// OperationCounts is how many operations there are in each state.
type OperationCounts struct{ Running, Succeeded, Failed, Cancelled int }

// NodeCounts is how many nodes of operations there are in each state.
type NodeCounts struct{ Waiting, Running, Succeeded, Failed, Cancelled int }

// Plus is the sum of both.
func (n NodeCounts) Plus(m NodeCounts) NodeCounts {
	return NodeCounts{
		Waiting: n.Waiting + m.Waiting, Running: n.Running + m.Running, Succeeded: n.Succeeded + m.Succeeded,
		Failed: n.Failed + m.Failed, Cancelled: n.Cancelled + m.Cancelled,
	}
}

// FailedNode is a node where an operation failed.
type FailedNode struct {
	Operation string // its id
	Flavor    string // its id
	Name      string // the flavor's
	Node      string // the region
	Attempts  int
	LastError string
	UpdatedAt time.Time
}
