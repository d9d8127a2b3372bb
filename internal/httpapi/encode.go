package httpapi

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// The encoders append by hand: the shapes are few and fixed, their order is
// part of the contract, and lists are long.

const xmlDeclaration = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// encodeFlavor is {"flavor": {...}}, or <flavor>.
func encodeFlavor(as format, f *flavor.Flavor) []byte {
	b := make([]byte, 0, 512)
	if as == asJSON {
		b = append(b, `{"flavor": `...)
		return append(appendFlavorJSON(b, f), '}')
	}
	return appendFlavorXML(append(b, xmlDeclaration...), f)
}

// encodeFlavors is {"flavors": [...]}, or <flavors>.
func encodeFlavors(as format, list []flavor.Flavor) []byte {
	return encodeList(as, "flavors", 256, list, appendFlavorJSON, appendFlavorXML)
}

// encodeList is {"name": [...]}, or <name>; each is about how many bytes one of
// list has.
func encodeList[T any](as format, name string, each int, list []T, inJSON, inXML func([]byte, *T) []byte) []byte {
	b := make([]byte, 0, 64+each*len(list))
	if as == asJSON {
		b = append(append(append(b, `{"`...), name...), `": [`...)
		for i := range list {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = inJSON(b, &list[i])
		}
		return append(b, "]}"...)
	}
	b = append(append(append(b, xmlDeclaration...), '<'), name...)
	if len(list) == 0 {
		return append(b, "/>"...)
	}
	b = append(b, '>')
	for i := range list {
		b = inXML(b, &list[i])
	}
	return append(append(append(b, "</"...), name...), '>')
}

func appendFlavorJSON(b []byte, f *flavor.Flavor) []byte {
	b = appendString(append(b, `{"id": `...), f.ID)
	b = appendString(append(b, `, "name": `...), f.Name)
	b = strconv.AppendInt(append(b, `, "vcpus": `...), int64(f.VCPUs), 10)
	b = strconv.AppendInt(append(b, `, "ram": `...), int64(f.RAM), 10)
	b = strconv.AppendInt(append(b, `, "disk": `...), int64(f.Disk), 10)
	b = strconv.AppendInt(append(b, `, "swap": `...), int64(f.Swap), 10)
	b = strconv.AppendBool(append(b, `, "promoted": `...), f.Promoted)
	b = strconv.AppendBool(append(b, `, "public": `...), f.Public)
	b = appendStrings(append(b, `, "nodes": `...), f.Nodes)
	if f.Description != "" {
		b = appendString(append(b, `, "description": `...), f.Description)
	}
	if f.Ephemeral != 0 {
		b = strconv.AppendInt(append(b, `, "ephemeral": `...), int64(f.Ephemeral), 10)
	}
	if saysFactor(f) {
		b = append(append(b, `, "rxtx_factor": `...), flavor.FormatFactor(f.RxTxFactor)...)
	}
	if len(f.ExtraSpecs) > 0 {
		b = append(b, `, "extra_specs": {`...)
		for i, key := range slices.Sorted(maps.Keys(f.ExtraSpecs)) {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(appendString(b, key), ": "...)
			b = appendString(b, f.ExtraSpecs[key])
		}
		b = append(b, '}')
	}
	if f.Retired {
		b = append(b, `, "retired": true`...)
	}
	return append(appendAcceleratorsJSON(b, f.Accelerators()), '}')
}

// saysFactor says whether the factor is another than Nova's default; 0 is a
// flavor that was made without one.
func saysFactor(f *flavor.Flavor) bool { return f.RxTxFactor != 0 && f.RxTxFactor != 1 }

func appendFlavorXML(b []byte, f *flavor.Flavor) []byte {
	b = appendXMLText(append(b, `<flavor id="`...), f.ID)
	b = appendXMLText(append(b, `"><name>`...), f.Name)
	b = strconv.AppendInt(append(b, "</name><vcpus>"...), int64(f.VCPUs), 10)
	b = strconv.AppendInt(append(b, "</vcpus><ram>"...), int64(f.RAM), 10)
	b = strconv.AppendInt(append(b, "</ram><disk>"...), int64(f.Disk), 10)
	b = strconv.AppendInt(append(b, "</disk><swap>"...), int64(f.Swap), 10)
	b = strconv.AppendBool(append(b, "</swap><promoted>"...), f.Promoted)
	b = strconv.AppendBool(append(b, "</promoted><public>"...), f.Public)
	b = append(b, "</public>"...)
	for _, node := range f.Nodes {
		b = appendElement(b, "node", node)
	}
	if f.Description != "" {
		b = appendElement(b, "description", f.Description)
	}
	if f.Ephemeral != 0 {
		b = strconv.AppendInt(append(b, "<ephemeral>"...), int64(f.Ephemeral), 10)
		b = append(b, "</ephemeral>"...)
	}
	if saysFactor(f) {
		b = appendElement(b, "rxtx_factor", flavor.FormatFactor(f.RxTxFactor))
	}
	if len(f.ExtraSpecs) > 0 {
		b = append(b, "<extra_specs>"...)
		for _, key := range slices.Sorted(maps.Keys(f.ExtraSpecs)) {
			b = appendXMLText(append(b, `<spec key="`...), key)
			b = appendXMLText(append(b, `">`...), f.ExtraSpecs[key])
			b = append(b, "</spec>"...)
		}
		b = append(b, "</extra_specs>"...)
	}
	if f.Retired {
		b = append(b, "<retired>true</retired>"...)
	}
	return append(appendAcceleratorsXML(b, f.Accelerators()), "</flavor>"...)
}

