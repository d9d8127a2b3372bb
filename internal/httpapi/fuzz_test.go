package httpapi

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
)

// bodies are the three kinds of body that are read into fields.
type bodies struct {
	Flavor           flavor.Patch
	Infrastructure   flavor.RegionPatch
	InfrastructureID *string
	Product          flavor.ProductPatch
}

func (b *bodies) documents() []document {
	return []document{flavorDocument(&b.Flavor), infrastructureDocument(&b.Infrastructure, &b.InfrastructureID), productDocument(&b.Product)}
}

// said is what a field holds, nil for nothing.
func said(into any) any {
	switch into := into.(type) {
	case **string:
		if *into != nil {
			return **into
		}
	case **flavor.Secret:
		if *into != nil {
			return string(**into)
		}
	case **int:
		if *into != nil {
			return **into
		}
	case **float64:
		if *into != nil {
			return **into
		}
	case **bool:
		if *into != nil {
			return **into
		}
	case **map[string]string:
		if *into != nil {
			return **into
		}
	case severalNodes:
		if *into.nodes != nil {
			return **into.nodes
		}
	}
	return nil
}

// asClients writes what d's fields hold as a client would. What can only be read,
// a list of accelerators and a status, comes from accelerators.
func asClients(as format, d document, accelerators *[]flavor.Accelerator) []byte {
	members := map[string]any{}
	for _, f := range d.fields {
		if value := said(f.into); value != nil {
			members[f.name] = value
		}
	}
	if as == asJSON {
		if accelerators != nil {
			list := []any{}
			for _, a := range *accelerators {
				list = append(list, map[string]any{"number": a.Number, "vendor": a.Vendor, "model": a.Model, "memory": a.Memory, "type": a.Type})
			}
			members["accelerators"] = list
		}
		b, err := json.Marshal(map[string]any{d.envelope: members})
		if err != nil {
			panic(err)
		}
		return b
	}
	b := append([]byte("<"), d.envelope...)
	if id, ok := members["id"].(string); ok {
		b = append(appendXMLText(append(b, ` id="`...), id), '"')
	}
	b = append(b, '>')
	for _, f := range d.fields {
		switch value := members[f.name].(type) {
		case nil:
		case []string:
			for _, node := range value {
				b = appendElement(b, "node", node)
			}
		case map[string]string:
			b = append(b, "<extra_specs>"...)
			for key, value := range value {
				b = append(appendXMLText(append(appendXMLText(append(b, `<spec key="`...), key), `">`...), value), "</spec>"...)
			}
			b = append(b, "</extra_specs>"...)
		default:
			if !f.attribute {
				b = appendElement(b, f.name, fmt.Sprint(value))
			}
		}
	}
	if accelerators != nil {
		b = append(b, "<accelerators>"...)
		for _, a := range *accelerators {
			b = fmt.Appendf(b, "<accelerator><number>%d</number><memory>%d</memory>", a.Number, a.Memory)
			b = appendElement(appendElement(appendElement(b, "vendor", a.Vendor), "model", a.Model), "type", a.Type)
			b = append(b, "</accelerator>"...)
		}
		b = append(b, "</accelerators>"...)
	}
	return append(append(append(b, "</"...), d.envelope...), '>')
}

// invalid fails unless err is the client's own fault, told in UTF-8.
func invalid(t *testing.T, err error) {
	t.Helper()
	if e, ok := errors.AsType[*flavor.Error](err); !ok || e.Code != flavor.CodeInvalid || e.Message == "" {
		t.Fatalf("%v", err)
	}
}

// FuzzBodyJSON: no body may panic, and what is accepted says the same when it is
// written anew.
func FuzzBodyJSON(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		for i := range new(bodies).documents() {
			var first, second bodies
			d := first.documents()[i]
			if err := decodeJSON(body, d); err != nil {
				invalid(t, err)
				continue
			}
			again := asClients(asJSON, d, first.Flavor.Accelerators)
			if err := decodeJSON(again, second.documents()[i]); err != nil {
				t.Fatalf("%s: %v", again, err)
			}
			if diff := cmp.Diff(first, second); diff != "" {
				t.Fatalf("%s: %s", again, diff)
			}
		}
	})
}

