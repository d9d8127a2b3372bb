package glue2_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/glue2"
)

var update = flag.Bool("update", false, "write what is rendered into testdata")

var now = time.Date(2025, 10, 7, 13, 4, 37, 6_933_000, time.FixedZone("CEST", 2*60*60))

// published is a site as cloud-info-api's own tests have it, from a document
// that EGI's provider published.
var published = glue2.Site{
	GOCDB: "BIFI", GOCDBID: "12249G0", Endpoint: "https://colossus.cesar.unizar.es:5000/v3",
	VOs: []glue2.VO{{Name: "ops", Auth: glue2.Auth{ProjectID: "038db3eeca5c4960a443a89b92373cd2"}}},
}

// several is a region of a Keystone that has more of them, with all that a
// document can hold.
var several = glue2.Site{
	GOCDB: "UNITN.cloud", Endpoint: "https://cloud.example.org:5000/v3/", Region: "Trento",
	VOs: []glue2.VO{
		{Name: "vo.access.egi.eu", Auth: glue2.Auth{ProjectID: "999f045cb1ff4684a15ebb338af69460"}, DefaultNetwork: "private_only", PublicNetwork: `ext "net"`},
		{Name: "/vo.lifewatch.eu/openbiomap", Auth: glue2.Auth{ProjectID: "ac7bc26131d248ecb6add521e648c331"}},
		{Name: "ops", Auth: glue2.Auth{ProjectID: "a372c1e2fba040e58fd0cb524a3ccd34"}},
	},
}

func instance(id, name string, vcpus, ram, disk int) glue2.Instance {
	return glue2.Instance{NovaFlavor: flavor.NovaFlavor{
		ID: id, Spec: flavor.Spec{Name: name, VCPUs: vcpus, RAM: ram, Disk: disk, RxTxFactor: 1}, IsPublic: true,
	}}
}

func only(i glue2.Instance, projects ...string) glue2.Instance {
	i.IsPublic, i.Projects = false, projects
	return i
}

func with(i glue2.Instance, specs map[string]string) glue2.Instance {
	i.ExtraSpecs = specs
	return i
}

var twoKinds = with(instance("two kinds", "gpu.mixed", 8, 65536, 80), map[string]string{"pci_passthrough:alias": "nvidia-t4:2,nvidia-a100:1"})

var inSeveral = []glue2.Instance{
	with(only(instance("a8082202-f647-4d1f-9b97-4f5ddb38ae8e", "gpu1cpu2", 2, 8192, 40),
		"a372c1e2fba040e58fd0cb524a3ccd34", "999f045cb1ff4684a15ebb338af69460", "of somebody else"),
		map[string]string{
			"Accelerator:Type": "GPU", "Accelerator:Number": "1.0", "Accelerator:Vendor": "NVIDIA", "Accelerator:Model": "Tesla K20m",
			"Accelerator:Version": "0", "Accelerator:Memory": "5", "pci_passthrough:alias": "GPU:1",
		}),
	instance("big", `<b> & "ö", 'µ' \ `+"\u2028", 128, 1<<31-1, 0),
	only(instance("secret", "nobody's here", 512, 1, 1), "of somebody else"),
	only(instance("hidden", "nobody's at all", 512, 1, 1)),
	instance("b", "m1.small", 1, 2048, 20),
	instance("a", "m1.small", 1, 512, 20),
}

func render(t *testing.T, site glue2.Site, flavors []glue2.Instance, version string) []byte {
	t.Helper()
	got, err := glue2.Render(site, flavors, now, glue2.Validity, version)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What is published must not change by accident: EGI's readers look the keys up
// by name and drop the whole site where one is missing. Where something else
// should be published from now on,
//
//	go test ./internal/glue2 -update
//
// writes it into testdata.
func TestRender(t *testing.T) {
	for _, c := range []struct {
		name    string
		site    glue2.Site
		flavors []glue2.Instance
		version string
	}{
		{"published", published, []glue2.Instance{instance("1", "m1.tiny", 1, 512, 1), instance("5", "m1.xlarge", 16, 16384, 160)}, "2.96"},
		{"several", several, inSeveral, ""},
		{"empty", published, nil, "2.61"},
		{"unconfigured", glue2.Config{}.Site("Mordor"), append(slices.Clone(inSeveral), twoKinds), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got bytes.Buffer
			if err := json.Indent(&got, render(t, c.site, c.flavors, c.version), "", "  "); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			path := filepath.Join("testdata", c.name+".json")
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s says otherwise; with -update it is written anew\n%s", path, diff)
			}
		})
	}
}

