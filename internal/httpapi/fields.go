package httpapi

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// field is one member of a body, in either format, and where it goes:
//
//	**string, **flavor.Secret, **int, **float64, **bool   one value
//	*string, *int                                         one value, zero where absent
//	**map[string]string                                   extra specs
//	severalNodes, oneNode                                 a flavor's nodes
//	[]field                                               an object
//	severalOf                                             a list of objects
type field struct {
	name string
	into any
	// attribute says that in XML it is an attribute of the root element.
	attribute bool
}

// severalNodes is the member that JSON lists nodes in; XML has no such element.
type severalNodes struct{ nodes **[]string }

// oneNode is the member that names one node in JSON, and the element that names
// one of several in XML.
type oneNode struct{ nodes **[]string }

// severalOf is a list of objects: in XML an element whose children are all called
// item. begin begins the list, and what it gives makes room for one more, and is
// where that one's members go.
type severalOf struct {
	item  string
	begin func() (one func() []field)
}

// document is what a body may be: the envelope's name and the members.
type document struct {
	envelope string
	fields   []field
}

func flavorDocument(p *flavor.Patch) document {
	return document{"flavor", []field{
		{name: "id", into: &p.ID, attribute: true},
		{name: "name", into: &p.Name},
		{name: "vcpus", into: &p.VCPUs},
		{name: "ram", into: &p.RAM},
		{name: "disk", into: &p.Disk},
		{name: "swap", into: &p.Swap},
		{name: "promoted", into: &p.Promoted},
		{name: "public", into: &p.Public},
		{name: "nodes", into: severalNodes{&p.Nodes}},
		{name: "node", into: oneNode{&p.Nodes}},
		{name: "description", into: &p.Description},
		{name: "ephemeral", into: &p.Ephemeral},
		{name: "rxtx_factor", into: &p.RxTxFactor},
		{name: "extra_specs", into: &p.ExtraSpecs},
		{name: "retired", into: &p.Retired},
		{name: "accelerators", into: acceleratorFields(&p.Accelerators)},
	}}
}

// acceleratorFields are those of an output-only list, as it may be sent back.
func acceleratorFields(list **[]flavor.Accelerator) severalOf {
	return severalOf{"accelerator", func() func() []field {
		all := &[]flavor.Accelerator{}
		*list = all
		return func() []field {
			*all = append(*all, flavor.Accelerator{})
			a := &(*all)[len(*all)-1]
			return []field{
				{name: "number", into: &a.Number}, {name: "vendor", into: &a.Vendor}, {name: "model", into: &a.Model},
				{name: "memory", into: &a.Memory}, {name: "type", into: &a.Type},
			}
		}
	}}
}

// productDocument is a product as it is read: what is the flavor's may be sent
// back.
func productDocument(p *flavor.ProductPatch) document {
	return document{"product", []field{
		{name: "id", into: &p.ID, attribute: true},
		{name: "name", into: &p.Name},
		{name: "category", into: &p.Category},
		{name: "price", into: &p.Price},
		{name: "currency", into: &p.Currency},
		{name: "period", into: &p.Period},
		{name: "free_to_use", into: &p.Free},
		{name: "hidden_in_grant_applications", into: &p.Hidden},
		{name: "vcpus", into: &p.VCPUs},
		{name: "ram", into: &p.RAM},
		{name: "gpus", into: &p.GPUs},
		{name: "cpu_model", into: &p.CPUModel},
		{name: "memory_model", into: &p.MemoryModel},
		{name: "gpu_model", into: &p.GPUModel},
		{name: "description", into: &p.Description},
		{name: "by_formula", into: &p.ByFormula},
		{name: "retired", into: &p.Retired},
	}}
}

// infrastructureDocument has the output-only fields id and status too: what was
// read may be sent back. status says nothing.
func infrastructureDocument(p *flavor.RegionPatch, id **string) document {
	var ignored *string
	return document{"infrastructure", []field{
		{name: "id", into: id, attribute: true},
		{name: "name", into: &p.Name},
		{name: "keystone_url", into: &p.KeystoneURL},
		{name: "nova_url", into: &p.NovaURL},
		{name: "auth_type", into: &p.AuthType},
		{name: "username", into: &p.Username},
		{name: "password", into: &p.Password},
		{name: "tenant", into: &p.Tenant},
		{name: "user_domain_name", into: &p.UserDomain},
		{name: "project_domain_name", into: &p.ProjectDomain},
		{name: "application_credential_id", into: &p.ApplicationCredentialID},
		{name: "application_credential_name", into: &p.ApplicationCredentialName},
		{name: "application_credential_secret", into: &p.ApplicationCredentialSecret},
		{name: "identity_provider", into: &p.IdentityProvider},
		{name: "protocol", into: &p.Protocol},
		{name: "access_token", into: &p.AccessToken},
		{name: "ca_certificate", into: &p.CACertificate},
		{name: "trusted", into: &p.Trusted},
		{name: "status", into: []field{
			{name: "state", into: &ignored}, {name: "last_error", into: &ignored}, {name: "checked_at", into: &ignored},
		}},
	}}
}

// seen refuses what is said twice; it starts as nil.
type seen []string

func (s *seen) add(name string) error {
	if slices.Contains(*s, name) {
		return flavor.Invalid("%s: is given twice", name)
	}
	if name == "node" && slices.Contains(*s, "nodes") || name == "nodes" && slices.Contains(*s, "node") {
		return flavor.Invalid("node: give node or nodes, not both")
	}
	*s = append(*s, name)
	return nil
}

func unknown(name string, fields []field) error {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return flavor.Invalid("%.100q: there is no such field; there are %s", name, strings.Join(names, ", "))
}

func find(fields []field, name string) (field, bool) {
	if i := slices.IndexFunc(fields, func(f field) bool { return f.name == name }); i >= 0 {
		return fields[i], true
	}
	return field{}, false
}

// whole reads an integer. One that is far out of Nova's range is told here, for
// it fits no int.
func whole(name, text string) (*int, error) {
	n, err := strconv.Atoi(text)
	switch {
	case err == nil:
		return &n, nil
	case errors.Is(err, strconv.ErrRange):
		return nil, flavor.Invalid("%s: must be at most %d", name, flavor.MaxNumber)
	}
	return nil, flavor.Invalid("%s: must be a whole number, not %.40q", name, text)
}

func fraction(name, text string) (*float64, error) {
	// ParseFloat takes more than JSON and XML have: hexadecimal, inf, nan, 1_0.
	if strings.Trim(text, "0123456789+-.eE") == "" {
		f, err := strconv.ParseFloat(text, 64)
		if err == nil {
			return &f, nil
		}
		if errors.Is(err, strconv.ErrRange) {
			return nil, flavor.Invalid("%s: %.40s is out of range", name, text)
		}
	}
	return nil, flavor.Invalid("%s: must be a number, not %.40q", name, text)
}

// mostNodes bounds the nodes of one body, each of which is compared with all.
const mostNodes = 1000

// addNode adds a node to the list; one that is there already is there once.
func addNode(nodes **[]string, name string) error {
	if *nodes == nil {
		*nodes = new([]string)
	}
	if slices.Contains(**nodes, name) {
		return nil
	}
	if len(**nodes) == mostNodes {
		return flavor.Invalid("nodes: must be at most %d", mostNodes)
	}
	**nodes = append(**nodes, name)
	return nil
}