// FuzzBodyXML is FuzzBodyJSON for XML. What is accepted must be well-formed to
// encoding/xml too, and says the same in JSON.
func FuzzBodyXML(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		for i := range new(bodies).documents() {
			var first, second, third bodies
			d := first.documents()[i]
			if err := decodeXML(body, d); err != nil {
				invalid(t, err)
				continue
			}
			again := asClients(asXML, d, first.Flavor.Accelerators)
			if err := decodeXML(again, second.documents()[i]); err != nil {
				t.Fatalf("%s: %v", again, err)
			}
			if err := xml.NewDecoder(bytes.NewReader(again)).Decode(new(struct{})); err != nil {
				t.Fatalf("%s: %v", again, err)
			}
			if err := decodeJSON(asClients(asJSON, d, first.Flavor.Accelerators), third.documents()[i]); err != nil {
				t.Fatalf("%s: %v", again, err)
			}
			for _, other := range []bodies{second, third} {
				if diff := cmp.Diff(first, other); diff != "" {
					t.Fatalf("%s: %s", again, diff)
				}
			}
		}
	})
}

// carried is text as an answer can carry it.
func carried(as format, text string) string {
	return strings.Map(func(r rune) rune {
		if as != asJSON && (r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF) {
			return utf8.RuneError
		}
		return r
	}, string([]rune(text)))
}

// FuzzAnswers: whatever a Nova, an identity provider or a database gives us, the
// answer is well-formed, and what a client reads out of it and sends back is the
// same again.
func FuzzAnswers(f *testing.F) {
	f.Fuzz(func(t *testing.T, id, name, more, key, value string, number int, factor float64, yes, no bool) {
		if !(factor >= 0 && factor < 1e300) {
			factor = 1
		}
		fl := flavor.Flavor{
			ID: id, Promoted: yes, Public: no, Retired: yes, Nodes: []string{name, value},
			Spec: flavor.Spec{Name: name, Description: more, VCPUs: number, RAM: number, Disk: number, Swap: number, Ephemeral: number, RxTxFactor: factor, ExtraSpecs: map[string]string{key: value, "k": more}},
		}
		region := flavor.Region{
			Name: name, KeystoneURL: id, NovaURL: more, Username: key, Password: "hidden", Tenant: value, UserDomain: id, ProjectDomain: more, Trusted: yes,
			Status: flavor.RegionStatus{State: flavor.RegionState(key), LastError: more, CheckedAt: time.Unix(int64(number), 0)},
		}
		offer := flavor.Offer{
			FlavorID: id, Name: name, Category: key, Price: flavor.Amount(max(number, 0)), Currency: value, Period: flavor.Period(more), Free: yes, Hidden: no, Retired: no, ByFormula: yes,
			VCPUs: number, RAM: number, GPUs: number, CPUModel: key, MemoryModel: value, GPUModel: more, Description: id,
		}
		failure := &flavor.Error{Code: flavor.CodeConflict, Message: more, Nodes: []flavor.NodeError{{Node: name, Err: &flavor.Error{Code: flavor.CodeInvalid, Message: value}}}}
		who := flavor.Principal{ID: id, Name: name, Provider: key, Roles: []string{value, more}, Regions: []string{name}}
		for _, as := range []format{asJSON, asXML} {
			for _, answer := range [][]byte{
				encodeFlavor(as, &fl), encodeFlavors(as, []flavor.Flavor{fl, fl}), encodeInfrastructure(as, &region), encodeInfrastructures(as, []flavor.Region{region, region}),
				encodeProduct(as, &offer), encodeProducts(as, []flavor.Offer{offer, offer}), encodeRegions(as, []string{name, id}), encodeInfrastructureName(as, name),
				encodeWhoami(as, &who), encodeError(as, failure),
			} {
				wellFormed(t, as, answer)
			}
			var got bodies
			for i, answer := range [][]byte{encodeFlavor(as, &fl), encodeInfrastructure(as, &region), encodeProduct(as, &offer)} {
				decode := decodeJSON
				if as == asXML {
					decode = decodeXML
				}
				// Texts that become one when they are carried make one key, or one node.
				if err := decode(answer, got.documents()[i]); err != nil && carried(as, key) != "k" && strings.Contains(err.Error(), "twice") {
					return
				} else if err != nil {
					t.Fatalf("%s: %v", answer, err)
				}
			}
			c := func(text string) string { return carried(as, text) }
			if p := got.Flavor; *p.ID != c(id) || *p.Name != c(name) || *p.VCPUs != number || *p.Promoted != yes || *p.Public != no || deref(p.Description) != c(more) ||
				(*p.Nodes)[0] != c(name) || c(key) != "k" && (*p.ExtraSpecs)[c(key)] != c(value) || saysFactor(&fl) && *p.RxTxFactor != factor {
				t.Fatalf("%s became %+v", encodeFlavor(as, &fl), p)
			}
			if p := got.Infrastructure; *p.Name != c(name) || *p.KeystoneURL != c(id) || deref(p.NovaURL) != c(more) || *p.Username != c(key) || *p.Tenant != c(value) || *p.Trusted != yes || p.Password != nil {
				t.Fatalf("%s became %+v", encodeInfrastructure(as, &region), p)
			}
			if p := got.Product; *p.ID != c(id) || *p.Price != offer.Price.String() || *p.Category != c(key) || *p.Currency != c(value) || *p.Free != yes || deref(p.Description) != c(id) {
				t.Fatalf("%s became %+v", encodeProduct(as, &offer), p)
			}
		}
	})
}

