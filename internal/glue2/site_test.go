package glue2_test

import (
	"testing"

	"github.com/go-viper/mapstructure/v2"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/glue2"
)

func decode(t *testing.T, text string) (c glue2.Config) {
	t.Helper()
	var values map[string]any
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		TagName: "koanf", Result: &c, ErrorUnused: true,
		MatchName: func(key, field string) bool { return key == field },
	})
	if err == nil {
		err = d.Decode(values)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Operators paste what stands in EGI's site file.
func TestSitesAreWrittenAsInEGI(t *testing.T) {
	c := decode(t, `
sites:
  eu-west.1:
    gocdb: 100IT
    endpoint: https://cloud-egi.100percentit.com:5000/v3/
    vos:
    - auth:
        project_id: 744baec7cd3d404799033327891abfd6
      name: vo.nextgeoss.eu
    - name: /biomed/vip
      auth:
        project_id: 0785b78c70ce4e9f91bf851a4fd156b2
  Trento:
    gocdb: fedcloud.srce.hr
    gocdb_id: 7513G0
    endpoint: https://keystone.example.org/v3
    region: Trento
    vos:
    - name: ops
      auth:
        project_id: 0785b78c70ce4e9f91bf851a4fd156b2
      defaultNetwork: private_only
      publicNetwork: public internet
`)
	want := glue2.Config{Sites: map[string]glue2.Site{
		"eu-west.1": {
			GOCDB: "100IT", Endpoint: "https://cloud-egi.100percentit.com:5000/v3/",
			VOs: []glue2.VO{
				{Name: "vo.nextgeoss.eu", Auth: glue2.Auth{ProjectID: "744baec7cd3d404799033327891abfd6"}},
				{Name: "/biomed/vip", Auth: glue2.Auth{ProjectID: "0785b78c70ce4e9f91bf851a4fd156b2"}},
			},
		},
		"Trento": {
			GOCDB: "fedcloud.srce.hr", GOCDBID: "7513G0", Endpoint: "https://keystone.example.org/v3", Region: "Trento",
			VOs: []glue2.VO{{
				Name: "ops", Auth: glue2.Auth{ProjectID: "0785b78c70ce4e9f91bf851a4fd156b2"},
				DefaultNetwork: "private_only", PublicNetwork: "public internet",
			}},
		},
	}}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{
		"sites[eu-west.1].gocdb_id: is not set, so EGI's cloud-info-api will not take the region's GLUE 2.1 document",
	}, c.Warnings()); diff != "" {
		t.Error(diff)
	}
	if err := (glue2.Config{}).Validate(); err != nil {
		t.Errorf("where none is configured: %v", err)
	}
}

// All that is wrong must be told at once, each with its path and what to do.
func TestValidateTellsEverything(t *testing.T) {
	project := glue2.Auth{ProjectID: "744baec7cd3d404799033327891abfd6"}
	ops := []glue2.VO{{Name: "ops", Auth: project}}
	c := glue2.Config{Sites: map[string]glue2.Site{
		"Alone": {},
		"Also":  {GOCDB: "A", VOs: ops},
		"Bad": {
			GOCDB: "no site", GOCDBID: "7513", Endpoint: "https://user:secret@cloud.example.org/v3", Region: "Other",
			VOs: []glue2.VO{
				{Name: "ops", Auth: project}, {},
				{Name: "my vo", Auth: glue2.Auth{ProjectID: "a project"}, DefaultNetwork: "intern", PublicNetwork: "a\nb"},
				{Name: "ops", Auth: project}, {Name: "dteam", Auth: project},
			},
		},
		"a region": {GOCDB: "A", GOCDBID: "1G0", Endpoint: "https://a.example.org/v3", VOs: ops},
		"one":      {GOCDB: "B", GOCDBID: "2G0", Endpoint: "https://b.example.org/v3", VOs: ops},
		"two":      {GOCDB: "B", GOCDBID: "2G0", Endpoint: "https://b.example.org/v3", VOs: ops},
		"with":     {GOCDB: "C", GOCDBID: "3G0", Endpoint: "https://c.example.org/v3", VOs: ops, Region: "with"},
		"without":  {GOCDB: "C", GOCDBID: "3G0", Endpoint: "https://c.example.org/v3", VOs: ops},
	}}
	want := []string{
		"sites[Alone].gocdb: is missing: give the site's name in GOCDB, such as IFCA-LCG2",
		"sites[Alone].endpoint: is missing: give the site's Keystone as in GOCDB, such as https://keystone.example.org:5000/v3",
		"sites[Alone].vos: is missing or empty: name at least one VO, such as {name: ops, auth: {project_id: ID}}",
		"sites[Also].endpoint: is missing: give the site's Keystone as in GOCDB, such as https://keystone.example.org:5000/v3",
		"sites[Bad].gocdb: must be the site's name in GOCDB: letters, digits and . _ -, such as IFCA-LCG2",
		"sites[Bad].gocdb_id: must be the PRIMARY_KEY of the site's org.openstack.nova service in GOCDB, such as 7513G0",
		"sites[Bad].endpoint: must be an http or https URL with a host, without user, query and fragment",
		"sites[Bad].region: must be Bad, the region whose site this is; leave it out where the Keystone has that one only",
		"sites[Bad].vos[1].name: is missing: give the VO's name, such as vo.access.egi.eu",
		"sites[Bad].vos[1].auth.project_id: is missing: give the id of the VO's project in OpenStack",
		"sites[Bad].vos[2].name: must be a VO's name: letters, digits and . _ / = -, such as vo.access.egi.eu",
		"sites[Bad].vos[2].auth.project_id: must be a project's id: letters, digits, _ and -, such as 5eb8959a799240a98f4f303f5fbd80be",
		"sites[Bad].vos[2].defaultNetwork: must be one of private, public, private_only, public_only",
		"sites[Bad].vos[2].publicNetwork: must be a network's name: one line of at most 255 characters",
		"sites[Bad].vos[3]: is vos[0] once more: remove it",
		`sites[a region]: "a region" is no region's name, which has 1 to 64 letters, digits and . _ -`,
		"sites[two].endpoint: is that of one, too: write region: two here and region: one there, or their documents have the same ids",
	}
	err := c.Validate()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, err := range joined.Unwrap() {
		got = append(got, err.Error())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Who asks for a region that is no site of EGI's is told its flavors all the same,
// under its own name, and for no VO.
func TestRegionWithoutSite(t *testing.T) {
	c := glue2.Config{Sites: map[string]glue2.Site{"Trento": published}}
	if site := c.Site("Trento"); site.GOCDB != "BIFI" {
		t.Errorf("Trento is %+v", site)
	}
	if diff := cmp.Diff(glue2.Site{GOCDB: "Spain2", Region: "Spain2"}, c.Site("Spain2")); diff != "" {
		t.Error(diff)
	}
}
