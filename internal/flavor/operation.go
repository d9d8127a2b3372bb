package flavor

import "time"

// OperationKind is what an operation makes so.
type OperationKind string

// The kinds of operation.
const (
	Install OperationKind = "install" // the flavor is there
	Remove  OperationKind = "remove"  // it is not
	Repair  OperationKind = "repair"  // the node that we created is as the catalogue has it
	Spread  OperationKind = "change"  // the catalogue's flavor was changed, and so is the node that we created
	Unlist  OperationKind = "delete"  // it is nowhere, and then not in the catalogue
	Undo    OperationKind = "undo"    // what an install that failed has left there is gone
)

// Origin is why there is an operation.
type Origin string

// The origins of operations.
const (
	Asked     Origin = "asked"     // by a caller
	Automatic Origin = "automatic" // by the policy, that promoted flavors are everywhere
	Repairing Origin = "repair"    // by the policy, that what we created stays as it is
)

// OperationState is how far an operation is, or one of its nodes.
type OperationState string

// The states. A node waits before its first attempt and between two; an operation
// runs while one of its nodes waits or runs.
const (
	Waiting   OperationState = "waiting"
	Running   OperationState = "running"
	Succeeded OperationState = "succeeded"
	Failed    OperationState = "failed"
	Cancelled OperationState = "cancelled"
)

// Open says whether more is to come.
func (s OperationState) Open() bool { return s == Waiting || s == Running }

// Operation is something that is wanted of several regions, and what came of it
// in each.
type Operation struct {
	ID        string // a UUID
	Kind      OperationKind
	Origin    Origin
	FlavorID  string // of the catalogue
	Name      string // of the flavor
	Provider  string // of who asked: empty where nobody did
	Caller    string // the id there
	State     OperationState
	Turn      int64 // counts its changes
	CreatedAt time.Time
	UpdatedAt time.Time
	Nodes     []OperationNode // by region
}

// OperationNode is one region of an operation.
type OperationNode struct {
	Region    string
	State     OperationState
	Attempts  int
	LastError string // "" where the last attempt went well, or there was none
	UpdatedAt time.Time
	// Input tells what the attempt that failed was made from: while that is the
	// same, another of the policy's own would fail as well.
	Input string
}

// Outcome is the state of an operation with these nodes.
func (o Operation) Outcome() OperationState {
	found := map[OperationState]bool{}
	for _, n := range o.Nodes {
		found[n.State] = true
	}
	switch {
	case found[Waiting], found[Running]:
		return Running
	case found[Failed]:
		return Failed
	case found[Cancelled]:
		return Cancelled
	}
	return Succeeded
}

// OperationFilter narrows a list of operations; an empty field does not.
type OperationFilter struct {
	State  OperationState
	Before string // only those with a smaller id, which are older
	Limit  int
}

// DriftKind is what somebody did to a node behind our back.
type DriftKind string

// The kinds of drift.
const (
	Missing DriftKind = "missing" // it was deleted
	Differs DriftKind = "differs" // it was altered
)

// Drift is a node that is not as it was when it was last written down.
type Drift struct {
	FlavorID string // of the catalogue
	Region   string
	Kind     DriftKind
	NodeID   string // the id that it has, or had, in that region's Nova
	Created  bool   // we had created it
	FoundAt  time.Time
}

// Refusal is an owner's word that a promoted flavor is not to be installed in
// their region by itself.
type Refusal struct {
	FlavorID string
	Region   string
	Caller   string // provider/id of who refused
	At       time.Time
}

// Look is what is known of a region, and since when.
type Look struct {
	Region   string
	Due      time.Time     // of the next look
	Turn     int64         // counts what was written down of the region
	Version  int64         // counts the changes of Flavors
	LookedAt time.Time     // when the last look ended; zero: there was none
	SeenAt   time.Time     // when the last one ended that the region answered
	Duration time.Duration // of the last look
	Error    string        // of the last look, "" where it went well
	Flavors  []SeenFlavor  // as the region last told, by id; nil: it never did
}

// SeenFlavor is a flavor as a look found it.
type SeenFlavor struct {
	NovaFlavor
	Access []string // of one that is not public: the projects that may use it, by id; nil: not known
}
