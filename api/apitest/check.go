package apitest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/helium"
	"github.com/lestrrat-go/helium/xsd"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// ours are the headers that must not come where they are not described.
var ours = []string{"Age", "Allow", "ETag", "Link", "Location", "Preference-Applied", "Retry-After", "WWW-Authenticate", "X-Flavorsync-Unreachable"}

const declaration = `<?xml version="1.0" encoding="UTF-8"?>`

// check lists what is not as described in one exchange.
func (d *description) check(req *http.Request, reqBody []byte, resp *http.Response, respBody []byte) []string {
	method := req.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	o, values, others := d.find(method, req.URL)
	switch {
	case o == nil && method == http.MethodOptions && resp.StatusCode == http.StatusNoContent && len(others) > 0:
		return header{required: true, schema: d.allow}.check("the header Allow", resp.Header.Values("Allow"))
	case o == nil:
		return d.checkUndescribed(req, resp, respBody, len(others) > 0)
	}
	var found problems
	if resp.StatusCode < 400 {
		found = append(found, o.checkParameters(req, values)...)
		found = append(found, o.checkSecurity(req)...)
		if o.request != nil {
			found = append(found, checkBody("the request", o.request, req.Header, reqBody, false)...)
		}
	}
	r := o.responses[resp.StatusCode]
	if r == nil {
		return append(found, "this status is not described")
	}
	for name, h := range r.headers {
		found = append(found, h.check(name, resp.Header.Values(name))...)
	}
	for _, name := range ours {
		if _, ok := r.header(name); !ok && resp.Header.Get(name) != "" {
			found = append(found, fmt.Sprintf("the header %s is not described", name))
		}
	}
	switch {
	case req.Method == http.MethodHead || len(r.content) == 0:
		if len(respBody) > 0 {
			found = append(found, fmt.Sprintf("has a body of %d bytes where there is none", len(respBody)))
		}
	default:
		found = append(found, checkBody("the response", r.content, resp.Header, respBody, true)...)
	}
	if len(found) == 0 && req.Method != http.MethodHead {
		d.see(o, req, resp)
	}
	return found
}

// find looks a request's operation up, with the values of its path; others are
// the methods that its path has instead.
func (d *description) find(method string, u *url.URL) (o *operation, values map[string]string, others []string) {
	path := segments(u.EscapedPath())
	prefixed := len(path) > 1 && path[0] == "api"
	if prefixed {
		path = path[1:]
	}
	for _, candidate := range d.operations {
		if prefixed && candidate.unversion {
			continue
		}
		for _, template := range candidate.paths {
			values, ok := match(template, path)
			switch {
			case ok && candidate.method == method:
				return candidate, values, nil
			case ok:
				others = append(others, candidate.method)
			}
		}
	}
	return nil, nil, others
}

func match(template, path []string) (map[string]string, bool) {
	if len(template) != len(path) {
		return nil, false
	}
	values := map[string]string{}
	for i, want := range template {
		got, err := url.PathUnescape(path[i])
		if err != nil {
			return nil, false
		}
		if strings.HasPrefix(want, "{") {
			values[strings.Trim(want, "{}")] = got
		} else if got != want {
			return nil, false
		}
	}
	return values, true
}

// isUCloud says whether a request is of UCloud's Core, which is answered in its own
// words. Core knows methods that a provider may leave out, and say so.
func isUCloud(req *http.Request) bool { return segments(req.URL.EscapedPath())[0] == "ucloud" }

// checkUndescribed wants a path or a method that is not described refused.
func (d *description) checkUndescribed(req *http.Request, resp *http.Response, body []byte, pathIsDescribed bool) []string {
	what := "path"
	if pathIsDescribed {
		what = "method"
	}
	ofCore := isUCloud(req)
	notImplemented := ofCore && resp.StatusCode == http.StatusNotImplemented
	if (resp.StatusCode < 400 || resp.StatusCode >= 500) && !notImplemented {
		return []string{"the " + what + " is not described"}
	}
	if resp.StatusCode == http.StatusMethodNotAllowed {
		if problems := (header{required: true, schema: d.allow}).check("the header Allow", resp.Header.Values("Allow")); problems != nil {
			return problems
		}
	}
	if req.Method == http.MethodHead {
		return nil
	}
	if ofCore {
		return checkBody("the response", d.ucloudFailure, resp.Header, body, true)
	}
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media == "text/plain" {
		return nil // a bad credential, or an answer of net/http's own
	}
	return checkBody("the response", d.failure, resp.Header, body, true)
}

