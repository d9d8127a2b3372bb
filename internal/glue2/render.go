package glue2

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Validity is how long the provider's documents hold.
const Validity = 12 * time.Hour

// Instance is a flavor of the region, and who may use it.
type Instance struct {
	flavor.NovaFlavor
	// Projects are the ids of the projects that may use a flavor which is not
	// public.
	Projects []string
}

// The document. Its keys, their order and their types are the provider's
// (formatter glue21json); the comments tell what is ours.
type document struct {
	Services        []service      `json:"CloudComputingService"`
	Managers        []manager      `json:"CloudComputingManager"`
	Endpoints       []endpoint     `json:"CloudComputingEndpoint"`
	Images          []struct{}     `json:"CloudComputingImage"` // none; cloud-info-api needs the list
	InstanceTypes   []instanceType `json:"CloudComputingInstanceType"`
	Accelerators    []accelerator  `json:"CloudComputingVirtualAccelerator"`
	Shares          []share        `json:"Share"`
	MappingPolicies []policy       `json:"MappingPolicy"`
	AccessPolicies  []policy       `json:"AccessPolicy"`
}

// entity is what all objects have in common.
type entity struct {
	ID           string
	Validity     int64             // seconds from CreationTime on
	CreationTime string            // RFC 3339, UTC, as Python writes it
	Name         string            `json:",omitempty"`
	OtherInfo    map[string]string `json:",omitempty"`
	Associations associations
}

// associations are ids of other entities, by their kind; of AdminDomain and
// PolicyUserDomain they are names, in GOCDB and of a VO.
type associations struct {
	AdminDomain                      []string `json:",omitempty"`
	CloudComputingService            []string `json:",omitempty"`
	Share                            []string `json:",omitempty"`
	CloudComputingEndpoint           []string `json:",omitempty"`
	CloudComputingManager            []string `json:",omitempty"`
	CloudComputingInstanceType       []string `json:",omitempty"`
	CloudComputingVirtualAccelerator []string `json:",omitempty"`
	PolicyUserDomain                 []string `json:",omitempty"`
}

type service struct {
	entity
	Type         string
	QualityLevel string
	StatusInfo   string `json:",omitempty"`
	ServiceAUP   string
	Complexity   string
	Capability   []string
}

type manager struct {
	entity
	InstanceMaxCPU int
	InstanceMinCPU int
	InstanceMaxRAM int // MB, as all RAM
	InstanceMinRAM int
}

type endpoint struct {
	entity
	Capability            []string
	QualityLevel          string
	InterfaceName         string
	InterfaceVersion      string
	HealthState           string
	HealthStateInfo       string
	ServingState          string
	Technology            string
	Implementor           string
	ImplementationName    string
	ImplementationVersion string `json:",omitempty"`
	DowntimeInfo          string `json:",omitempty"`
	Semantics             string
	Authentication        string
	URL                   string `json:",omitempty"`
}

type instanceType struct {
	entity
	Platform   string
	CPU        int
	RAM        int // MB (Nova's MiB)
	Disk       int // GB
	NetworkIn  string
	NetworkOut bool
}

type accelerator struct {
	entity
	Type              string
	Number            int
	Vendor            string
	Model             string
	Memory            int `json:",omitempty"` // MB; the provider has the key and never a value
	ComputeCapability []string
}

type share struct {
	entity
	InstanceMaxCPU     int
	InstanceMaxRAM     int
	DefaultNetworkType string `json:",omitempty"`
	PublicNetworkName  string `json:",omitempty"`
	ProjectID          string
}

type policy struct {
	entity
	Rule   []string
	Scheme string
}

