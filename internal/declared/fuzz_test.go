package declared

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// FuzzParse: no file may panic, what is wrong is told with the file's name on each
// line, and what is accepted can be applied: every flavor is one that Nova would
// take, and a catalogue that has it as declared has nothing to do.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/files/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text []byte, mandatoryOnly bool) {
		file, err := Parse("f.yaml", text, Options{MandatoryOnly: mandatoryOnly})
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "f.yaml:") {
					t.Errorf("a line that does not say where: %q", line)
				}
			}
			return
		}
		if len(file.Flavors) == 0 {
			t.Error("a file without flavors is accepted")
		}
		var now Catalogue
		for i, d := range file.Flavors {
			if err := d.Validate(); err != nil {
				t.Errorf("%q is accepted: %v", d.Name, err)
			}
			if d.ID != "" && !flavor.IsUUID(d.ID) {
				t.Errorf("the id %q is accepted", d.ID)
			}
			met := flavor.Flavor{ID: cmp.Or(d.ID, strconv.Itoa(i)), Spec: d.Spec, Public: true, Promoted: d.Promoted != nil && *d.Promoted || d.Retired != nil && *d.Retired, Nodes: d.Nodes}
			met.Retired = d.Retired != nil && *d.Retired
			if d.Promoted != nil && !*d.Promoted && met.Promoted {
				return // declared as nothing can be
			}
			now.Flavors = append(now.Flavors, met)
			now.Regions = append(now.Regions, d.Nodes...)
		}
		plan := NewPlan(file, now, Wish{Prune: true})
		if err := plan.Show(io.Discard); err != nil {
			t.Fatal(err)
		}
		if len(plan.Steps) > 0 {
			t.Errorf("%+v is to be done where all is as declared", plan.Steps[0])
		}
	})
}
