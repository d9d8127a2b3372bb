// Package tosca reads what TOSCA Simple Profile 1.3 says of compute nodes, in
// YAML or JSON, and writes flavors as its node types. It decides nothing: which
// flavor fits, internal/match says.
package tosca

import (
	"math/big"
	"regexp"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Size is a scalar-unit.size.
type Size struct {
	Bytes int64
	// Binary is Bytes with the binary unit of the same letter: of 4 GB, 4 GiB.
	// Operators write 4 GB for the 4096 MB of a flavor, which are Nova's own and
	// binary. Where the unit is binary, or B, it is Bytes.
	Binary int64
}

// unit is what one of a unit is in bytes, and one of its binary namesake.
type unit struct{ bytes, binary int64 }

// TOSCA tells units apart without regard to case.
var units = map[string]unit{
	"b":  {1, 1},
	"kb": {1e3, 1 << 10}, "kib": {1 << 10, 1 << 10},
	"mb": {1e6, 1 << 20}, "mib": {1 << 20, 1 << 20},
	"gb": {1e9, 1 << 30}, "gib": {1 << 30, 1 << 30},
	"tb": {1e12, 1 << 40}, "tib": {1 << 40, 1 << 40},
}

// maxSize is beyond all that Nova can have (2^61 bytes of disk), and leaves room
// to reckon with.
const maxSize = 1 << 62

var (
	// Any number of blanks, or none, may stand before the unit. More digits than
	// these say nothing.
	scalar   = regexp.MustCompile(`^[ \t]*([0-9]{1,40})(?:\.([0-9]{1,40}))?[ \t]*([A-Za-z]{1,3})[ \t]*$`)
	negative = regexp.MustCompile(`^[ \t]*-[0-9.]`)
)

// ParseSize reads a number and its unit, such as 1.5 GB, exactly. A part of a
// byte counts as one. field is what an error, CodeInvalid, begins with.
func ParseSize(field, text string) (Size, error) {
	parts := scalar.FindStringSubmatch(text)
	var u unit
	known := false
	if parts != nil {
		u, known = units[strings.ToLower(parts[3])]
	}
	switch {
	case negative.MatchString(text):
		return Size{}, flavor.Invalid("%s: must not be below 0", field)
	case !known:
		return Size{}, flavor.Invalid("%s: must be a number and a unit, such as 4 GB, not %.40q; the units are B, kB, KiB, MB, MiB, GB, GiB, TB and TiB", field, text)
	}
	number, _ := new(big.Int).SetString(parts[1]+parts[2], 10)
	divisor := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(len(parts[2]))), nil)
	in := func(unit int64) *big.Int {
		n := new(big.Int).Mul(number, big.NewInt(unit))
		n.Add(n, divisor).Sub(n, big.NewInt(1)) // rounds up
		return n.Quo(n, divisor)
	}
	bytes, binary := in(u.bytes), in(u.binary)
	if binary.Cmp(big.NewInt(maxSize)) >= 0 {
		return Size{}, flavor.Invalid("%s: must be below 4194304 TiB, not %.40q", field, text)
	}
	return Size{bytes.Int64(), binary.Int64()}, nil
}