func (o *operation) checkParameters(req *http.Request, path map[string]string) []string {
	var found problems
	query, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return []string{"the query cannot be read"}
	}
	for _, p := range o.parameters {
		var values []string
		switch p.in {
		case "path":
			values = []string{path[p.name]}
		case "query":
			values = slices.Compact(query[p.name])
			if p.empty && len(values) == 1 && values[0] == "" {
				continue
			}
		case "header":
			values = req.Header.Values(p.name)
		}
		h := header{p.required, p.schema, p.number}
		found = append(found, h.checked(p.in+" parameter "+p.name, values, explainQuietly)...)
	}
	return found
}

// checkSecurity wants all credentials of one alternative there.
func (o *operation) checkSecurity(req *http.Request) []string {
	if len(o.security) == 0 || slices.ContainsFunc(o.security, func(all []credential) bool {
		return !slices.ContainsFunc(all, func(c credential) bool { return !c.sent(req) })
	}) {
		return nil
	}
	return []string{"succeeded without the credentials that are described"}
}

// sent says whether req has the credential.
func (c credential) sent(req *http.Request) bool {
	switch c.in {
	case "header":
		return req.Header.Get(c.name) != ""
	case "query":
		return req.URL.Query().Get(c.name) != ""
	}
	scheme, _, _ := strings.Cut(strings.TrimSpace(req.Header.Get("Authorization")), " ")
	return strings.EqualFold(scheme, c.kind)
}

func (r *response) header(name string) (header, bool) {
	for described, h := range r.headers {
		if strings.EqualFold(described, name) {
			return h, true
		}
	}
	return header{}, false
}

// check holds the values of one header or parameter to its schema. Several are
// one with commas, as HTTP has it.
func (h header) check(name string, values []string) []string { return h.checked(name, values, explain) }

func (h header) checked(name string, values []string, explain func(error) string) []string {
	if len(values) == 0 {
		if h.required {
			return []string{name + " is missing"}
		}
		return nil
	}
	text := strings.Join(values, ", ")
	var value any = text
	if h.number {
		value = json.Number(text)
		if _, err := strconv.ParseFloat(text, 64); err != nil {
			return []string{name + " is no number"}
		}
	}
	if err := h.schema.Validate(value); err != nil {
		return []string{name + ": " + explain(err)}
	}
	return nil
}

// checkBody holds a body to its media type's schema.
func checkBody(whose string, described map[string]*content, h http.Header, body []byte, response bool) []string {
	media, parameters, err := mime.ParseMediaType(h.Get("Content-Type"))
	c := described[media]
	switch {
	case err != nil || c == nil:
		return []string{fmt.Sprintf("the media type %q of %s is not described", h.Get("Content-Type"), whose)}
	case !strings.EqualFold(cmp.Or(parameters["charset"], "utf-8"), "utf-8"):
		return []string{whose + " is not in UTF-8"}
	}
	var problem error
	switch media {
	case "application/json":
		problem = c.checkJSON(body)
	case "application/xml", "text/xml":
		problem = c.checkXML(body, response)
	case "application/x-yaml", "application/yaml", "text/yaml":
		problem = c.checkYAML(body)
	default:
		problem = c.schema.Validate(string(body))
	}
	switch {
	case problem == nil:
		return nil
	case response:
		return []string{fmt.Sprintf("the body of %s: %s", whose, explain(problem))}
	}
	return []string{fmt.Sprintf("the body of %s: %s", whose, explainQuietly(problem))}
}

