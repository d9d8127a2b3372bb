package flavor

// PairState is how a flavor and a region stand to each other.
type PairState string

// The states of a pair.
const (
	PairPresent PairState = "present" // the region has the flavor
	PairMissing PairState = "missing" // it does not
	PairDiffers PairState = "differs" // it has another one under the id or the name
	PairExtra   PairState = "extra"   // it has one that is not wanted everywhere
	PairUnknown PairState = "unknown" // it was not seen lately
)

// Pair is a flavor and a region, and what is between them.
type Pair struct {
	FlavorID    string // in the catalogue; of a private flavor its id in the region's Nova
	Name        string // of the flavor
	Region      string
	State       PairState
	Differences []Difference // where it differs
	Refused     bool         // an owner of the region does not want it to be installed by itself
}

// Compliance is how a region stands to the flavors that it should have.
type Compliance struct {
	Region  string
	Flavors []Pair // by name and id
}

// Coverage is how the regions stand to a flavor that they should have.
type Coverage struct {
	FlavorID string
	Name     string
	Regions  []Pair // by region
}