// classes are the keys that the provider's formatter glue21json writes for each
// kind of entity, in its order, behind those that all entities have.
var classes = map[string]string{
	"CloudComputingService": "Type QualityLevel StatusInfo ServiceAUP Complexity Capability TotalVM RunningVM SuspendedVM HaltedVM",
	"CloudComputingManager": "ProductName ProductVersion HypervisorName HypervisorVersion TotalCPUs TotalRAM InstanceMaxCPU InstanceMinCPU" +
		" InstanceMaxRAM InstanceMinRAM NetworkVirtualizationType CPUVirtualizationType ManagerVirtualdiskFormat ManagerFailover" +
		" ManagerLiveMigration ManagerVMBackupRestore",
	"CloudComputingEndpoint": "Capability QualityLevel InterfaceName InterfaceVersion HealthState HealthStateInfo ServingState Technology" +
		" Implementor ImplementationName ImplementationVersion DowntimeInfo Semantics Authentication IssuerCA TrustedCA URL",
	"CloudComputingImage":              "MarketplaceURL OSPlatform OSName OSVersion Description AccessInfo",
	"CloudComputingInstanceType":       "Platform CPU RAM Disk NetworkIn NetworkOut NetworkInfo",
	"CloudComputingVirtualAccelerator": "Type Number Vendor Model Version ClockSpeed Memory ComputeCapability VirtualizationType",
	"Share": "InstanceMaxCPU InstanceMaxRAM SLA TotalVM RunningVM SuspendedVM HaltedVM MaxVM NetworkInfo DefaultNetworkType" +
		" PublicNetworkName ProjectID",
	"MappingPolicy": "Rule Scheme",
	"AccessPolicy":  "Rule Scheme",
}

// unknown is what a published document has and Flavorsync cannot tell.
var unknown = strings.Fields("TotalVM RunningVM SuspendedVM HaltedVM MaxVM IssuerCA TrustedCA")

// alwaysPublished are the keys that the published document of the same site has.
var alwaysPublished = map[string]string{
	"CloudComputingService":            classes["CloudComputingService"] + " Name OtherInfo",
	"CloudComputingManager":            "InstanceMaxCPU InstanceMinCPU InstanceMaxRAM InstanceMinRAM",
	"CloudComputingEndpoint":           classes["CloudComputingEndpoint"] + " Name",
	"CloudComputingInstanceType":       "Name Platform CPU RAM Disk NetworkIn NetworkOut",
	"CloudComputingVirtualAccelerator": "Name Type Number Vendor Model ComputeCapability",
	"Share":                            "Name InstanceMaxCPU InstanceMaxRAM TotalVM RunningVM SuspendedVM HaltedVM MaxVM ProjectID",
	"MappingPolicy":                    classes["MappingPolicy"],
	"AccessPolicy":                     classes["AccessPolicy"],
}

// A reader of the provider's documents must find each thing under the provider's
// name for it, and nothing under a name of ours.
func TestKeysAreTheProviders(t *testing.T) {
	got := object(t, render(t, published, append(slices.Clone(inSeveral), with(instance("g", "g", 1, 1, 1), map[string]string{"Accelerator:Number": "1"})), "2.96"))
	if diff := cmp.Diff([]string{
		"CloudComputingService", "CloudComputingManager", "CloudComputingEndpoint", "CloudComputingImage", "CloudComputingInstanceType",
		"CloudComputingVirtualAccelerator", "Share", "MappingPolicy", "AccessPolicy",
	}, got.keys); diff != "" {
		t.Error(diff)
	}
	for _, class := range got.keys {
		var entities []json.RawMessage
		if err := json.Unmarshal(got.values[class], &entities); err != nil || entities == nil {
			t.Fatalf("%s is no list: %s", class, got.values[class])
		}
		if len(entities) == 0 && class != "CloudComputingImage" {
			t.Errorf("no %s", class)
		}
		order := strings.Fields("ID Validity CreationTime Name OtherInfo Associations " + classes[class])
		for _, e := range entities {
			at := -1
			entity := object(t, e)
			for _, key := range entity.keys {
				next := slices.Index(order, key)
				if next <= at {
					t.Errorf("%s: %s is not the provider's, or not in its place: %v", class, key, entity.keys)
				}
				at = next
			}
			for key := range strings.FieldsSeq("ID Validity CreationTime Associations " + alwaysPublished[class]) {
				if entity.values[key] == nil && !slices.Contains(unknown, key) {
					t.Errorf("%s: there is no %s: %s", class, key, e)
				}
			}
		}
	}
}

