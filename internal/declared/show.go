package declared

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Show writes what is to be done, for people: + what is created, ~ what changes and
// how, - what is deleted, ! what keeps it from being done, and how many are as they
// should be.
func (p Plan) Show(w io.Writer) error {
	out := &strings.Builder{}
	for i := range p.Steps {
		p.Steps[i].show(out)
	}
	if p.Same > 0 {
		fmt.Fprintf(out, "= %d as declared\n", p.Same)
	}
	for _, l := range p.LeftOut {
		fmt.Fprintf(out, "  %s is left out of account: %s\n", shown(l.Name), l.Why)
	}
	for _, f := range p.Kept {
		fmt.Fprintf(out, "  %s is not in the file and stays, for %s: retire it (PUT /v1/promotedflavors/%s {\"retired\": true}), or remove it everywhere (DELETE /v1/promotedflavors/%s?uninstall=true)\n",
			shown(f.Name), has(f.Nodes), f.ID, f.ID)
	}
	if p.Others > 0 {
		fmt.Fprintf(out, "  %d in the catalogue only, left alone\n", p.Others)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (s *Step) show(out *strings.Builder) {
	switch s.Verb {
	case Create:
		fmt.Fprintf(out, "+ %s\n", shown(s.Name))
		for _, d := range s.Wanted.Differences(flavor.Spec{RxTxFactor: 1, Disk: -1}) {
			if d.Field != "name" {
				fmt.Fprintf(out, "    %s: %s\n", d.Field, d.Wanted)
			}
		}
		if s.Promote {
			fmt.Fprintf(out, "    promoted: true\n")
		}
		if s.Wanted.Retired != nil && *s.Wanted.Retired {
			fmt.Fprintf(out, "    retired: true\n")
		}
		if s.Publish != nil {
			fmt.Fprintf(out, "    published as %s has it already, private\n", shown(s.Publish.Nodes[0]))
		}
	case Change:
		fmt.Fprintf(out, "~ %s\n", shown(s.Name))
		for _, d := range s.Differences {
			fmt.Fprintf(out, "    %s: %s → %s\n", d.Field, d.Found, d.Wanted)
		}
		if s.Promote {
			fmt.Fprintf(out, "    promoted: false → true\n")
		}
	case Delete:
		fmt.Fprintf(out, "- %s\n    not in the file, and no region has it\n", shown(s.Name))
	}
	for _, node := range s.Install {
		fmt.Fprintf(out, "    nodes: + %s\n", shown(node))
	}
	for _, why := range s.Blocked {
		fmt.Fprintf(out, "  ! %s\n", why)
	}
}

// shown is a name as it is, or in quotes where a terminal would not show it so.
func shown(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` || name == "" {
		return q
	}
	return name
}

// has is "Spain2 has it", or "Spain2, Trento have it".
func has(nodes []string) string {
	if len(nodes) == 1 {
		return nodes[0] + " has it"
	}
	return strings.Join(nodes, ", ") + " have it"
}
