package tosca

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// What a document may have at most, of values (keys, aliases and what they stand
// for included) and of levels. It keeps a short text from becoming a large tree.
const (
	maxValues = 100_000
	maxDepth  = 64
)

// Decode reads one document of YAML or JSON: maps with the keys' text as keys,
// lists, strings, booleans, nil, and numbers as they are written, as json.Number.
// Aliases and << are resolved.
func Decode(text []byte) (any, error) {
	d := decoding{}
	if !utf8.Valid(text) {
		return nil, flavor.Invalid("the document must be in UTF-8")
	}
	// JSON is YAML but for pairs of escapes (\ud83d\ude00) and some tabs.
	if start := bytes.TrimLeft(text, " \t\r\n"); len(start) > 0 && start[0] == '{' && json.Valid(text) {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		return d.json(decoder, 1)
	}
	// The parser takes some hundred bytes for a value of two, before anybody can
	// count. There are no more values than a few for each of these.
	if marks(text) > maxValues {
		return nil, tooMany()
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root, more yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return nil, flavor.Invalid("the document is empty")
	} else if err != nil {
		return nil, notYAML(err)
	}
	if err := decoder.Decode(&more); err == nil {
		return nil, flavor.Invalid("there is a second document; one was expected")
	} else if !errors.Is(err, io.EOF) {
		return nil, notYAML(err)
	}
	return d.value(root.Content[0], 1)
}

// marks counts what a value can begin or end at.
func marks(text []byte) int {
	n := 0
	for i, b := range text {
		switch b {
		case ',', '[', '{', '\n', '\r':
			n++
		case '-', '?':
			if i+1 == len(text) || text[i+1] == ' ' || text[i+1] == '\t' {
				n++
			}
		}
	}
	for _, lineBreak := range []string{"\u0085", "\u2028", "\u2029"} { // YAML's own, too
		n += bytes.Count(text, []byte(lineBreak))
	}
	return n
}

func tooMany() error {
	return flavor.Invalid("the document has more than %d values; leave out what does not say what the nodes are to have", maxValues)
}

// notYAML tells what the parser says: a line and a rule, or an anchor's name.
func notYAML(err error) error {
	return flavor.Invalid("the document is not YAML: %.200s", strings.TrimPrefix(err.Error(), "yaml: "))
}

type decoding struct{ values int }

// count takes one more value, so deep, into account.
func (d *decoding) count(depth int) error {
	d.values++
	if d.values > maxValues {
		return tooMany()
	}
	if depth > maxDepth {
		return flavor.Invalid("the document is more than %d levels deep", maxDepth)
	}
	return nil
}

// json is the next value of a text that is valid.
func (d *decoding) json(decoder *json.Decoder, depth int) (any, error) {
	if err := d.count(depth); err != nil {
		return nil, err
	}
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('['):
		list := []any{}
		for decoder.More() {
			item, err := d.json(decoder, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		_, err = decoder.Token()
		return list, err
	case json.Delim('{'):
		m := map[string]any{}
		for decoder.More() {
			key, err := d.json(decoder, depth)
			if err != nil {
				return nil, err
			}
			name, _ := key.(string)
			if _, twice := m[name]; twice {
				return nil, flavor.Invalid("%.40q is given twice", name)
			}
			if m[name], err = d.json(decoder, depth+1); err != nil {
				return nil, err
			}
		}
		_, err = decoder.Token()
		return m, err
	}
	return token, nil
}

func (d *decoding) value(n *yaml.Node, depth int) (any, error) {
	if err := d.count(depth); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.AliasNode:
		return d.value(n.Alias, depth+1) // one that holds itself ends at the depth
	case yaml.MappingNode:
		return d.mapping(n, depth)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			var err error
			if list[i], err = d.value(item, depth+1); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return atom(n), nil
}

func (d *decoding) mapping(n *yaml.Node, depth int) (any, error) {
	m := make(map[string]any, len(n.Content)/2)
	var merged []map[string]any
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return nil, flavor.Invalid("line %d: a key must be text, not a map or a list", key.Line)
		}
		if err := d.count(depth); err != nil {
			return nil, err
		}
		value, err := d.value(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if key.ShortTag() == "!!merge" {
			maps, err := toMerge(key, value)
			if err != nil {
				return nil, err
			}
			merged = append(merged, maps...)
			continue
		}
		if _, twice := m[key.Value]; twice {
			return nil, flavor.Invalid("line %d: %.40q is given twice", key.Line, key.Value)
		}
		m[key.Value] = value
	}
	// What is said here goes first, then what is merged first.
	for _, from := range merged {
		for key, value := range from {
			if _, said := m[key]; !said {
				m[key] = value
			}
		}
	}
	return m, nil
}

// toMerge is the maps that << names: one, or a list of them.
func toMerge(key *yaml.Node, value any) ([]map[string]any, error) {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	maps := make([]map[string]any, len(list))
	for i, item := range list {
		if maps[i], ok = item.(map[string]any); !ok {
			return nil, flavor.Invalid("line %d: << merges a map or a list of maps", key.Line)
		}
	}
	return maps, nil
}

var number = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// maxAtom is longer than any number or boolean: what is longer is text, which is
// not looked into each time an alias stands for it.
const maxAtom = 400

// atom is a scalar's value. What YAML takes for a number in other ways, such as
// 0x10, stays text.
func atom(n *yaml.Node) any {
	if len(n.Value) > maxAtom {
		return n.Value
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		if number.MatchString(n.Value) {
			return json.Number(n.Value)
		}
	}
	return n.Value
}

// shown is a value as an error shows it: at most 40 characters of it.
func shown(value any) string {
	switch v := value.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "a map"
	case []any:
		return fmt.Sprintf("a list of %d", len(v))
	case string:
		return fmt.Sprintf("%.40q", v)
	}
	return fmt.Sprintf("%.40s", fmt.Sprint(value))
}