// encodeRegions is {"Infrastructures": [{"id", "name"}]}, with the capital that
// flavor-sync 1.0 gave it.
func encodeRegions(as format, names []string) []byte {
	b := make([]byte, 0, 64+64*len(names))
	if as == asJSON {
		b = append(b, `{"Infrastructures": [`...)
		for i, name := range names {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendString(append(b, `{"id": `...), name)
			b = appendString(append(b, `, "name": `...), name)
			b = append(b, '}')
		}
		return append(b, "]}"...)
	}
	b = append(b, xmlDeclaration...)
	if len(names) == 0 {
		return append(b, "<infrastructures/>"...)
	}
	b = append(b, "<infrastructures>"...)
	for _, name := range names {
		b = appendXMLText(append(b, `<infrastructure id="`...), name)
		b = appendElement(append(b, `">`...), "name", name)
		b = append(b, "</infrastructure>"...)
	}
	return append(b, "</infrastructures>"...)
}

// encodeInfrastructureName is the answer to a POST and a PUT: the name alone.
func encodeInfrastructureName(as format, name string) []byte {
	if as == asJSON {
		return append(appendString([]byte(`{"infrastructure": {"name": `), name), "}}"...)
	}
	b := appendElement([]byte(xmlDeclaration+"<infrastructure>"), "name", name)
	return append(b, "</infrastructure>"...)
}

// encodeInfrastructure is {"infrastructure": {...}}, or <infrastructure>. There
// is no password in it.
func encodeInfrastructure(as format, r *flavor.Region) []byte {
	if as == asJSON {
		return append(appendInfrastructureJSON([]byte(`{"infrastructure": `), r), '}')
	}
	return appendInfrastructureXML([]byte(xmlDeclaration), r)
}

// encodeInfrastructures is {"infrastructures": [...]}, or <infrastructures>.
func encodeInfrastructures(as format, list []flavor.Region) []byte {
	b := make([]byte, 0, 64+512*len(list))
	if as == asJSON {
		b = append(b, `{"infrastructures": [`...)
		for i := range list {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendInfrastructureJSON(b, &list[i])
		}
		return append(b, "]}"...)
	}
	b = append(b, xmlDeclaration...)
	if len(list) == 0 {
		return append(b, "<infrastructures/>"...)
	}
	b = append(b, "<infrastructures>"...)
	for i := range list {
		b = appendInfrastructureXML(b, &list[i])
	}
	return append(b, "</infrastructures>"...)
}

// settingsOf are the texts of an infrastructure in their order. Those of the
// service account are there where they say something: an account with a password
// has a user, a project and their domains, and no auth_type.
func settingsOf(r *flavor.Region) [][2]string {
	authType := string(r.AuthType)
	if r.AuthType == flavor.AuthPassword {
		authType = ""
	}
	all := [][2]string{
		{"name", r.Name}, {"keystone_url", r.KeystoneURL}, {"nova_url", r.NovaURL},
		{"auth_type", authType}, {"username", r.Username}, {"tenant", r.Tenant},
		{"user_domain_name", r.UserDomain}, {"project_domain_name", r.ProjectDomain},
		{"application_credential_id", r.ApplicationCredentialID}, {"application_credential_name", r.ApplicationCredentialName},
		{"identity_provider", r.IdentityProvider}, {"protocol", r.Protocol}, {"ca_certificate", r.CACertificate},
	}
	return slices.DeleteFunc(all, func(s [2]string) bool { return s[1] == "" })
}

// The keys of an infrastructure in their order: id, those of settingsOf, trusted,
// status{state, last_error, checked_at (once it was looked at; RFC 3339, UTC)}.
// The XML elements are the same, id an attribute.
func appendInfrastructureJSON(b []byte, r *flavor.Region) []byte {
	b = appendString(append(b, `{"id": `...), r.Name)
	for _, s := range settingsOf(r) {
		b = append(append(append(b, `, "`...), s[0]...), `": `...)
		b = appendString(b, s[1])
	}
	b = strconv.AppendBool(append(b, `, "trusted": `...), r.Trusted)
	b = appendString(append(b, `, "status": {"state": `...), stateOf(r))
	b = appendString(append(b, `, "last_error": `...), r.Status.LastError)
	if !r.Status.CheckedAt.IsZero() {
		b = appendString(append(b, `, "checked_at": `...), checkedAt(r))
	}
	return append(b, "}}"...)
}

