package declared

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// reader reads a document strictly, and goes on where something is wrong. It walks
// the nodes, for a decoder would tell neither lines nor repeated keys, and would
// write an alias out as often as it stands.
type reader struct {
	name     string
	problems []problem
	visited  int
	declared File
	names    map[string]int // to the line
	ids      map[string]int
}

type problem struct {
	line    int
	message string
}

const (
	// maxProblems are told of one file; nobody reads more.
	maxProblems = 50
	// maxVisited bounds the keys and values of a file, each alias written out.
	maxVisited = 1_000_000
)

// wrong notes what is wrong at n.
func (r *reader) wrong(n *yaml.Node, path, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if path != "" {
		message = path + ": " + message
	}
	r.problems = append(r.problems, problem{n.Line, message})
}

// err is everything that is wrong, by line.
func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b problem) int { return cmp.Compare(a.line, b.line) })
	var lines []string
	for i, p := range r.problems {
		if i == maxProblems {
			lines = append(lines, fmt.Sprintf("%s: and %d more", r.name, len(r.problems)-i))
			break
		}
		lines = append(lines, fmt.Sprintf("%s:%d: %s", r.name, p.line, p.message))
	}
	return errors.New(strings.Join(lines, "\n"))
}

// follow is what n is or stands for, or nil where there has been too much already.
func (r *reader) follow(n *yaml.Node) *yaml.Node {
	if r.visited++; r.visited > maxVisited {
		if r.visited == maxVisited+1 {
			r.wrong(n, "", "is too long: with its aliases written out it has more than %d keys and values", maxVisited)
		}
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// entry is one key of a map, with its value.
type entry struct {
	key       string
	at, value *yaml.Node
}

// entries are the keys of a map, each once.
func (r *reader) entries(n *yaml.Node, path string) []entry {
	m := r.follow(n)
	if m == nil {
		return nil
	}
	if m.Kind != yaml.MappingNode {
		r.wrong(n, path, "must be a map, not %s", kindOf(m))
		return nil
	}
	all := make([]entry, 0, len(m.Content)/2)
	lines := make(map[string]int, len(m.Content)/2)
	for i := 0; i+1 < len(m.Content); i += 2 {
		at, value := m.Content[i], m.Content[i+1]
		key := r.follow(at)
		switch {
		case key == nil:
			return all
		case key.ShortTag() == "!!merge":
			r.wrong(at, path, "merge keys (<<) are not read: write the fields out")
			continue
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			r.wrong(at, path, "a key must be text, not %s: put it in quotes", kindOf(key))
			continue
		}
		if line, twice := lines[key.Value]; twice {
			r.wrong(at, path, "%s stands in line %d already: give it once", quoted(key.Value), line)
			continue
		}
		lines[key.Value] = at.Line
		all = append(all, entry{key.Value, at, value})
	}
	return all
}

// items are those of a list.
func (r *reader) items(n *yaml.Node, path string) []*yaml.Node {
	l := r.follow(n)
	if l == nil {
		return nil
	}
	if l.Kind != yaml.SequenceNode {
		r.wrong(n, path, "must be a list, not %s", kindOf(l))
		return nil
	}
	return l.Content
}

// text is a string, and whether it is one.
func (r *reader) text(n *yaml.Node, path string) (string, bool) {
	s := r.follow(n)
	if s == nil {
		return "", false
	}
	if s.Kind != yaml.ScalarNode || s.ShortTag() != "!!str" {
		hint := ""
		if s.Kind == yaml.ScalarNode && s.ShortTag() != "!!null" {
			hint = ": put it in quotes"
		}
		r.wrong(n, path, "must be text, not %s%s", kindOf(s), hint)
		return "", false
	}
	return s.Value, true
}

// decimal keeps off what YAML 1.1 and 1.2 read differently, such as 010.
var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

func (r *reader) whole(n *yaml.Node, path string) (int, bool) {
	s := r.follow(n)
	if s == nil {
		return 0, false
	}
	if s.Kind == yaml.ScalarNode && s.ShortTag() == "!!int" && decimal.MatchString(s.Value) {
		if number, err := strconv.Atoi(s.Value); err == nil {
			return number, true
		}
	}
	r.wrong(n, path, "must be a whole number in decimal digits, not %s", kindOf(s))
	return 0, false
}

func (r *reader) number(n *yaml.Node, path string) (float64, bool) {
	s := r.follow(n)
	if s == nil {
		return 0, false
	}
	if s.Kind == yaml.ScalarNode && (s.ShortTag() == "!!int" || s.ShortTag() == "!!float") {
		if number, err := strconv.ParseFloat(s.Value, 64); err == nil && !math.IsInf(number, 0) && !math.IsNaN(number) {
			return number, true
		}
	}
	r.wrong(n, path, "must be a number, not %s", kindOf(s))
	return 0, false
}

func (r *reader) yesOrNo(n *yaml.Node, path string) *bool {
	s := r.follow(n)
	if s == nil {
		return nil
	}
	if s.Kind == yaml.ScalarNode && s.ShortTag() == "!!bool" {
		yes := strings.EqualFold(s.Value, "true")
		return &yes
	}
	r.wrong(n, path, "must be true or false, not %s", kindOf(s))
	return nil
}

// valid tells what Nova would refuse of the one field in p, which was read at n.
func (r *reader) valid(n *yaml.Node, path string, p flavor.Patch) bool {
	err := p.Validate()
	if err == nil {
		return true
	}
	_, message, _ := strings.Cut(err.Error(), ": ")
	r.wrong(n, path, "%s", message)
	return false
}

// missing tells which of the required fields were not there.
func (r *reader) missing(n *yaml.Node, path string, all []entry, required ...string) {
	for _, field := range required {
		if !slices.ContainsFunc(all, func(e entry) bool { return e.key == field }) {
			last := len(required) - 1
			r.wrong(n, path, "%s is missing: a flavor needs %s and %s", field, strings.Join(required[:last], ", "), required[last])
		}
	}
}

// unknown tells that there is no such key.
func (r *reader) unknown(e entry, path string, known ...string) {
	r.wrong(e.at, path, "there is no %s here: there are %s", quoted(e.key), strings.Join(known, ", "))
}

// kindOf tells what a node is instead of what it should be.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a map"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		return "nothing"
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str":
		return "the text " + quoted(n.Value)
	case n.Kind == yaml.ScalarNode:
		return strings.Trim(quoted(n.Value), `"`)
	}
	return "an alias"
}

// quoted is a text of the file for a message, on one line and not too long.
func quoted(text string) string {
	if len(text) > 80 {
		text = strings.ToValidUTF8(text[:80], "") + "…"
	}
	return strconv.Quote(text)
}
