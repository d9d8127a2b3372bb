package httpapi

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/tosca"
)

// matchTree is the body as the generic tree that tosca reads, whatever its format.
func (k *call) matchTree() (any, error) {
	body, mediaType, err := k.body("match")
	if err != nil {
		return nil, err
	}
	switch {
	case mediaType == mediaTypes[asJSON]:
		r := jsonReader{jsontext.NewDecoder(bytes.NewBuffer(body))}
		if _, err := r.ReadValue(); err != nil {
			return nil, notJSON(err)
		}
		if err := r.end(); err != nil {
			return nil, err
		}
		return tosca.Decode(body)
	case slices.Contains(yamlTypes, mediaType):
		return tosca.Decode(body)
	case mediaType == mediaTypes[asXML], mediaType == mediaTypes[asTextXML]:
		return matchXML(body)
	}
	return nil, unsupported("application/json, application/xml, text/xml or application/x-yaml")
}

// matchXML reads <match> into the tree that JSON would give: an element with
// children is an object, unless they are all <value>: then it is a list. <region>
// may come again and again.
func matchXML(body []byte) (any, error) {
	r := newXMLReader(body)
	root, err := r.root()
	if err != nil {
		return nil, err
	}
	if root.Name.Local != "match" || len(root.Attr) > 0 {
		return nil, flavor.Invalid("the root element must be <match>, without attributes")
	}
	members := map[string]any{}
	var regions []any
	err = r.children("match", func(e xml.StartElement) error {
		name := e.Name.Local
		value, err := r.tree(e, 1)
		switch _, twice := members[name]; {
		case err != nil:
			return err
		case name == "region":
			regions = append(regions, value)
			return nil
		case twice:
			return flavor.Invalid("%.100s: is given twice", name)
		case name != "host" && name != "template" && name != "limit":
			return unknownElement(e)
		}
		switch text, isText := value.(string); {
		case name == "host" && value == "":
			value = map[string]any{} // it asks for nothing
		case name == "limit" && isText:
			value = json.Number(text) // as JSON would have it
		}
		members[name] = value
		return nil
	})
	if regions != nil {
		members["regions"] = regions
	}
	if err == nil {
		err = r.end()
	}
	return members, err
}

// maxMatchDepth is deeper than any constraint of a host.
const maxMatchDepth = 8

// tree reads an element whose children are not known, up to its end.
func (r *xmlReader) tree(e xml.StartElement, depth int) (any, error) {
	name := e.Name.Local
	if len(e.Attr) > 0 {
		return nil, flavor.Invalid("%.100q: <%.100s> has no such attribute", e.Attr[0].Name.Local, name)
	}
	if depth > maxMatchDepth {
		return nil, flavor.Invalid("<%.100s>: is too deep", name)
	}
	var text []byte
	var list []any
	members := map[string]any{}
	for {
		token, err := r.token()
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.CharData:
			text = append(text, token...)
		case xml.StartElement:
			value, err := r.tree(token, depth+1)
			if err != nil {
				return nil, err
			}
			child := token.Name.Local
			if child == "value" {
				list = append(list, value)
				continue
			}
			if _, twice := members[child]; twice {
				return nil, flavor.Invalid("%.100s: is given twice", child)
			}
			members[child] = value
		default:
			return branch(name, string(text), list, members)
		}
	}
}

// branch is what an element holds: text, a list or an object.
func branch(name, text string, list []any, members map[string]any) (any, error) {
	trimmed := strings.Trim(text, " \t\r\n")
	switch {
	case len(list) == 0 && len(members) == 0:
		return trimmed, nil
	case trimmed != "":
		return nil, blank(name, xml.CharData(text))
	case len(list) > 0 && len(members) > 0:
		return nil, flavor.Invalid("<%.100s>: must hold <value> elements alone, or none", name)
	case len(list) > 0:
		return list, nil
	}
	return members, nil
}