// Render is the document of site, valid as Config.Validate has it, with these
// flavors of its region. Render it when the Nova has just answered: it says that
// the endpoint works. version is the Nova's newest microversion, "" where it is
// not known.
//
// Each flavor comes once, for all the VOs that may use it: the provider repeats
// it for every VO, under one id. One that none of the VOs may use is not part of
// the document; where there are no VOs, one that is not public. Flavors are sorted by name, then id, the VOs are as configured,
// and nothing else but the arguments counts.
func Render(site Site, flavors []Instance, now time.Time, validity time.Duration, version string) ([]byte, error) {
	created := now.UTC().Truncate(time.Second).Format("2006-01-02T15:04:05-07:00")
	about := func(id, name string, with associations) entity {
		return entity{ID: id, Validity: int64(validity / time.Second), CreationTime: created, Name: name, Associations: with}
	}
	serviceID, endpointID := site.id()+"_cloud.compute", site.id()+"_OpenStack_v3_oidc"
	managerID := serviceID + "_manager"
	theService, theEndpoint, theManager := []string{serviceID}, []string{endpointID}, []string{managerID}

	d := document{
		Services: []service{{
			entity:       about(serviceID, "Cloud Compute service at "+site.GOCDB, associations{AdminDomain: []string{site.GOCDB}}),
			Type:         "org.cloud.iaas",
			QualityLevel: "production",
			ServiceAUP:   "http://go.egi.eu/aup",
			Complexity:   "endpointType=1,share=" + strconv.Itoa(len(site.VOs)),
			Capability:   []string{"executionmanagement.dynamicvmdeploy", "security.accounting"},
		}},
		Endpoints: []endpoint{{
			entity:                about(endpointID, "Cloud computing endpoint for "+endpointID, associations{CloudComputingService: theService}),
			Capability:            []string{},
			QualityLevel:          "production",
			InterfaceName:         "org.openstack.nova",
			InterfaceVersion:      "2.0",
			HealthState:           "ok",
			HealthStateInfo:       "Endpoint functioning properly",
			ServingState:          "production",
			Technology:            "webservice",
			Implementor:           "OpenStack Foundation",
			ImplementationName:    "OpenStack Nova",
			ImplementationVersion: version,
			Semantics:             "https://developer.openstack.org/api-ref/compute",
			Authentication:        "oidc",
			URL:                   site.Endpoint,
		}},
		Images:          []struct{}{},
		InstanceTypes:   make([]instanceType, 0, len(flavors)),
		Accelerators:    []accelerator{},
		Shares:          []share{},
		MappingPolicies: []policy{},
	}
	if site.Endpoint != "" { // else EGI has no pages of it
		d.Services[0].StatusInfo = "https://argo.egi.eu/egi/report-status/Critical/SITES/" + site.GOCDB
		d.Endpoints[0].DowntimeInfo = "https://goc.egi.eu/portal/index.php?Page_Type=Downtimes_Calendar&site=" + site.GOCDB
	}
	d.Services[0].OtherInfo = map[string]string{"site_name": site.GOCDB}
	if site.GOCDBID != "" {
		d.Services[0].OtherInfo["gocdb_id"] = site.GOCDBID
	}
	if site.Region != "" {
		// GLUE has no word for it, and clients of such a Keystone must say it.
		d.Endpoints[0].OtherInfo = map[string]string{"region": site.Region}
	}

	rules := []string{}
	for _, vo := range site.VOs {
		id, rule := endpointID+"_share_"+vo.Name+"_"+vo.Auth.ProjectID, "VO:"+vo.Name
		rules = append(rules, rule)
		d.Shares = append(d.Shares, share{
			entity: about(id, vo.Name+" - "+vo.Auth.ProjectID+" share",
				associations{CloudComputingService: theService, CloudComputingEndpoint: theEndpoint}),
			DefaultNetworkType: vo.DefaultNetwork,
			PublicNetworkName:  vo.PublicNetwork,
			ProjectID:          vo.Auth.ProjectID,
		})
		d.MappingPolicies = append(d.MappingPolicies, policy{
			entity: about(id+"_Policy", "", associations{Share: []string{id}, PolicyUserDomain: []string{vo.Name}}),
			Rule:   []string{rule},
			Scheme: "org.glite.standard",
		})
	}
	d.AccessPolicies = []policy{{
		entity: about(endpointID+"_policy", "", associations{CloudComputingEndpoint: theEndpoint}),
		Rule:   rules,
		Scheme: "org.glite.standard",
	}}

	m := manager{entity: about(managerID, "", associations{CloudComputingService: theService})}
	sorted := slices.SortedFunc(slices.Values(flavors), func(a, b Instance) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	for _, f := range sorted {
		var shares []string
		for i := range d.Shares {
			s := &d.Shares[i]
			if !f.IsPublic && !slices.Contains(f.Projects, s.ProjectID) {
				continue
			}
			shares = append(shares, s.ID)
			s.InstanceMaxCPU, s.InstanceMaxRAM = max(s.InstanceMaxCPU, f.VCPUs), max(s.InstanceMaxRAM, f.RAM)
		}
		if len(shares) == 0 && (len(site.VOs) > 0 || !f.IsPublic) {
			continue
		}
		if len(d.InstanceTypes) == 0 {
			m.InstanceMinCPU, m.InstanceMinRAM = f.VCPUs, f.RAM
		}
		m.InstanceMaxCPU, m.InstanceMinCPU = max(m.InstanceMaxCPU, f.VCPUs), min(m.InstanceMinCPU, f.VCPUs)
		m.InstanceMaxRAM, m.InstanceMinRAM = max(m.InstanceMaxRAM, f.RAM), min(m.InstanceMinRAM, f.RAM)
		gpus := acceleratorsOf(f, about)
		with := associations{Share: shares, CloudComputingEndpoint: theEndpoint, CloudComputingManager: theManager}
		for _, gpu := range gpus {
			with.CloudComputingVirtualAccelerator = append(with.CloudComputingVirtualAccelerator, gpu.ID)
		}
		d.Accelerators = append(d.Accelerators, gpus...)
		d.InstanceTypes = append(d.InstanceTypes, instanceType{
			entity:     about(f.ID, f.Name, with),
			Platform:   "amd64",
			CPU:        f.VCPUs,
			RAM:        f.RAM,
			Disk:       f.Disk,
			NetworkIn:  "UNKNOWN",
			NetworkOut: true,
		})
	}
	d.Managers = []manager{m}

	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(d); err != nil {
		return nil, fmt.Errorf("while writing GLUE 2.1: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// acceleratorsOf are the GPUs and the like of f. The provider knows one kind of
// them, ID_gpu; here a second one is ID_gpu_2.
func acceleratorsOf(f Instance, about func(id, name string, with associations) entity) []accelerator {
	var all []accelerator
	for i, a := range f.Accelerators() {
		suffix := "_gpu"
		if i > 0 {
			suffix += "_" + strconv.Itoa(i+1)
		}
		all = append(all, accelerator{
			entity:            about(f.ID+suffix, f.Name+suffix, associations{CloudComputingInstanceType: []string{f.ID}}),
			Type:              cmp.Or(a.Type, "GPU"),
			Number:            a.Number,
			Vendor:            cmp.Or(a.Vendor, "UNKNOWN"),
			Model:             cmp.Or(a.Model, "UNKNOWN"),
			Memory:            a.Memory * 1024,
			ComputeCapability: []string{},
		})
	}
	return all
}