func deref(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func wellFormed(t *testing.T, as format, answer []byte) {
	t.Helper()
	if as == asJSON {
		if !jsontext.Value(answer).IsValid() {
			t.Fatalf("no JSON: %s", answer)
		}
		return
	}
	d := xml.NewDecoder(bytes.NewReader(answer))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", answer, err)
		}
	}
}

// fuzzed is a call with this target and these headers.
func fuzzed(target *url.URL, header http.Header) *call {
	r := httptest.NewRequest(http.MethodGet, "/v1/flavors", nil)
	r.URL, r.Header = target, header
	return &call{Context: echo.New().NewContext(r, httptest.NewRecorder())}
}

// FuzzMatchBody: what is asked to be matched comes in three formats, from anybody.
func FuzzMatchBody(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, mediaType := range []string{"application/json", "application/xml", "application/x-yaml"} {
			k := fuzzed(&url.URL{Path: "/v1/match"}, http.Header{"Content-Type": {mediaType}})
			k.Request().Body = io.NopCloser(bytes.NewReader(body))
			tree, err := k.matchTree()
			var m matching
			if err == nil {
				m, err = readMatching(tree)
			}
			if err != nil {
				if flavor.CodeOf(err) != flavor.CodeTooLarge {
					invalid(t, err)
				}
				continue
			}
			if len(m.nodes)*m.limit > maxAnswers && m.template || m.limit < 0 || len(m.nodes) == 0 && !m.template {
				t.Errorf("%s is taken for %+v", body, m)
			}
			for _, region := range m.regions {
				if !flavor.ValidRegionName(region) {
					t.Errorf("there is a region %q", region)
				}
			}
			for _, n := range m.nodes {
				if n.Err != nil && known(n.Err).Message == "" {
					t.Errorf("%s does not say why", n.Name)
				}
			}
		}
	})
}

