package httpapi

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// decodeXML reads a body into d's fields. Its root is the envelope, or, since a
// body may come without that, one single field (<node>Trento</node>). It walks
// what it knows only; encoding/xml accepts nearly anything else.
func decodeXML(body []byte, d document) error {
	r := newXMLReader(body)
	root, err := r.root()
	if err != nil {
		return err
	}
	if root.Name.Local == d.envelope {
		err = r.object(root, d.fields)
	} else if f, ok := r.child(root, d.fields); ok {
		err = r.value(root, f)
	} else {
		err = flavor.Invalid("the root element must be <%s>, not <%.100s>", d.envelope, root.Name.Local)
	}
	if err != nil {
		return err
	}
	return r.end()
}

type xmlReader struct {
	d     *xml.Decoder
	first bool // no token has been read yet
}

func newXMLReader(body []byte) *xmlReader {
	return &xmlReader{d: xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\xEF\xBB\xBF")))), first: true}
}

// token is the next element's start or end, or text; nil is the end of the body.
func (r *xmlReader) token() (xml.Token, error) {
	for {
		token, err := r.d.Token()
		first := r.first
		r.first = false
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			if syntax, ok := errors.AsType[*xml.SyntaxError](err); ok {
				return nil, flavor.Invalid("the body is not well-formed XML: line %d, %.200s", syntax.Line, syntax.Msg)
			}
			// Everything else that encoding/xml refuses is in the declaration.
			return nil, flavor.Invalid("the body is not XML 1.0 in UTF-8")
		}
		switch token := token.(type) {
		case xml.Comment:
		case xml.Directive:
			return nil, flavor.Invalid("a document type (DOCTYPE) and its entities are not accepted")
		case xml.ProcInst:
			if token.Target != "xml" || !first {
				return nil, flavor.Invalid("a processing instruction is not accepted")
			}
		case xml.StartElement:
			return token, plainNames(token)
		default:
			return token, nil
		}
	}
}

// plainNames refuses namespaces, and an attribute that is given twice.
func plainNames(e xml.StartElement) error {
	if e.Name.Space != "" {
		return flavor.Invalid("<%.100s>: must be in no namespace", e.Name.Local)
	}
	if len(e.Attr) > 10 {
		return flavor.Invalid("<%.100s>: has %d attributes", e.Name.Local, len(e.Attr))
	}
	var told seen
	for _, a := range e.Attr {
		if a.Name.Space != "" || a.Name.Local == "xmlns" {
			return flavor.Invalid("<%.100s>: namespaces are not accepted", e.Name.Local)
		}
		if err := told.add(a.Name.Local); err != nil {
			return err
		}
	}
	return nil
}

func (r *xmlReader) root() (xml.StartElement, error) {
	for {
		switch token, err := r.token(); token := token.(type) {
		case nil:
			if err == nil {
				err = flavor.Invalid("the body is not XML: it has no element")
			}
			return xml.StartElement{}, err
		case xml.StartElement:
			return token, err
		case xml.CharData:
			if err := blank("the body", token); err != nil {
				return xml.StartElement{}, err
			}
		}
	}
}

// end makes sure that nothing comes after the root element.
func (r *xmlReader) end() error {
	for {
		switch token, err := r.token(); token := token.(type) {
		case nil:
			return err
		case xml.CharData:
			if err := blank("the body", token); err != nil {
				return err
			}
		default:
			return flavor.Invalid("the body goes on after the end of its root element")
		}
	}
}

// blank refuses text where only elements may stand; within says where that is.
func blank(within string, text xml.CharData) error {
	if strings.Trim(string(text), " \t\r\n") != "" {
		return flavor.Invalid("%.100s: there must be no text between the elements, such as %.40q", within, strings.TrimSpace(string(text)))
	}
	return nil
}

// child is the field that an element of this name is.
func (r *xmlReader) child(e xml.StartElement, fields []field) (field, bool) {
	f, ok := find(fields, e.Name.Local)
	if _, list := f.into.(severalNodes); f.attribute || list {
		return f, false
	}
	return f, ok
}

