package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/lestrrat-go/helium"
	"github.com/lestrrat-go/helium/xsd"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// description is both descriptions, compiled: every schema once. kin-openapi
// would compile a schema anew for each value it validates, so it checks the
// document in this package's tests and its engine is used directly here.
type description struct {
	operations    []*operation
	failure       map[string]*content // of errors on paths that are not described
	ucloudFailure map[string]*content // the same below /ucloud
	allow         *jsonschema.Schema  // of the header Allow

	mu   sync.Mutex
	seen map[string]bool // every coverage key there is; true once seen
}

type operation struct {
	method    string
	paths     [][]string // segments, of the path and its aliases; {name} is a parameter
	unversion bool       // stands outside /v1, so not under /api either
	name      string     // "GET /v1/flavors"

	parameters []parameter
	security   [][]credential // alternatives, each of which takes all of its credentials
	request    map[string]*content
	responses  map[int]*response
}

type parameter struct {
	name, in string
	required bool
	empty    bool // may be bare
	schema   *jsonschema.Schema
	number   bool
}

// credential is one security scheme: where its secret is.
type credential struct{ kind, in, name string }

type response struct {
	headers map[string]header
	content map[string]*content
}

type header struct {
	required bool
	schema   *jsonschema.Schema
	number   bool
}

// content is a body in one media type.
type content struct {
	schema *jsonschema.Schema
	xml    *document // nil where it is not XML, or not of ours
}

// document is one kind of XML document: a root element with its type.
type document struct {
	element, kind string
	schema        *xsd.Schema
}

const resource = "https://flavorsync.invalid/openapi.json"

// compiler walks the OpenAPI document by JSON pointers.
type compiler struct {
	root      map[string]any
	schemas   *jsonschema.Compiler
	xsd       []byte
	documents map[string]*document
}

func compile(openapi, schema []byte) (*description, error) {
	c, err := newCompiler(openapi, schema)
	if err != nil {
		return nil, err
	}
	return c.description()
}

func newCompiler(openapi, schema []byte) (*compiler, error) {
	var tree any
	if err := yaml.Unmarshal(openapi, &tree); err != nil {
		return nil, fmt.Errorf("while reading openapi.yaml: %w", err)
	}
	text, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("while reading openapi.yaml as JSON: %w", err)
	}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("while reading openapi.yaml as JSON: %w", err)
	}
	c := &compiler{schemas: jsonschema.NewCompiler(), xsd: schema, documents: map[string]*document{}}
	c.root, _ = root.(map[string]any)
	c.schemas.DefaultDraft(jsonschema.Draft2020)
	c.schemas.AssertFormat()
	if err := c.schemas.AddResource(resource, root); err != nil {
		return nil, fmt.Errorf("while reading the schemas of openapi.yaml: %w", err)
	}
	return c, nil
}

func (c *compiler) description() (*description, error) {
	d := &description{seen: map[string]bool{}}
	var err error
	if d.failure, err = c.contents("/components/responses/BadRequest/content"); err != nil {
		return nil, err
	}
	if d.ucloudFailure, err = c.contents("/components/responses/UCloudNotFound/content"); err != nil {
		return nil, err
	}
	if d.allow, _, err = c.schema("/components/headers/Allow/schema"); err != nil {
		return nil, err
	}
	paths := c.object("/paths")
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := "/paths/" + escape(path)
		for _, method := range []string{"get", "put", "post", "delete"} {
			if _, ok := c.object(item)[method]; !ok {
				continue
			}
			o, err := c.operation(path, item, method)
			if err != nil {
				return nil, fmt.Errorf("while reading %s %s: %w", strings.ToUpper(method), path, err)
			}
			d.operations = append(d.operations, o)
			for _, key := range o.coverage() {
				d.seen[key] = false
			}
		}
	}
	if len(d.operations) == 0 {
		return nil, errors.New("openapi.yaml describes no operation")
	}
	return d, nil
}

