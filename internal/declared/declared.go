// Package declared reads files that say which flavors the catalogue is to have, and
// tells what differs: in a format of its own, and in that of the flavor definitions
// which SovereignCloudStack and OSISM publish.
package declared

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// MaxBytes is how long a file may be: some 20,000 flavors.
const MaxBytes = 8 << 20

// Flavor is one flavor that a file declares, whole: a field that the file leaves
// out has Nova's default.
type Flavor struct {
	flavor.Spec
	ID       string   // a UUID; "" where the file leaves it open
	Promoted *bool    // nil where the file leaves it open
	Retired  *bool    // nil where the file leaves it open
	Nodes    []string // regions that are to have it; others may
}

// File is what a file declares.
type File struct {
	Flavors []Flavor // in the file's order, each name and id once
	LeftOut []LeftOut
}

// LeftOut is a flavor that the file names and that is not for the catalogue.
// Nothing is created, changed or deleted for it.
type LeftOut struct{ Name, Why string }

// Options choose what is read of a file.
type Options struct {
	// MandatoryOnly leaves out the recommended flavors of SovereignCloudStack's
	// format.
	MandatoryOnly bool
}

// Parse reads a file, which messages call name. All that is wrong is told at once,
// one line each, as name:line: path: message. A file that declares nothing is wrong
// too: it is never what somebody wants the catalogue to be.
func Parse(name string, text []byte, o Options) (File, error) {
	if len(text) > MaxBytes {
		return File{}, fmt.Errorf("%s: has more than %d MiB: no list of flavors is that long", name, MaxBytes>>20)
	}
	root, err := document(text)
	if err != nil {
		return File{}, located(name, err)
	}
	r := &reader{name: name}
	r.file(root, o)
	return r.declared, r.err()
}

// document is the root of the one document in text.
func document(text []byte) (*yaml.Node, error) {
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("declares no flavors: it is empty")
	case err != nil:
		return nil, err
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("must be one document: remove what follows the second line ---")
	}
	return doc.Content[0], nil
}

var syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// located is an error of the whole file, with the line where the parser tells it.
func located(name string, err error) error {
	text := err.Error()
	if m := syntaxError.FindStringSubmatch(text); m != nil {
		if _, err := strconv.Atoi(m[1]); err == nil {
			name += ":" + m[1]
		}
		text = "is no YAML: " + text[len(m[0]):]
	}
	return fmt.Errorf("%s: %s", name, text)
}

// file reads whichever format it is.
func (r *reader) file(root *yaml.Node, o Options) {
	top := r.entries(root, "")
	if len(r.problems) > 0 {
		return
	}
	var own, scs bool
	for _, e := range top {
		switch e.key {
		case "flavors":
			own = true
		case "reference", "mandatory", "recommended":
			scs = true
		case "flavor_groups":
			r.wrong(e.at, "", "flavor_groups: is the format of SovereignCloudStack's own test: give its SCS-Spec.MandatoryFlavors.verbose.yaml instead")
			return
		}
	}
	switch {
	case own && scs:
		r.wrong(root, "", "is of two formats at once: it has flavors:, or mandatory: and recommended:, not both")
	case own:
		r.own(top)
	case scs:
		r.scs(top, o)
	default:
		r.wrong(root, "", "declares no flavors: it must be a map with flavors:, or with mandatory: as SovereignCloudStack and OSISM publish it")
	}
	if len(r.problems) == 0 && len(r.declared.Flavors) == 0 {
		r.wrong(root, "", "declares no flavors: an empty list is never applied")
	}
}

// add takes a flavor that was read at n, unless the file has it already.
func (r *reader) add(n *yaml.Node, path string, f Flavor) {
	r.named(n, path, f.Name)
	if f.ID != "" {
		if line, twice := r.ids[f.ID]; twice {
			r.wrong(n, path, "the id %s is that of the flavor in line %d too: an id is one flavor's", f.ID, line)
		}
		r.ids = put(r.ids, f.ID, n.Line)
	}
	r.declared.Flavors = append(r.declared.Flavors, f)
}

// leaveOut takes a flavor that is named only.
func (r *reader) leaveOut(n *yaml.Node, path, name, why string) {
	r.named(n, path, name)
	r.declared.LeftOut = append(r.declared.LeftOut, LeftOut{name, why})
}

// named refuses a second flavor of one name. A name that is wrong has been told.
func (r *reader) named(n *yaml.Node, path, name string) {
	if name == "" {
		return
	}
	if line, twice := r.names[name]; twice {
		r.wrong(n, path, "%q is declared in line %d already: a name is one flavor's", name, line)
	}
	r.names = put(r.names, name, n.Line)
}

func put(lines map[string]int, key string, line int) map[string]int {
	if lines == nil {
		lines = map[string]int{}
	}
	if _, ok := lines[key]; !ok {
		lines[key] = line
	}
	return lines
}