// FuzzQuery: a token in the query never stays in it, and what the query says
// twice or in a wrong way is 400.
func FuzzQuery(f *testing.F) {
	all := []flavor.Flavor{{ID: "1", Spec: flavor.Spec{Name: "a"}, Public: true}, {ID: "2", Spec: flavor.Spec{Name: "b"}, Nodes: []string{"R"}}, {ID: "3", Spec: flavor.Spec{Name: "c"}, Public: true}}
	f.Fuzz(func(t *testing.T, raw string) {
		k := fuzzed(&url.URL{Path: "/v1/flavors", RawQuery: raw}, http.Header{})
		k.takeQuery()
		for _, left := range []string{k.Request().URL.RawQuery, strings.TrimPrefix(k.Request().RequestURI, "/v1/flavors?"), k.query.Encode()} {
			for piece := range strings.SplitSeq(left, "&") {
				name, _, _ := strings.Cut(piece, "=")
				if name, err := url.QueryUnescape(name); err == nil && strings.EqualFold(name, "access_token") {
					t.Fatalf("%q keeps its token: %q", raw, left)
				}
			}
		}
		page, err := k.page(all)
		link := k.Response().Header().Get("Link")
		switch {
		case err != nil:
			invalid(t, err)
		case len(page) > len(all), link != "" && len(page) == len(all):
			t.Errorf("%q is given %d of %d, and %q", raw, len(page), len(all), link)
		case strings.ContainsAny(link, "\r\n\x00 ") && !strings.HasSuffix(link, `>; rel="next"`):
			t.Errorf("%q has the link %q", raw, link)
		}
		for _, err := range []error{
			second(k.filter("public")), second(k.filter("promoted")), second(k.flag("force")), second(k.byGPU(all)),
		} {
			if err != nil {
				invalid(t, err)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

// FuzzMarker: markers are opaque, ours are read back, and there is one for each.
func FuzzMarker(f *testing.F) {
	f.Fuzz(func(t *testing.T, marker, id, name, node string, public bool) {
		if last, err := parseMarker(marker); err != nil {
			invalid(t, err)
		} else if again := markerOf(last); again != marker {
			t.Errorf("%q is %q too", marker, again)
		}
		given := flavor.Flavor{ID: id, Spec: flavor.Spec{Name: name}, Public: public}
		if node != "" {
			given.Nodes = []string{node}
		}
		if text := id + name + node; strings.Contains(text, "\x00") || !utf8.ValidString(id+"\x00"+name+"\x00"+node) {
			return // no flavor has such names
		}
		if last, err := parseMarker(markerOf(given)); err != nil || cmp.Diff(last, given) != "" {
			t.Errorf("%+v became %+v, %v", given, last, err)
		}
	})
}

// FuzzAccept: a header in two parts says what it says in one, and what is not
// accepted at all is not chosen before what is.
func FuzzAccept(f *testing.F) {
	f.Fuzz(func(t *testing.T, a, b string) {
		chosen := negotiate([]string{a, b})
		if whole := negotiate([]string{a + "," + b}); whole != chosen || chosen < 0 || chosen >= formats {
			t.Errorf("%q and %q: %d, in one %d", a, b, chosen, whole)
		}
		if yaml := prefersYAML([]string{a, b}); yaml != prefersYAML([]string{a + "," + b}) || yaml && !strings.Contains(strings.ToLower(a+b), "yaml") &&
			!strings.Contains(a+b, "text/*") && !strings.Contains(strings.ToLower(a+b), "text/*") {
			t.Errorf("%q and %q: YAML %t", a, b, yaml)
		}
		if negotiate([]string{"application/xml;q=0", "text/xml;q=0", a}) != asJSON && !strings.Contains(strings.ToLower(a), "xml") {
			t.Errorf("%q brings XML that is refused", a)
		}
	})
}

// FuzzConditions: entity tags, whoever wrote them.
func FuzzConditions(f *testing.F) {
	tag := settingsTag([]byte("body"), []byte("settings"))
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, strong := range []bool{false, true} {
			if matches([]string{a, b}, tag, strong) != matches([]string{a + "," + b}, tag, strong) {
				t.Errorf("%q and %q are not %q in one", a, b, a+","+b)
			}
			if !matches([]string{a, tag, b}, tag, strong) || !matches([]string{a, "*", b}, tag, strong) {
				t.Errorf("%q and %q hide the tag", a, b)
			}
		}
		if matches([]string{"W/" + tag}, tag, true) {
			t.Error("a weak tag matches strongly")
		}
		if matches([]string{a, b}, tag, true) && !strings.Contains(a+b, "*") && !strings.Contains(a+b, changeable(tag)) {
			t.Errorf("%q and %q are taken for the tag", a, b)
		}
	})
}

// FuzzCredentials: whatever stands where a credential may, none is taken that no
// provider could be shown, none is left out of what must not be told, and no
// error tells one.
func FuzzCredentials(f *testing.F) {
	f.Fuzz(func(t *testing.T, token, authorization, user, password, keystone, query string) {
		h := http.Header{}
		for name, value := range map[string]string{"X-Auth-Token": token, "Authorization": authorization, "User": user, "Password": password, "X-Auth-Token-Keystone": keystone} {
			if value != "" {
				h[name] = []string{value}
			}
		}
		k := fuzzed(&url.URL{Path: "/v1/flavors", RawQuery: query}, h)
		k.takeQuery()
		if err := k.takeCredential(); err != nil {
			if flavor.CodeOf(err) != flavor.CodeUnauthorized {
				t.Fatal(err)
			}
			for _, secret := range []string{token, password, keystone} {
				if len(secret) > 8 && strings.Contains(err.Error(), secret) {
					t.Errorf("%q is told: %v", secret, err)
				}
			}
			return
		}
		secrets := k.secrets()
		switch c := k.cred; {
		case c.Kind == identity.Token && (c.Token == "" || strings.ContainsFunc(string(c.Token), func(r rune) bool { return r <= ' ' || r >= 0x7f })):
			t.Errorf("%q is taken for a token", string(c.Token))
		case c.Kind == identity.Token && !slices.Contains(secrets, string(c.Token)), c.Password != "" && !slices.Contains(secrets, string(c.Password)):
			t.Errorf("%+v is not among what must not be told", h)
		case c.Kind == identity.Basic && (!utf8.ValidString(c.User) || strings.ContainsAny(c.User, "\r\n\x00")):
			t.Errorf("%q is taken for a user", c.User)
		case c.Kind == identity.None && strings.TrimSpace(token) != "":
			t.Errorf("%q is overlooked", token)
		}
	})
}
