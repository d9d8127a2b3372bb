package contract_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A document is a body before it has a format: an envelope and fields in order.
type document struct {
	envelope string // "flavor", "infrastructure", "product" or "match"
	fields   []field
}

type field struct {
	name  string
	value any // string, int, float64, bool, []string (nodes) or map[string]string (extra_specs)
}

// flavorOf makes the document of a flavor from names and values in turn.
func flavorOf(pairs ...any) *document { return documentOf("flavor", pairs) }

func documentOf(envelope string, pairs []any) *document {
	d := &document{envelope: envelope}
	for i := 0; i+1 < len(pairs); i += 2 {
		d.fields = append(d.fields, field{pairs[i].(string), pairs[i+1]})
	}
	return d
}

// and is the document with one field more, or another value for it.
func (d *document) and(name string, value any) *document {
	more := &document{envelope: d.envelope, fields: slices.Clone(d.fields)}
	for i := range more.fields {
		if more.fields[i].name == name {
			more.fields[i].value = value
			return more
		}
	}
	more.fields = append(more.fields, field{name, value})
	return more
}

// no is the document without a field.
func (d *document) no(name string) *document {
	return &document{d.envelope, slices.DeleteFunc(slices.Clone(d.fields), func(f field) bool { return f.name == name })}
}

// sized is the document of a flavor with that name and usual sizes.
func sized(name string) *document {
	return flavorOf("name", name, "vcpus", 2, "ram", 2048, "disk", 20, "swap", 512)
}

// A format is one of the two languages of the API.
type format struct {
	name, mediaType string
	encode          func(d *document, bare bool) []byte
}

var (
	asJSON  = format{"JSON", "application/json", encodeJSON}
	asXML   = format{"XML", "application/xml", encodeXML}
	formats = []format{asJSON, asXML}
)

func encodeJSON(d *document, bare bool) []byte {
	fields := make(map[string]any)
	for _, f := range d.fields {
		fields[f.name] = f.value
	}
	var value any = fields
	if !bare {
		value = map[string]any{d.envelope: fields}
	}
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}

// xmlOrder is the order of a flavor's children.
var xmlOrder = []string{"name", "vcpus", "ram", "disk", "swap", "promoted", "public", "nodes", "node"}

// encodeXML ignores bare where the document has one root anyway: a bare XML
// body of several fields would be no document.
func encodeXML(d *document, _ bool) []byte {
	fields := slices.Clone(d.fields)
	rank := func(f field) int {
		if i := slices.Index(xmlOrder, f.name); i >= 0 {
			return i
		}
		return len(xmlOrder)
	}
	slices.SortStableFunc(fields, func(a, b field) int { return rank(a) - rank(b) })
	var b bytes.Buffer
	b.WriteString(xml.Header)
	b.WriteString("<" + d.envelope)
	for _, f := range fields {
		if f.name == "id" {
			fmt.Fprintf(&b, " id=%q", escapeXML(fmt.Sprint(f.value)))
		}
	}
	b.WriteString(">")
	for _, f := range fields {
		switch value := f.value.(type) {
		case []string:
			for _, item := range value {
				fmt.Fprintf(&b, "<node>%s</node>", escapeXML(item))
			}
		case map[string]string:
			fmt.Fprintf(&b, "<%s>", f.name)
			for key, spec := range value {
				fmt.Fprintf(&b, `<spec key="%s">%s</spec>`, escapeXML(key), escapeXML(spec))
			}
			fmt.Fprintf(&b, "</%s>", f.name)
		default:
			if f.name != "id" {
				fmt.Fprintf(&b, "<%s>%s</%s>", f.name, escapeXML(fmt.Sprint(value)), f.name)
			}
		}
	}
	b.WriteString("</" + d.envelope + ">")
	return b.Bytes()
}

func escapeXML(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text))
	return b.String()
}

// flavorBody is a flavor as the API shows it; nil is an optional field that is
// absent.
type flavorBody struct {
	ID, Name               string
	VCPUs, RAM, Disk, Swap int
	Promoted, Public       bool
	Nodes                  []string
	Description            *string
	Ephemeral              *int
	RxTxFactor             *float64
	ExtraSpecs             map[string]string
	Retired                *bool
	Accelerators           []acceleratorBody
}

// requiredKeys are the keys every flavor has, in this order.
var requiredKeys = []string{"id", "name", "vcpus", "ram", "disk", "swap", "promoted", "public", "nodes"}

