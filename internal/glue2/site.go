// Package glue2 says what EGI's information system reads of one region: its
// flavors, and for whom, in GLUE 2.1. It is the JSON that EGI's
// cloud-info-provider publishes for a site and that its cloud-info-api reads.
// Nobody is asked: what neither the configuration nor the region's Nova tells
// (images, quotas, servers, certificates) is left out, as the provider leaves
// out what it does not know.
package glue2

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Config is the part of the configuration that says which regions are sites of
// EGI.
type Config struct {
	Sites map[string]Site `koanf:"sites"` // by the region's name
}

// Site is what EGI has to know of a region and OpenStack does not tell. Its
// settings are those of EGI's own site files (fedcloud-catchall-operations,
// sites/*.yaml), as far as they are published, and GOCDBID. None is a secret.
type Site struct {
	// GOCDB is the site's name in GOCDB.
	GOCDB string `koanf:"gocdb"`
	// GOCDBID is GOCDB's primary key of the site's org.openstack.nova service,
	// such as 7513G0. EGI's site files have none, as the provider looks it up.
	// cloud-info-api does not take a site without it.
	GOCDBID string `koanf:"gocdb_id"`
	// Endpoint is the site's Keystone, spelled as in GOCDB.
	Endpoint string `koanf:"endpoint"`
	// Region is, where that Keystone has several regions, the region's name once
	// more: the document tells it then, and its ids differ from the others'.
	Region string `koanf:"region"`
	// VOs are the virtual organisations that may use the site.
	VOs []VO `koanf:"vos"`
}

// VO is one virtual organisation at a site.
type VO struct {
	Name           string `koanf:"name"` // such as vo.access.egi.eu, or of a group /vo.lifewatch.eu/openbiomap
	Auth           Auth   `koanf:"auth"`
	DefaultNetwork string `koanf:"defaultNetwork"` // private, public, private_only or public_only; "" is not told
	PublicNetwork  string `koanf:"publicNetwork"`  // its name; "" is not told
}

// Auth is where in the site's OpenStack a VO works.
type Auth struct {
	ProjectID string `koanf:"project_id"`
}

var (
	siteName    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,255}$`)
	gocdbID     = regexp.MustCompile(`^[0-9]+G[0-9]+$`)
	voName      = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9._/=-]{0,254}$`)
	projectID   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	networkKind = []string{"private", "public", "private_only", "public_only"}
)

// Validate tells everything that is wrong with c, as an errors.Join of errors
// that each begin with the setting's path inside c and a colon, and say what to
// do.
func (c Config) Validate() error {
	var errs []error
	ids := make(map[string]string)
	for _, region := range slices.Sorted(maps.Keys(c.Sites)) {
		site, at := c.Sites[region], "sites["+region+"]"
		wrong := func(field, format string, args ...any) {
			errs = append(errs, fmt.Errorf("%s%s: %s", at, field, fmt.Sprintf(format, args...)))
		}
		if !flavor.ValidRegionName(region) {
			wrong("", "%q is no region's name, which has 1 to 64 letters, digits and . _ -", region)
		}
		site.validate(region, wrong)
		if other, taken := ids[site.id()]; taken && site.Endpoint != "" {
			wrong(".endpoint", "is that of %s, too: write region: %s here and region: %s there, or their documents have the same ids", other, region, other)
		} else {
			ids[site.id()] = region
		}
	}
	return errors.Join(errs...)
}

func (s Site) validate(region string, wrong func(field, format string, args ...any)) {
	switch {
	case s.GOCDB == "":
		wrong(".gocdb", "is missing: give the site's name in GOCDB, such as IFCA-LCG2")
	case !siteName.MatchString(s.GOCDB):
		wrong(".gocdb", "must be the site's name in GOCDB: letters, digits and . _ -, such as IFCA-LCG2")
	}
	if s.GOCDBID != "" && !gocdbID.MatchString(s.GOCDBID) {
		wrong(".gocdb_id", "must be the PRIMARY_KEY of the site's org.openstack.nova service in GOCDB, such as 7513G0")
	}
	if u, err := url.Parse(s.Endpoint); s.Endpoint == "" {
		wrong(".endpoint", "is missing: give the site's Keystone as in GOCDB, such as https://keystone.example.org:5000/v3")
	} else if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		wrong(".endpoint", "must be an http or https URL with a host, without user, query and fragment")
	}
	if s.Region != "" && s.Region != region {
		wrong(".region", "must be %s, the region whose site this is; leave it out where the Keystone has that one only", region)
	}
	if len(s.VOs) == 0 {
		wrong(".vos", "is missing or empty: name at least one VO, such as {name: ops, auth: {project_id: ID}}")
	}
	seen := make(map[[2]string]int)
	for i, vo := range s.VOs {
		at := fmt.Sprintf(".vos[%d]", i)
		vo.validate(at, wrong)
		share := [2]string{vo.Name, vo.Auth.ProjectID}
		if first, twice := seen[share]; twice {
			wrong(at, "is vos[%d] once more: remove it", first)
		} else {
			seen[share] = i
		}
	}
}

func (v VO) validate(at string, wrong func(field, format string, args ...any)) {
	switch {
	case v.Name == "":
		wrong(at+".name", "is missing: give the VO's name, such as vo.access.egi.eu")
	case !voName.MatchString(v.Name):
		wrong(at+".name", "must be a VO's name: letters, digits and . _ / = -, such as vo.access.egi.eu")
	}
	switch {
	case v.Auth.ProjectID == "":
		wrong(at+".auth.project_id", "is missing: give the id of the VO's project in OpenStack")
	case !projectID.MatchString(v.Auth.ProjectID):
		wrong(at+".auth.project_id", "must be a project's id: letters, digits, _ and -, such as 5eb8959a799240a98f4f303f5fbd80be")
	}
	if v.DefaultNetwork != "" && !slices.Contains(networkKind, v.DefaultNetwork) {
		wrong(at+".defaultNetwork", "must be one of %s", strings.Join(networkKind, ", "))
	}
	if n := v.PublicNetwork; utf8.RuneCountInString(n) > 255 || !utf8.ValidString(n) || strings.ContainsFunc(n, unicode.IsControl) {
		wrong(at+".publicNetwork", "must be a network's name: one line of at most 255 characters")
	}
}

// Warnings tells what is allowed and yet hardly wanted, one sentence each that
// begins with the setting's path inside c.
func (c Config) Warnings() []string {
	var all []string
	for _, region := range slices.Sorted(maps.Keys(c.Sites)) {
		if c.Sites[region].GOCDBID == "" {
			all = append(all, fmt.Sprintf("sites[%s].gocdb_id: is not set, so EGI's cloud-info-api will not take the region's GLUE 2.1 document", region))
		}
	}
	return all
}

// Site is the site that region is in EGI. Of a region for which none is configured
// nothing is known but its name: the document tells its flavors, and no VO.
func (c Config) Site(region string) Site {
	site, ok := c.Sites[region]
	if !ok {
		return Site{GOCDB: region, Region: region}
	}
	return site
}

// id is what all ids of the site's own entities begin with: what the provider
// has, the endpoint, and the region where one Keystone has several.
func (s Site) id() string {
	switch {
	case s.Region == "":
		return s.Endpoint
	case s.Endpoint == "":
		return s.Region
	}
	return s.Endpoint + "_" + s.Region
}
