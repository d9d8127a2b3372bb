package flavor_test

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// FuzzNames: what may be a region's name or a flavor's id is one segment of a
// path, in a URL and in a file system; a whole one, and the only one.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"Trento", ".", "..", "...", "a b", "a/b", "a%2fb", "a\n", "\u0421", strings.Repeat("x", 65), "567b200e-0000-4000-8000-000000000640", "detail"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if flavor.ValidRegionName(name) && (url.PathEscape(name) != name || path.Clean("/a/"+name) != "/a/"+name || len(name) > 64) {
			t.Errorf("%q is taken for a region's name", name)
		}
		if flavor.ValidateID(name) == nil && (path.Clean("/a/"+name) != "/a/"+name || len(name) > 255 || strings.TrimSpace(name) != name || name == "detail") {
			t.Errorf("%q is taken for a flavor's id", name)
		}
	})
}

// FuzzAmount: a price is what it says, to the millionth, or none.
func FuzzAmount(f *testing.F) {
	for _, text := range []string{"0", "0.34", "5.50", "9223372036854.775807", "9223372036854.775808", "-1", "1e3", "01", ".5", "1.", "1.0000001", "\u0661"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := flavor.ParseAmount("price", text)
		if err != nil {
			if flavor.CodeOf(err) != flavor.CodeInvalid {
				t.Error(err)
			}
			return
		}
		again := a.String()
		if back, err := flavor.ParseAmount("price", again); err != nil || back != a {
			t.Errorf("%q is %q, and that is %v, %v", text, again, back, err)
		}
		if whole, fraction, pointed := strings.Cut(text, "."); pointed {
			text = strings.TrimSuffix(whole+"."+strings.TrimRight(fraction, "0"), ".")
		}
		if a < 0 || again != text {
			t.Errorf("%q is read as %q", text, again)
		}
	})
}