type ordered struct {
	keys   []string
	values map[string]json.RawMessage
}

func object(t *testing.T, text []byte) ordered {
	t.Helper()
	o := ordered{values: make(map[string]json.RawMessage)}
	d := json.NewDecoder(bytes.NewReader(text))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		t.Fatalf("no object: %s", text)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatal(err)
		}
		o.keys = append(o.keys, key.(string))
		o.values[key.(string)] = value
	}
	return o
}

type entity struct {
	ID, Name, URL, ProjectID, CreationTime string
	Validity                               int
	OtherInfo                              map[string]string
	Associations                           map[string][]string
}

type read map[string][]entity

func parse(t *testing.T, text []byte) read {
	t.Helper()
	var d read
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return d
}

// An id that leads nowhere, or to two entities, makes a site unreadable for
// whoever follows it.
func TestEveryIDLeadsSomewhere(t *testing.T) {
	for _, site := range []glue2.Site{published, several, glue2.Config{}.Site("Mordor")} {
		d := parse(t, render(t, site, append(slices.Clone(inSeveral), twoKinds), "2.96"))
		of := make(map[string]string)
		for class, entities := range d {
			for _, e := range entities {
				if was, twice := of[e.ID]; twice || e.ID == "" {
					t.Errorf("%s and %s have the id %q", was, class, e.ID)
				}
				of[e.ID] = class
			}
		}
		for class, entities := range d {
			for _, e := range entities {
				if len(e.Associations) == 0 {
					t.Errorf("%s %s stands alone", class, e.ID)
				}
				for kind, ids := range e.Associations {
					for _, id := range ids {
						if of[id] != kind && kind != "AdminDomain" && kind != "PolicyUserDomain" {
							t.Errorf("%s %s: its %s %s is a %q", class, e.ID, kind, id, of[id])
						}
					}
				}
			}
		}
		for _, a := range d["CloudComputingVirtualAccelerator"] {
			for _, id := range a.Associations["CloudComputingInstanceType"] {
				i := slices.IndexFunc(d["CloudComputingInstanceType"], func(e entity) bool { return e.ID == id })
				if i < 0 || !slices.Contains(d["CloudComputingInstanceType"][i].Associations["CloudComputingVirtualAccelerator"], a.ID) {
					t.Errorf("%s does not know its accelerator %s", id, a.ID)
				}
			}
		}
	}
}

// A flavor with two kinds of GPUs must show both.
func TestEachKindOfGPUIsAnAccelerator(t *testing.T) {
	var got []string
	for _, a := range parse(t, render(t, published, []glue2.Instance{twoKinds}, ""))["CloudComputingVirtualAccelerator"] {
		got = append(got, a.ID+", "+a.Name)
	}
	if diff := cmp.Diff([]string{"two kinds_gpu, gpu.mixed_gpu", "two kinds_gpu_2, gpu.mixed_gpu_2"}, got); diff != "" {
		t.Error(diff)
	}
}

// Two regions of one Keystone must not pass for one another.
func TestRegionsOfOneKeystoneShareNoID(t *testing.T) {
	other := several
	other.Region = "Spain2"
	seen := make(map[string]bool)
	for _, site := range []glue2.Site{several, other} {
		for class, entities := range parse(t, render(t, site, nil, "")) {
			for _, e := range entities {
				if seen[e.ID] {
					t.Errorf("%s %s is of both", class, e.ID)
				}
				seen[e.ID] = true
			}
		}
	}
}