var optionalKeys = []string{"description", "ephemeral", "rxtx_factor", "extra_specs", "retired", "accelerators"}

// checkKeys: exactly the required keys in their order, then optional ones.
func checkKeys(keys []string) error {
	if len(keys) < len(requiredKeys) || !slices.Equal(keys[:len(requiredKeys)], requiredKeys) {
		return fmt.Errorf("the keys are %v, not %v and then the optional ones", keys, requiredKeys)
	}
	for i, key := range keys[len(requiredKeys):] {
		if !slices.Contains(optionalKeys, key) || slices.Contains(keys[:len(requiredKeys)+i], key) {
			return fmt.Errorf("the key %s is none of the optional ones, or there twice", key)
		}
	}
	return nil
}

func decodeFlavor(body []byte, isXML bool) (flavorBody, error) {
	if isXML {
		var f xmlFlavor
		if err := decodeXML(body, &f); err != nil {
			return flavorBody{}, err
		}
		if f.XMLName.Local != "flavor" || f.XMLName.Space != "" {
			return flavorBody{}, fmt.Errorf("the root is %v", f.XMLName)
		}
		return f.flavor()
	}
	var envelope struct{ Flavor json.RawMessage }
	if err := decodeStrict(body, &envelope); err != nil {
		return flavorBody{}, err
	}
	return decodeJSONFlavor(envelope.Flavor)
}