func (c *content) checkJSON(body []byte) error {
	// jsontext refuses a repeated key, bad UTF-8 and what follows the value.
	if !jsontext.Value(body).IsValid() {
		return errors.New("is no JSON, or repeats a key")
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return c.schema.Validate(value)
}

// checkYAML holds a document of YAML to the schema, as if it were JSON.
func (c *content) checkYAML(body []byte) error {
	var tree any
	decoder := yaml.NewDecoder(bytes.NewReader(body))
	err := decoder.Decode(&tree)
	if err == nil && !errors.Is(decoder.Decode(new(any)), io.EOF) {
		err = errors.New("there is a second document")
	}
	var text []byte
	if err == nil {
		text, err = json.Marshal(tree)
	}
	if err != nil {
		return errors.New("is no YAML, or repeats a key, or goes on after its end") // err would quote it
	}
	return c.checkJSON(text)
}

func (c *content) checkXML(body []byte, response bool) error {
	if response && !bytes.HasPrefix(body, []byte(declaration)) {
		return errors.New("does not begin with " + declaration)
	}
	if c.xml == nil {
		return nil
	}
	return c.xml.check(body)
}

// check holds a document to its type, and to its root: the schema alone would
// be content with any of its global elements.
func (d *document) check(body []byte) error {
	if d.request() {
		body = d.enveloped(body)
	}
	if err := d.checkChildren(body); err != nil {
		return err
	}
	return d.checkSchema(body)
}

func (d *document) checkSchema(body []byte) error {
	ctx := context.Background()
	doc, err := helium.NewParser().Parse(ctx, body)
	if err != nil {
		return fmt.Errorf("is not well-formed XML: %w", err)
	}
	var found problems
	if err := xsd.NewValidator(d.schema).ErrorHandler(&found).Validate(ctx, doc); err != nil {
		if len(found) == 0 {
			return err
		}
		return errors.New(found.String())
	}
	return nil
}

// request says whether it goes in, and so has children in any order.
func (d *document) request() bool { return strings.HasSuffix(d.kind, "Request") }

var root = regexp.MustCompile(`(?s)^\s*(?:<\?xml.*?\?>)?(?:\s|<!--.*?-->)*<(\w+)`)

// enveloped is body inside the root it may leave out: a single child.
func (d *document) enveloped(body []byte) []byte {
	at := root.FindSubmatchIndex(body)
	if len(at) != 4 || string(body[at[2]:at[3]]) == d.element {
		return body
	}
	return slices.Concat([]byte("<"+d.element+">"), body[at[2]-1:], []byte("</"+d.element+">"))
}

// checkChildren checks what the XML schema cannot say: which root this is, and
// that in a request, whose children may have any order, none repeats but those
// that name a region each.
func (d *document) checkChildren(body []byte) error {
	decoder := xml.NewDecoder(bytes.NewReader(body))
	seen := map[string]bool{}
	depth := 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("is not well-formed XML: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			depth++
			if depth == 1 && (t.Name.Local != d.element || t.Name.Space != "") {
				return fmt.Errorf("the root is not %s", d.element)
			}
			if depth == 2 && d.request() && t.Name.Local != "node" && t.Name.Local != "region" {
				if seen[t.Name.Local] {
					return fmt.Errorf("has %s more than once", t.Name.Local)
				}
				seen[t.Name.Local] = true
			}
		case xml.EndElement:
			depth--
		}
	}
}

// explain is err on one line.
func explain(err error) string {
	if _, ok := errors.AsType[*jsonschema.ValidationError](err); !ok {
		return err.Error()
	}
	lines := strings.Split(err.Error(), "\n")
	return strings.Join(slices.DeleteFunc(lines[min(1, len(lines)-1):], func(l string) bool { return l == "" }), "; ")
}

var quoted = regexp.MustCompile(`(?s)(Element '\w+'(?:, attribute '\w+')?: (?:\[[^]]*\] )?)(?:The value )?'.*`)

// explainQuietly is err without the values that are wrong: in a request they
// may be secrets.
func explainQuietly(err error) string {
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return quoted.ReplaceAllString(err.Error(), "${1}this value is not allowed")
	}
	var wrong []string
	var walk func(*jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		if len(e.Causes) == 0 {
			wrong = append(wrong, fmt.Sprintf("at %q: %s", strings.Join(e.InstanceLocation, "/"), strings.Join(e.ErrorKind.KeywordPath(), "/")))
		}
		for _, cause := range e.Causes {
			walk(cause)
		}
	}
	walk(invalid)
	return strings.Join(wrong, "; ")
}