func appendInfrastructureXML(b []byte, r *flavor.Region) []byte {
	b = appendXMLText(append(b, `<infrastructure id="`...), r.Name)
	b = append(b, `">`...)
	for _, s := range settingsOf(r) {
		b = appendElement(b, s[0], s[1])
	}
	b = appendElement(b, "trusted", strconv.FormatBool(r.Trusted))
	b = appendElement(append(b, "<status>"...), "state", stateOf(r))
	b = appendElement(b, "last_error", r.Status.LastError)
	if !r.Status.CheckedAt.IsZero() {
		b = appendElement(b, "checked_at", checkedAt(r))
	}
	return append(b, "</status></infrastructure>"...)
}

func stateOf(r *flavor.Region) string {
	if r.Status.State == "" {
		return string(flavor.RegionUnknown)
	}
	return string(r.Status.State)
}

func checkedAt(r *flavor.Region) string { return moment(r.Status.CheckedAt) }

// moment is a time as RFC 3339 has it, in UTC and whole seconds; "" for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Truncate(time.Second).Format(time.RFC3339)
}

// encodeWhoami is {"whoami": {"id", "name", "provider", "roles", "regions"}}, or
// <whoami> with the elements id, name, provider, role*, region*.
func encodeWhoami(as format, p *flavor.Principal) []byte {
	if as == asJSON {
		b := appendString([]byte(`{"whoami": {"id": `), p.ID)
		b = appendString(append(b, `, "name": `...), p.Name)
		b = appendString(append(b, `, "provider": `...), p.Provider)
		b = appendStrings(append(b, `, "roles": `...), p.Roles)
		b = appendStrings(append(b, `, "regions": `...), p.Regions)
		return append(b, "}}"...)
	}
	b := appendElement([]byte(xmlDeclaration+"<whoami>"), "id", p.ID)
	b = appendElement(b, "name", p.Name)
	b = appendElement(b, "provider", p.Provider)
	for _, role := range p.Roles {
		b = appendElement(b, "role", role)
	}
	for _, region := range p.Regions {
		b = appendElement(b, "region", region)
	}
	return append(b, "</whoami>"...)
}

// encodeError is {"error": {"message": "...", "nodes": [{"node", "status",
// "message"}]}}, or
// <error><message>..</message><nodes><node><name>..</name><status>..</status><message>..</message></node></nodes></error>;
// nodes only where several failed each in its own way.
func encodeError(as format, e *flavor.Error) []byte {
	if as == asJSON {
		b := appendString([]byte(`{"error": {"message": `), e.Message)
		for i, n := range e.Nodes {
			if i == 0 {
				b = append(b, `, "nodes": [`...)
			} else {
				b = append(b, ", "...)
			}
			b = appendString(append(b, `{"node": `...), n.Node)
			b = strconv.AppendInt(append(b, `, "status": `...), int64(nodeStatus(n)), 10)
			b = appendString(append(b, `, "message": `...), nodeMessage(n))
			b = append(b, '}')
		}
		if len(e.Nodes) > 0 {
			b = append(b, ']')
		}
		return append(b, "}}"...)
	}
	b := appendElement([]byte(xmlDeclaration+"<error>"), "message", e.Message)
	if len(e.Nodes) > 0 {
		b = append(b, "<nodes>"...)
		for _, n := range e.Nodes {
			b = appendElement(append(b, "<node>"...), "name", n.Node)
			b = appendElement(b, "status", strconv.Itoa(nodeStatus(n)))
			b = appendElement(b, "message", nodeMessage(n))
			b = append(b, "</node>"...)
		}
		b = append(b, "</nodes>"...)
	}
	return append(b, "</error>"...)
}

func nodeStatus(n flavor.NodeError) int {
	if n.Err == nil {
		return http.StatusInternalServerError
	}
	return statusOf(n.Err.Code)
}

func nodeMessage(n flavor.NodeError) string {
	if nodeStatus(n) == http.StatusInternalServerError || n.Err.Message == "" {
		return "internal error"
	}
	return n.Err.Message
}

// appendString appends a JSON string. What is not UTF-8 becomes U+FFFD, which is
// all that the error tells of.
func appendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

func appendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

func appendElement(b []byte, name, text string) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = appendXMLText(b, text)
	return append(append(append(b, "</"...), name...), '>')
}

// appendXMLText appends text that reads back the same, as content and as an
// attribute's value: white space that a parser would normalize becomes a
// character reference. What XML 1.0 cannot carry becomes U+FFFD.
func appendXMLText(b []byte, text string) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case c == '&':
				b = append(b, "&amp;"...)
			case c == '<':
				b = append(b, "&lt;"...)
			case c == '>':
				b = append(b, "&gt;"...)
			case c == '"':
				b = append(b, "&#34;"...)
			case c == '\t':
				b = append(b, "&#9;"...)
			case c == '\n':
				b = append(b, "&#10;"...)
			case c == '\r':
				b = append(b, "&#13;"...)
			case c < ' ':
				b = utf8.AppendRune(b, utf8.RuneError)
			default:
				b = append(b, c)
			}
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == 0xFFFE || r == 0xFFFF {
			r = utf8.RuneError
		}
		b = utf8.AppendRune(b, r)
		i += size
	}
	return b
}