func (c *compiler) operation(path, item, method string) (*operation, error) {
	at := item + "/" + method
	o := &operation{
		method: strings.ToUpper(method), name: strings.ToUpper(method) + " " + path,
		paths: [][]string{segments(path)}, unversion: !strings.HasPrefix(path, "/v1/"),
		responses: map[int]*response{},
	}
	aliases, _ := c.object(item)["x-aliases"].([]any)
	for _, alias := range aliases {
		o.paths = append(o.paths, segments(alias.(string)))
	}
	for _, list := range []string{item + "/parameters", at + "/parameters"} {
		for i := range c.list(list) {
			p, err := c.parameter(list + "/" + strconv.Itoa(i))
			if err != nil {
				return nil, err
			}
			o.parameters = append(o.parameters, p)
		}
	}
	o.security = c.security(at)
	if _, ok := c.object(at)["requestBody"]; ok {
		var err error
		if o.request, err = c.contents(c.resolve(at+"/requestBody") + "/content"); err != nil {
			return nil, err
		}
	}
	for status := range c.object(at + "/responses") {
		code, err := strconv.Atoi(status)
		if err != nil {
			return nil, fmt.Errorf("the response %q is no status: say each one that can occur", status)
		}
		if o.responses[code], err = c.response(at + "/responses/" + status); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (c *compiler) parameter(at string) (parameter, error) {
	at = c.resolve(at)
	o := c.object(at)
	p := parameter{}
	p.name, _ = o["name"].(string)
	p.in, _ = o["in"].(string)
	p.required, _ = o["required"].(bool)
	p.empty, _ = o["allowEmptyValue"].(bool)
	var err error
	p.schema, p.number, err = c.schema(at + "/schema")
	return p, err
}

func (c *compiler) security(at string) [][]credential {
	list := at + "/security"
	if _, ok := c.object(at)["security"]; !ok {
		list = "/security"
	}
	var alternatives [][]credential
	for i := range c.list(list) {
		var all []credential
		for name := range c.object(list + "/" + strconv.Itoa(i)) {
			scheme := c.object("/components/securitySchemes/" + name)
			cr := credential{}
			cr.in, _ = scheme["in"].(string)
			cr.name, _ = scheme["name"].(string)
			cr.kind, _ = scheme["scheme"].(string)
			all = append(all, cr)
		}
		alternatives = append(alternatives, all)
	}
	return alternatives
}

func (c *compiler) response(at string) (*response, error) {
	at = c.resolve(at)
	r := &response{headers: map[string]header{}}
	for name := range c.object(at + "/headers") {
		h := c.resolve(at + "/headers/" + escape(name))
		required, _ := c.object(h)["required"].(bool)
		schema, number, err := c.schema(h + "/schema")
		if err != nil {
			return nil, err
		}
		r.headers[name] = header{required, schema, number}
	}
	var err error
	r.content, err = c.contents(at + "/content")
	return r, err
}

// contents reads a map of media types.
func (c *compiler) contents(at string) (map[string]*content, error) {
	types := map[string]*content{}
	for name := range c.object(at) {
		schema, _, err := c.schema(at + "/" + escape(name) + "/schema")
		if err != nil {
			return nil, err
		}
		types[name] = &content{schema: schema}
		if x := c.object(c.resolve(at+"/"+escape(name)+"/schema") + "/x-xsd"); x != nil {
			element, _ := x["element"].(string)
			kind, _ := x["type"].(string)
			if types[name].xml, err = c.document(element, kind); err != nil {
				return nil, err
			}
		}
	}
	return types, nil
}

// schema compiles the schema at a pointer; number says that what it describes
// is a number, so the text of a header or a parameter must be read as one.
func (c *compiler) schema(at string) (schema *jsonschema.Schema, number bool, err error) {
	schema, err = c.schemas.Compile(resource + "#" + at)
	if err != nil {
		return nil, false, fmt.Errorf("while compiling the schema %s: %w", at, err)
	}
	kind, _ := c.object(c.resolve(at))["type"].(string)
	return schema, kind == "integer" || kind == "number", nil
}

// document compiles the XML schema with another type for one of its elements.
func (c *compiler) document(element, kind string) (*document, error) {
	key := element + " " + kind
	if d, ok := c.documents[key]; ok {
		return d, nil
	}
	text, err := retype(c.xsd, element, kind)
	if err != nil {
		return nil, err
	}
	schema, err := compileXSD(text)
	if err != nil {
		return nil, fmt.Errorf("while compiling flavorsync.xsd with element %s of type %s: %w", element, kind, err)
	}
	c.documents[key] = &document{element, kind, schema}
	return c.documents[key], nil
}

// retype is the XML schema in which the global element has another type, as
// the schema's own introduction tells its readers to make it.
func retype(schema []byte, element, kind string) ([]byte, error) {
	declaration := regexp.MustCompile(`(?m)^(  <xs:element name="` + regexp.QuoteMeta(element) + `" type=")\w+("/>)$`)
	if len(declaration.FindAll(schema, -1)) != 1 || !bytes.Contains(schema, []byte(`<xs:complexType name="`+kind+`">`)) {
		return nil, fmt.Errorf("flavorsync.xsd has no global element %s or no type %s", element, kind)
	}
	return declaration.ReplaceAll(schema, []byte("${1}"+kind+"${2}")), nil
}

func compileXSD(text []byte) (*xsd.Schema, error) {
	ctx := context.Background()
	doc, err := helium.NewParser().Parse(ctx, text)
	if err != nil {
		return nil, err
	}
	var problems problems
	schema, err := xsd.NewCompiler().ErrorHandler(&problems).Compile(ctx, doc)
	if err != nil || len(problems) > 0 {
		return nil, errors.Join(err, errors.New(problems.String()))
	}
	return schema, nil
}

// problems collects what helium reports.
type problems []string

func (p *problems) Handle(_ context.Context, err error) {
	*p = append(*p, strings.TrimSpace(err.Error()))
}

func (p problems) String() string { return strings.Join(p, "; ") }

// resolve follows $ref from the pointer at to where it ends.
func (c *compiler) resolve(at string) string {
	for {
		ref, ok := c.object(at)["$ref"].(string)
		if !ok {
			return at
		}
		at = strings.TrimPrefix(ref, "#")
	}
}

// value is what stands at a pointer, nil where nothing does.
func (c *compiler) value(at string) any {
	var v any = c.root
	for _, token := range strings.Split(at, "/")[1:] {
		switch node := v.(type) {
		case map[string]any:
			v = node[unescape(token)]
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i >= len(node) {
				return nil
			}
			v = node[i]
		default:
			return nil
		}
	}
	return v
}

func (c *compiler) object(at string) map[string]any {
	o, _ := c.value(at).(map[string]any)
	return o
}

func (c *compiler) list(at string) []any {
	l, _ := c.value(at).([]any)
	return l
}

func escape(token string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(token)
}

func unescape(token string) string {
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
}

func segments(path string) []string { return strings.Split(strings.Trim(path, "/"), "/") }
