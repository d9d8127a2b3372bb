package httpapi

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// decodeJSON reads a body into d's fields, with its envelope or without. It is
// strict, and walks what it knows only: how deep a body can be is bounded by
// the fields. jsontext refuses repeated names and bad UTF-8.
func decodeJSON(body []byte, d document) error {
	r := jsonReader{jsontext.NewDecoder(bytes.NewBuffer(body))}
	if err := r.open("the body"); err != nil {
		return err
	}
	if err := r.members(d.fields, d.envelope); err != nil {
		return err
	}
	return r.end()
}

// end makes sure that nothing comes after the value.
func (r jsonReader) end() error {
	if _, err := r.ReadToken(); !errors.Is(err, io.EOF) {
		return flavor.Invalid("the body goes on after the end of its JSON object")
	}
	return nil
}

type jsonReader struct{ *jsontext.Decoder }

// token is the next token. Its text is good until the next call.
func (r jsonReader) token() (jsontext.Token, error) {
	token, err := r.ReadToken()
	return token, notJSON(err)
}

// notJSON is err as the client may be told of it.
func notJSON(err error) error {
	if err == nil {
		return nil
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return flavor.Invalid("%.100s: is given twice", syntax.JSONPointer.LastToken())
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			return flavor.Invalid("the body is not JSON: at byte %d, %.100s", syntax.ByteOffset, syntax.Err)
		}
	}
	return flavor.Invalid("the body is not JSON: it ends too soon")
}

// want is the next token, which must be of kind; what says what it is.
func (r jsonReader) want(name, what string, kind jsontext.Kind) (jsontext.Token, error) {
	token, err := r.token()
	if err == nil && token.Kind() != kind {
		err = flavor.Invalid("%s: must be %s, not %s", name, what, kindName(token))
	}
	return token, err
}

func (r jsonReader) open(name string) error {
	_, err := r.want(name, "an object", jsontext.KindBeginObject)
	return err
}

// members reads an object's members up to its end. One named envelope, if it is
// the only one, holds the fields itself; "" is none.
func (r jsonReader) members(fields []field, envelope string) error {
	var told seen
	for first := true; ; first = false {
		token, err := r.token()
		if err != nil {
			return err
		}
		if token.Kind() == jsontext.KindEndObject {
			return nil
		}
		name := token.String()
		if first && envelope != "" && name == envelope {
			if err := r.open(name); err != nil {
				return err
			}
			if err := r.members(fields, ""); err != nil {
				return err
			}
			if token, err = r.token(); err == nil && token.Kind() != jsontext.KindEndObject {
				err = flavor.Invalid("%.100q: there is no such field beside %q", token.String(), envelope)
			}
			return err
		}
		f, ok := find(fields, name)
		if !ok {
			return unknown(name, fields)
		}
		if err := told.add(name); err != nil {
			return err
		}
		if err := r.value(f); err != nil {
			return err
		}
	}
}

func (r jsonReader) value(f field) error {
	switch into := f.into.(type) {
	case **string:
		text, err := r.text(f.name)
		*into = &text
		return err
	case *string:
		text, err := r.text(f.name)
		*into = text
		return err
	case **flavor.Secret:
		text, err := r.text(f.name)
		*into = new(flavor.Secret(text))
		return err
	case *int:
		token, err := r.want(f.name, "a whole number", jsontext.KindNumber)
		if err != nil {
			return err
		}
		n, err := whole(f.name, token.String())
		if err == nil {
			*into = *n
		}
		return err
	case **int:
		token, err := r.want(f.name, "a whole number", jsontext.KindNumber)
		if err == nil {
			*into, err = whole(f.name, token.String())
		}
		return err
	case **float64:
		token, err := r.want(f.name, "a number", jsontext.KindNumber)
		if err == nil {
			*into, err = fraction(f.name, token.String())
		}
		return err
	case **bool:
		token, err := r.token()
		if kind := token.Kind(); err == nil && kind != jsontext.KindTrue && kind != jsontext.KindFalse {
			err = flavor.Invalid("%s: must be true or false, not %s", f.name, kindName(token))
		}
		*into = new(err == nil && token.Bool())
		return err
	case **map[string]string:
		specs, err := r.specs(f.name)
		*into = &specs
		return err
	case oneNode:
		text, err := r.text(f.name)
		if err != nil {
			return err
		}
		return addNode(into.nodes, text)
	case severalNodes:
		return r.nodes(f.name, into.nodes)
	case []field:
		if err := r.open(f.name); err != nil {
			return err
		}
		return r.members(into, "")
	case severalOf:
		return r.objects(f.name, into)
	}
	panic("httpapi: no way to read " + f.name)
}

func (r jsonReader) text(name string) (string, error) {
	token, err := r.want(name, "a string", jsontext.KindString)
	if err != nil {
		return "", err
	}
	return token.String(), nil
}

func (r jsonReader) specs(name string) (map[string]string, error) {
	if err := r.open(name); err != nil {
		return nil, err
	}
	specs := map[string]string{}
	for {
		token, err := r.token()
		if err != nil || token.Kind() == jsontext.KindEndObject {
			return specs, err
		}
		key := token.String()
		if specs[key], err = r.text(name + "." + key); err != nil {
			return nil, err
		}
	}
}

func (r jsonReader) objects(name string, several severalOf) error {
	one := several.begin()
	return r.elements(name, "an array of objects", jsontext.KindBeginObject, func(jsontext.Token) error {
		return r.members(one(), "")
	})
}

func (r jsonReader) nodes(name string, nodes **[]string) error {
	*nodes = &[]string{}
	return r.elements(name, "an array of strings", jsontext.KindString, func(token jsontext.Token) error {
		return addNode(nodes, token.String())
	})
}

// elements reads an array whose elements all are of kind; what says what it is.
// read gets the first token of each, and reads the rest.
func (r jsonReader) elements(name, what string, kind jsontext.Kind, read func(jsontext.Token) error) error {
	if _, err := r.want(name, what, jsontext.KindBeginArray); err != nil {
		return err
	}
	for {
		token, err := r.token()
		switch {
		case err != nil:
			return err
		case token.Kind() == jsontext.KindEndArray:
			return nil
		case token.Kind() != kind:
			return flavor.Invalid("%s: must be %s, without %s", name, what, kindName(token))
		}
		if err := read(token); err != nil {
			return err
		}
	}
}

func kindName(token jsontext.Token) string {
	switch token.Kind() {
	case jsontext.KindNull:
		return "null"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "true or false"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindBeginObject:
		return "an object"
	}
	return "an array"
}
