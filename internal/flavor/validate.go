package flavor

import (
	"encoding/json"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxNumber is Nova's limit for vcpus, ram, disk, swap and ephemeral.
const MaxNumber = math.MaxInt32

// maxExtraSpecs is Nova's limit for a request (114688 bytes), less what stands
// around the extra specs in it.
const maxExtraSpecs = 114_000

var (
	flavorID = regexp.MustCompile(`^[A-Za-z0-9._-]([A-Za-z0-9._ -]*[A-Za-z0-9._-])?$`)
	specKey  = regexp.MustCompile(`^[A-Za-z0-9_:. -]{1,255}$`)
	uuid     = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
)

// IsUUID says whether id is a UUID in its canonical, lower-case form: the only
// one every Nova, case-blind or not, answers for that very id.
func IsUUID(id string) bool { return uuid.MatchString(id) }

// ValidateID refuses what cannot be the id of a flavor in Nova, and the ids
// that can be created there but never reached again.
func ValidateID(id string) error {
	if len(id) > 255 || !flavorID.MatchString(id) {
		return Invalid("id: a flavor id has 1 to 255 letters, digits, . _ - and inner blanks")
	}
	if id == "." || id == ".." || id == "detail" {
		return Invalid("id: %q cannot be reached in Nova", id)
	}
	return nil
}

// Validate tells the first field that Nova would refuse. The limits are those
// observed on Nova 2.1 to 2.93.
func (s Spec) Validate() error {
	if err := name(s.Name); err != nil {
		return err
	}
	for _, n := range []struct {
		field      string
		value, min int
	}{
		{"vcpus", s.VCPUs, 1}, {"ram", s.RAM, 1}, {"disk", s.Disk, 0}, {"swap", s.Swap, 0}, {"ephemeral", s.Ephemeral, 0},
	} {
		if n.value < n.min || n.value > MaxNumber {
			return Invalid("%s: must be from %d to %d, not %d", n.field, n.min, MaxNumber, n.value)
		}
	}
	// Nova's own rule is "above 0", but it compares the integer part.
	if !(s.RxTxFactor >= 1) || s.RxTxFactor > math.MaxFloat32 {
		return Invalid("rxtx_factor: must be from 1 to %g", math.MaxFloat32)
	}
	if err := printable("description", s.Description, 65535); err != nil {
		return err
	}
	if r, ok := firstUnprintable(s.Description); ok {
		return Invalid("description: Nova takes one line of printable characters, without %U", r)
	}
	for _, key := range slices.Sorted(maps.Keys(s.ExtraSpecs)) {
		if !specKey.MatchString(key) || key == "." || key == ".." {
			return Invalid("extra_specs: the key %.300q must have 1 to 255 letters, digits, - _ : . and blanks, and more than dots", key)
		}
		if err := printable("extra_specs."+key, s.ExtraSpecs[key], 255); err != nil {
			return err
		}
	}
	// Nova takes them in one request.
	if body, err := json.Marshal(s.ExtraSpecs); err != nil || len(body) > maxExtraSpecs {
		return Invalid("extra_specs: all together must be below %d bytes", maxExtraSpecs)
	}
	return nil
}

func name(value string) error {
	switch n := utf8.RuneCountInString(value); {
	case n < 1 || n > 255:
		return Invalid("name: must have 1 to 255 characters, not %d", n)
	case strings.TrimSpace(value) != value:
		return Invalid("name: must not begin or end with a blank")
	case !utf8.ValidString(value):
		return Invalid("name: is not UTF-8")
	}
	if r, ok := firstUnprintable(value); ok {
		return Invalid("name: must not hold the control character %U", r)
	}
	return inPlane("name", value)
}

// firstUnprintable is the first character that Nova's own patterns refuse:
// neither printable nor a blank.
func firstUnprintable(value string) (rune, bool) {
	for _, r := range value {
		if !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r) {
			return r, true
		}
	}
	return 0, false
}

// inPlane refuses what a Nova on MariaDB, with utf8 of three bytes, cannot store.
func inPlane(field, value string) error {
	for _, r := range value {
		if r > 0xFFFF {
			return Invalid("%s: Nova takes no character outside the Basic Multilingual Plane, such as %U", field, r)
		}
	}
	return nil
}

// text is a required, one-line value of at most limit characters.
func text(field, value string, limit int) error {
	if n := utf8.RuneCountInString(value); n < 1 || n > limit {
		return Invalid("%s: must have 1 to %d characters", field, limit)
	}
	if strings.ContainsFunc(value, unicode.IsControl) || !utf8.ValidString(value) {
		return Invalid("%s: must not hold control characters", field)
	}
	return nil
}

// printable is free text of at most limit characters that XML can carry too.
func printable(field, value string, limit int) error {
	if n := utf8.RuneCountInString(value); n > limit {
		return Invalid("%s: must have at most %d characters, not %d", field, limit, n)
	}
	if !utf8.ValidString(value) {
		return Invalid("%s: is not UTF-8", field)
	}
	for _, r := range value {
		if unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' || r == 0xFFFE || r == 0xFFFF {
			return Invalid("%s: must not hold the control character %U", field, r)
		}
	}
	return inPlane(field, value)
}