// object reads an element whose children are fields, up to its end.
func (r *xmlReader) object(e xml.StartElement, fields []field) error {
	for _, a := range e.Attr {
		f, ok := find(fields, a.Name.Local)
		if !ok || !f.attribute {
			return flavor.Invalid("%.100q: <%s> has no such attribute", a.Name.Local, e.Name.Local)
		}
		*f.into.(**string) = new(a.Value)
	}
	var told seen
	return r.children(e.Name.Local, func(e xml.StartElement) error {
		f, ok := r.child(e, fields)
		if !ok {
			return unknownElement(e)
		}
		if _, several := f.into.(oneNode); !several {
			if err := told.add(f.name); err != nil {
				return err
			}
		}
		return r.value(e, f)
	})
}

func unknownElement(e xml.StartElement) error {
	return flavor.Invalid("%.100q: there is no such element here; the schema is at /flavorsync.xsd", e.Name.Local)
}

// children hands each child element to read, which reads it up to its end.
// within is the name of their parent.
func (r *xmlReader) children(within string, read func(xml.StartElement) error) error {
	for {
		token, err := r.token()
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.StartElement:
			err = read(token)
		case xml.CharData:
			err = blank(within, token)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *xmlReader) value(e xml.StartElement, f field) error {
	if len(e.Attr) > 0 {
		return flavor.Invalid("%.100q: <%s> has no such attribute", e.Attr[0].Name.Local, f.name)
	}
	switch into := f.into.(type) {
	case []field:
		return r.object(e, into)
	case severalOf:
		one := into.begin()
		return r.children(f.name, func(e xml.StartElement) error {
			if e.Name.Local != into.item {
				return unknownElement(e)
			}
			return r.object(e, one())
		})
	case **map[string]string:
		specs, err := r.specs()
		*into = &specs
		return err
	}
	text, err := r.text(f.name)
	if err != nil {
		return err
	}
	// As XML Schema has it: white space around a number or a boolean is nothing.
	trimmed := strings.Trim(text, " \t\r\n")
	switch into := f.into.(type) {
	case **string:
		*into = &text
	case *string:
		*into = text
	case *int:
		var n *int
		if n, err = whole(f.name, trimmed); err == nil {
			*into = *n
		}
	case **flavor.Secret:
		*into = new(flavor.Secret(text))
	case **int:
		*into, err = whole(f.name, trimmed)
	case **float64:
		*into, err = fraction(f.name, trimmed)
	case **bool:
		switch trimmed {
		case "true", "1":
			*into = new(true)
		case "false", "0":
			*into = new(false)
		default:
			err = flavor.Invalid("%s: must be true or false, not %.40q", f.name, trimmed)
		}
	case oneNode:
		err = addNode(into.nodes, text)
	default:
		panic("httpapi: no way to read " + f.name)
	}
	return err
}

// text is the content of an element without children, up to its end.
func (r *xmlReader) text(name string) (string, error) {
	var text []byte
	for {
		token, err := r.token()
		if err != nil {
			return "", err
		}
		switch token := token.(type) {
		case xml.CharData:
			text = append(text, token...)
		case xml.StartElement:
			return "", flavor.Invalid("%s: must hold text only, not <%.100s>", name, token.Name.Local)
		default:
			return string(text), nil
		}
	}
}

func (r *xmlReader) specs() (map[string]string, error) {
	specs := map[string]string{}
	err := r.children("extra_specs", func(e xml.StartElement) error {
		if e.Name.Local != "spec" {
			return unknownElement(e)
		}
		if len(e.Attr) != 1 || e.Attr[0].Name.Local != "key" {
			return flavor.Invalid("extra_specs: each <spec> has the attribute key and no other")
		}
		key := e.Attr[0].Value
		name := "extra_specs." + key
		if _, twice := specs[key]; twice {
			return flavor.Invalid("%.300s: is given twice", name)
		}
		var err error
		specs[key], err = r.text(name)
		return err
	})
	return specs, err
}