func decodeFlavors(body []byte, isXML bool) ([]flavorBody, error) {
	var all []flavorBody
	if isXML {
		var list struct {
			XMLName xml.Name
			Flavors []xmlFlavor                  `xml:"flavor"`
			Rest    []struct{ XMLName xml.Name } `xml:",any"`
		}
		if err := decodeXML(body, &list); err != nil {
			return nil, err
		}
		if list.XMLName.Local != "flavors" || len(list.Rest) > 0 {
			return nil, fmt.Errorf("the root is %v, with other elements %v", list.XMLName, list.Rest)
		}
		for _, f := range list.Flavors {
			one, err := f.flavor()
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
		return all, nil
	}
	var list struct{ Flavors *[]json.RawMessage }
	if err := decodeStrict(body, &list); err != nil {
		return nil, err
	}
	if list.Flavors == nil {
		return nil, errors.New(`there is no list under "flavors"`)
	}
	for _, one := range *list.Flavors {
		f, err := decodeJSONFlavor(one)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func decodeStrict(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

func decodeJSONFlavor(text json.RawMessage) (flavorBody, error) {
	keys, err := keysOf(text)
	if err != nil {
		return flavorBody{}, err
	}
	if err := checkKeys(keys); err != nil {
		return flavorBody{}, err
	}
	var f struct {
		ID          string            `json:"id"`
		Name        string            `json:"name"`
		VCPUs       int               `json:"vcpus"`
		RAM         int               `json:"ram"`
		Disk        int               `json:"disk"`
		Swap        int               `json:"swap"`
		Promoted    bool              `json:"promoted"`
		Public      bool              `json:"public"`
		Nodes       *[]string         `json:"nodes"`
		Description *string           `json:"description"`
		Ephemeral   *int              `json:"ephemeral"`
		RxTxFactor  *float64          `json:"rxtx_factor"`
		ExtraSpecs  map[string]string `json:"extra_specs"`
		Retired     *bool             `json:"retired"`

		Accelerators []acceleratorBody `json:"accelerators"`
	}
	if err := decodeStrict(text, &f); err != nil {
		return flavorBody{}, err
	}
	if f.Nodes == nil {
		return flavorBody{}, errors.New("nodes is null, not a list")
	}
	return flavorBody{f.ID, f.Name, f.VCPUs, f.RAM, f.Disk, f.Swap, f.Promoted, f.Public, *f.Nodes,
		f.Description, f.Ephemeral, f.RxTxFactor, f.ExtraSpecs, f.Retired, f.Accelerators}, nil
}

// keysOf are the keys of a JSON object, in their order.
func keysOf(text json.RawMessage) ([]string, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, fmt.Errorf("not an object: %.60s", text)
	}
	var keys []string
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		keys = append(keys, key.(string))
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func decodeXML(body []byte, into any) error {
	decoder := xml.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the document")
	}
	return nil
}

// xmlFlavor keeps the children in their order.
type xmlFlavor struct {
	XMLName  xml.Name
	ID       string     `xml:"id,attr"`
	Children []xmlChild `xml:",any"`
}

type xmlChild struct {
	XMLName xml.Name
	Text    string `xml:",chardata"`
	Specs   []struct {
		Key  string `xml:"key,attr"`
		Text string `xml:",chardata"`
	} `xml:"spec"`
	Accelerators []acceleratorBody `xml:"accelerator"`
}

func (x xmlFlavor) flavor() (flavorBody, error) {
	f := flavorBody{ID: x.ID, Nodes: []string{}}
	keys := []string{"id"}
	for _, child := range x.Children {
		key := child.XMLName.Local
		if child.XMLName.Space != "" {
			return f, fmt.Errorf("<%s> has the namespace %s", key, child.XMLName.Space)
		}
		var err error
		switch key {
		case "name":
			f.Name = child.Text
		case "vcpus":
			f.VCPUs, err = strconv.Atoi(child.Text)
		case "ram":
			f.RAM, err = strconv.Atoi(child.Text)
		case "disk":
			f.Disk, err = strconv.Atoi(child.Text)
		case "swap":
			f.Swap, err = strconv.Atoi(child.Text)
		case "promoted":
			f.Promoted, err = strconv.ParseBool(child.Text)
		case "public":
			f.Public, err = strconv.ParseBool(child.Text)
		case "node":
			f.Nodes = append(f.Nodes, child.Text)
			continue
		case "description":
			f.Description = &child.Text
		case "ephemeral":
			var n int
			n, err = strconv.Atoi(child.Text)
			f.Ephemeral = &n
		case "rxtx_factor":
			var n float64
			n, err = strconv.ParseFloat(child.Text, 64)
			f.RxTxFactor = &n
		case "extra_specs":
			f.ExtraSpecs = make(map[string]string)
			for _, spec := range child.Specs {
				f.ExtraSpecs[spec.Key] = spec.Text
			}
		case "retired":
			var b bool
			b, err = strconv.ParseBool(child.Text)
			f.Retired = &b
		case "accelerators":
			f.Accelerators = child.Accelerators
		}
		if err != nil {
			return f, fmt.Errorf("<%s>: %w", key, err)
		}
		keys = append(keys, key)
	}
	return f, checkKeys(slices.Insert(keys, min(len(keys), len(requiredKeys)-1), "nodes"))
}

// infrastructureBody is an infrastructure as a GET shows it.
type infrastructureBody struct {
	ID                        string      `json:"id" xml:"id,attr"`
	Name                      string      `json:"name" xml:"name"`
	KeystoneURL               string      `json:"keystone_url" xml:"keystone_url"`
	NovaURL                   string      `json:"nova_url" xml:"nova_url"`
	Username                  string      `json:"username" xml:"username"`
	Tenant                    string      `json:"tenant" xml:"tenant"`
	UserDomain                string      `json:"user_domain_name" xml:"user_domain_name"`
	ProjectDomain             string      `json:"project_domain_name" xml:"project_domain_name"`
	AuthType                  string      `json:"auth_type" xml:"auth_type"`
	ApplicationCredentialID   string      `json:"application_credential_id" xml:"application_credential_id"`
	ApplicationCredentialName string      `json:"application_credential_name" xml:"application_credential_name"`
	IdentityProvider          string      `json:"identity_provider" xml:"identity_provider"`
	Protocol                  string      `json:"protocol" xml:"protocol"`
	CACertificate             string      `json:"ca_certificate" xml:"ca_certificate"`
	Trusted                   bool        `json:"trusted" xml:"trusted"`
	Status                    *statusBody `json:"status" xml:"status"`
}

type statusBody struct {
	State     string `json:"state" xml:"state"`
	LastError string `json:"last_error" xml:"last_error"`
	CheckedAt string `json:"checked_at" xml:"checked_at"`
}

// infrastructureOf makes the document of an infrastructure from names and
// values in turn.
func infrastructureOf(pairs ...any) *document { return documentOf("infrastructure", pairs) }

// bodies: both formats, both ways.
func bodies(t *testing.T, s *setup) {
	manager := s.product.as(s.manager)

	t.Run("a flavor in JSON has exactly the documented keys in their order and optional ones only where they say something", func(t *testing.T) {
		n := unique()
		a := manager.post(t, "/promotedflavors", sized(n("plain"))).want(t, 201)
		f := a.flavor(t) // checks the keys and their order
		if f.Description != nil || f.Ephemeral != nil || f.RxTxFactor != nil || f.ExtraSpecs != nil || f.Retired != nil {
			t.Errorf("optional fields that say nothing are there: %s", a)
		}
		want := fmt.Sprintf(`{"flavor":{"id":%q,"name":%q,"vcpus":2,"ram":2048,"disk":20,"swap":512,"promoted":true,"public":true,"nodes":[]}}`, f.ID, f.Name)
		var compact bytes.Buffer
		if err := json.Compact(&compact, a.body); err != nil || compact.String() != want {
			t.Errorf("the body is %s, not %s", compact.String(), want)
		}
	})

	t.Run("a flavor in XML has its id as attribute and the children in the documented order", func(t *testing.T) {
		n := unique()
		a := manager.post(t, "/promotedflavors", sized(n("plain")), in(asXML)).want(t, 201)
		f := a.flavor(t)
		if !bytes.HasPrefix(a.body, []byte(`<?xml version="1.0" encoding="UTF-8"?>`)) {
			t.Errorf("there is no XML declaration: %s", a)
		}
		want := fmt.Sprintf(`<flavor id=%q><name>%s</name><vcpus>2</vcpus><ram>2048</ram><disk>20</disk><swap>512</swap>`+
			`<promoted>true</promoted><public>true</public></flavor>`, f.ID, f.Name)
		if got := squeeze(a.body); got != want {
			t.Errorf("the body is %s, not %s", got, want)
		}
	})

	t.Run("one node element for each node", func(t *testing.T) {
		n := s.names(t)
		f := manager.post(t, "/promotedflavors", sized(n("everywhere"))).want(t, 201).flavor(t)
		manager.put(t, "/flavors/"+f.ID, flavorOf("nodes", []string{spain2, trento})).want(t, 200)
		a := manager.get(t, "/flavors/"+f.ID, in(asXML)).want(t, 200)
		if !strings.Contains(squeeze(a.body), "<public>true</public><node>Spain2</node><node>Trento</node></flavor>") {
			t.Errorf("the nodes are not one element each: %s", a)
		}
	})

	for _, f := range formats {
		t.Run("the optional fields go in and out in "+f.name, func(t *testing.T) {
			n := unique()
			sent := sized(n("full")).and("description", "für alle & <jeden>").and("ephemeral", 7).and("rxtx_factor", 1.5).
				and("extra_specs", map[string]string{"hw:cpu_policy": "dedicated", "trait a": "<&\"'>", "empty": ""})
			created := manager.post(t, "/promotedflavors", sent, in(f)).want(t, 201).flavor(t)
			for _, out := range formats {
				got := manager.get(t, "/promotedflavors/"+created.ID, in(out)).want(t, 200).flavor(t)
				if got.Description == nil || *got.Description != "für alle & <jeden>" || got.Ephemeral == nil || *got.Ephemeral != 7 ||
					got.RxTxFactor == nil || *got.RxTxFactor != 1.5 || len(got.ExtraSpecs) != 3 ||
					got.ExtraSpecs["trait a"] != "<&\"'>" || got.ExtraSpecs["hw:cpu_policy"] != "dedicated" {
					t.Errorf("in %s the optional fields are not those sent: %+v", out.name, got)
				}
			}
		})

		t.Run("any text a name may have survives in "+f.name, func(t *testing.T) {
			n := unique()
			for _, word := range []string{"a/b?c#d%e;f", "小型", "a  b", `<&>"'`, "ümläut", "é́"} {
				created := manager.post(t, "/promotedflavors", sized(n(word)), in(f)).want(t, 201).flavor(t)
				if created.Name != n(word) {
					t.Errorf("%q became %q", n(word), created.Name)
				}
				if got := manager.get(t, "/promotedflavors/"+created.ID, in(f)).want(t, 200).flavor(t); got.Name != n(word) {
					t.Errorf("%q is read as %q", n(word), got.Name)
				}
			}
		})

		t.Run("a list in "+f.name+" holds what single GETs show", func(t *testing.T) {
			n := unique()
			first := manager.post(t, "/promotedflavors", sized(n("a"))).want(t, 201).flavor(t)
			list := manager.get(t, "/promotedflavors", in(f)).want(t, 200).flavors(t)
			if got, ok := find(list, first.ID, ""); !ok || got.Name != first.Name || got.RAM != first.RAM {
				t.Errorf("the list does not hold %+v", first)
			}
		})

		t.Run("what was read can be posted back in "+f.name, func(t *testing.T) {
			n := unique()
			created := manager.post(t, "/promotedflavors", sized(n("read"))).want(t, 201).flavor(t)
			sent := sized(n("posted back")).and("id", created.ID).and("promoted", false).and("public", false).and("nodes", []string{trento})
			posted := manager.post(t, "/promotedflavors", sent, in(f)).want(t, 201).flavor(t)
			if !posted.Promoted || !posted.Public || len(posted.Nodes) != 0 {
				t.Errorf("promoted, public and nodes of a POST are not the caller's to decide: %+v", posted)
			}
			if posted.ID == created.ID {
				t.Errorf("the id %s was taken and was given again", created.ID)
			}
		})

		t.Run("what was read can be put back in "+f.name, func(t *testing.T) {
			n := unique()
			created := manager.post(t, "/promotedflavors", sized(n("same"))).want(t, 201).flavor(t)
			sent := sized(n("same")).and("id", created.ID).and("promoted", true).and("public", true)
			if f.name == "JSON" {
				sent = sent.and("nodes", []string{})
			}
			again := manager.put(t, "/promotedflavors/"+created.ID, sent, in(f)).want(t, 200).flavor(t)
			if again.ID != created.ID || again.Name != created.Name {
				t.Errorf("an unchanged PUT changed %+v into %+v", created, again)
			}
			manager.put(t, "/flavors/"+created.ID, sent, in(f)).want(t, 200)
		})

		t.Run("errors have their shape in "+f.name, func(t *testing.T) {
			a := manager.get(t, "/promotedflavors/"+newUUID(), in(f)).want(t, 404)
			if a.isXML(t) != (f.name == "XML") {
				t.Errorf("the error is not in %s: %s", f.name, a)
			}
			if a.failure(t).Message == "" {
				t.Errorf("the error has no message: %s", a)
			}
		})
	}

	t.Run("a body without its envelope is taken", func(t *testing.T) {
		n := s.names(t)
		f := manager.post(t, "/promotedflavors", sized(n("bare")), withoutEnvelope).want(t, 201).flavor(t)
		manager.put(t, "/flavors/"+f.ID, nil, raw("application/json", `{"node": "Trento"}`)).want(t, 200)
		if got := manager.get(t, "/flavors/"+f.ID).want(t, 200).flavor(t); !slices.Equal(got.Nodes, []string{trento}) {
			t.Errorf("the widget's {\"node\": \"Trento\"} did not install: %+v", got)
		}
	})

	t.Run("the id of a POST is kept if it is a UUID and free", func(t *testing.T) {
		n, id := unique(), newUUID()
		if f := manager.post(t, "/promotedflavors", sized(n("kept")).and("id", id)).want(t, 201).flavor(t); f.ID != id {
			t.Errorf("the free id %s became %s", id, f.ID)
		}
	})

	for what, id := range map[string]string{"is not a UUID": "1", "is in capitals": strings.ToUpper(newUUID()), "is empty": ""} {
		t.Run("the id of a POST that "+what+" is replaced", func(t *testing.T) {
			n := unique()
			f := manager.post(t, "/promotedflavors", sized(n("replaced")).and("id", id)).want(t, 201).flavor(t)
			if f.ID == id || len(f.ID) != 36 {
				t.Errorf("the id %q became %q, not a new UUID", id, f.ID)
			}
		})
	}
}

// squeeze is an XML document without its declaration and without the white
// space between its elements.
func squeeze(body []byte) string {
	text := strings.TrimSpace(strings.TrimPrefix(string(body), `<?xml version="1.0" encoding="UTF-8"?>`))
	var b strings.Builder
	for i, part := range strings.Split(text, ">") {
		if i > 0 {
			b.WriteByte('>')
		}
		if trimmed := strings.TrimSpace(part); strings.HasPrefix(trimmed, "<") || trimmed == "" {
			part = trimmed
		}
		b.WriteString(part)
	}
	return b.String()
}

// compactJSON is JSON without white space.
func compactJSON(text []byte) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return text
	}
	return b.Bytes()
}