// flavorsOf is what cloud-info-api shows of a site: the flavors of each VO. It
// follows the document as that does (create_site in app/glue.py).
func flavorsOf(t *testing.T, text []byte) map[string][]string {
	t.Helper()
	d := parse(t, text)
	if d["CloudComputingImage"] == nil {
		t.Error("without a list of images the site is dropped")
	}
	all := make(map[string][]string)
	for _, share := range d["Share"] {
		of := ""
		for _, p := range d["MappingPolicy"] {
			if slices.Contains(p.Associations["Share"], share.ID) {
				of = p.Associations["PolicyUserDomain"][0] + " " + share.ProjectID
				break
			}
		}
		all[of] = []string{}
		for _, i := range d["CloudComputingInstanceType"] {
			if slices.Contains(i.Associations["Share"], share.ID) {
				all[of] = append(all[of], i.ID)
			}
		}
	}
	return all
}

// A VO must be shown the public flavors and those given to its project, and none
// that it would be refused.
func TestEachVOHasTheFlavorsOfItsProject(t *testing.T) {
	want := map[string][]string{
		"vo.access.egi.eu 999f045cb1ff4684a15ebb338af69460":            {"big", "a8082202-f647-4d1f-9b97-4f5ddb38ae8e", "a", "b"},
		"ops a372c1e2fba040e58fd0cb524a3ccd34":                         {"big", "a8082202-f647-4d1f-9b97-4f5ddb38ae8e", "a", "b"},
		"/vo.lifewatch.eu/openbiomap ac7bc26131d248ecb6add521e648c331": {"big", "a", "b"},
	}
	if diff := cmp.Diff(want, flavorsOf(t, render(t, several, inSeveral, ""))); diff != "" {
		t.Error(diff)
	}
}

// cloud-info-api takes a site only with these, and only as long as it is valid.
func TestReadAsASite(t *testing.T) {
	d := parse(t, render(t, published, nil, ""))
	service := d["CloudComputingService"][0]
	if id, name, url := service.OtherInfo["gocdb_id"], service.Associations["AdminDomain"][0], d["CloudComputingEndpoint"][0].URL; id != "12249G0" ||
		name != "BIFI" || url != "https://colossus.cesar.unizar.es:5000/v3" {
		t.Errorf("got %s, %s, %s", id, name, url)
	}
	created, err := time.Parse(time.RFC3339, service.CreationTime)
	if err != nil || !created.Equal(now.Truncate(time.Second)) || service.Validity != 43200 {
		t.Errorf("got %s and %d s: %v", service.CreationTime, service.Validity, err)
	}
	if !strings.HasSuffix(service.CreationTime, "+00:00") {
		t.Errorf("%s is not UTC", service.CreationTime)
	}
}

// The order in which a Nova lists its flavors must not look like a change.
func TestOrderDoesNotCount(t *testing.T) {
	want := string(render(t, several, inSeveral, ""))
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		shuffled := slices.Clone(inSeveral)
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		before := slices.Clone(shuffled)
		if got := string(render(t, several, shuffled, "")); got != want {
			t.Fatal(cmp.Diff(want, got))
		}
		if diff := cmp.Diff(before, shuffled); diff != "" {
			t.Fatalf("the caller's list was changed: %s", diff)
		}
	}
}

// Any name that a Nova holds must come out as it is.
func FuzzNamesSurvive(f *testing.F) {
	for _, name := range []string{"m1.tiny", `a"b\c`, "<&>", "µ\u2028", "\x00\x1f\x7f", "\xff"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := parse(t, render(t, published, []glue2.Instance{instance("1", name, 1, 1, 1)}, ""))
		if name = strings.ToValidUTF8(name, "\uFFFD"); strings.Contains(name, "\uFFFD") {
			return // how many of them stand for broken bytes is encoding/json's affair
		}
		if found := got["CloudComputingInstanceType"][0].Name; found != name {
			t.Errorf("got %q, not %q", found, name)
		}
	})
}
