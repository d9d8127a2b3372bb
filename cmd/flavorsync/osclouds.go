package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// The reader of clouds.yaml is our own: gophercloud's, which is for whoever
// authenticates, drops auth_type, the regions, whose CA it is, and all of
// v3oidcaccesstoken.

// osCloud is an entry of clouds.yaml, with what secure.yaml adds to it.
type osCloud map[string]any

// readOSCloud finds an entry where the OpenStack client looks: in the file that
// OS_CLIENT_CONFIG_FILE names, or the clouds.yaml of the working directory, of
// ~/.config/openstack or of /etc/openstack. The secure.yaml beside it goes before
// it.
func readOSCloud(name string, getenv func(string) string) (osCloud, error) {
	places := []string{getenv("OS_CLIENT_CONFIG_FILE")}
	if places[0] == "" {
		config := cmp.Or(getenv("XDG_CONFIG_HOME"), filepath.Join(getenv("HOME"), ".config"))
		places = []string{"clouds.yaml", filepath.Join(config, "openstack", "clouds.yaml"), "/etc/openstack/clouds.yaml"}
	}
	for _, place := range places {
		all, err := readOSClouds(place)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		entry, ok := all[name]
		if !ok {
			return nil, fmt.Errorf("%s has no cloud %q: it has %s", place, name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
		}
		secure, err := readOSClouds(cmp.Or(getenv("OS_CLIENT_SECURE_FILE"), filepath.Join(filepath.Dir(place), "secure.yaml")))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return merge(entry, secure[name]), nil
	}
	return nil, fmt.Errorf("there is no clouds.yaml: looked for %s", strings.Join(places, ", "))
}

func readOSClouds(path string) (map[string]osCloud, error) {
	text, err := os.ReadFile(path) //nolint:gosec // whoever runs the command names it
	if err != nil {
		return nil, fmt.Errorf("while reading the clouds: %w", err)
	}
	var file struct {
		Clouds map[string]osCloud `yaml:"clouds"`
	}
	if yaml.Unmarshal(text, &file) != nil {
		// Not the cause: it quotes what may be a secret.
		return nil, fmt.Errorf("%s is no YAML that begins with clouds: and has a map below", path)
	}
	return file.Clouds, nil
}

// merge is base with what over says, map by map.
func merge(base, over osCloud) osCloud {
	merged := maps.Clone(base)
	if merged == nil {
		merged = osCloud{}
	}
	for key, value := range over {
		inner, isMap := value.(osCloud)
		if below, ok := merged[key].(osCloud); ok && isMap {
			value = merge(below, inner)
		}
		merged[key] = value
	}
	return merged
}

// text is a scalar as text, "" where it is not there.
func (c osCloud) text(key string) string {
	switch value := c[key].(type) {
	case nil, osCloud, []any:
		return ""
	default:
		return fmt.Sprint(value)
	}
}

// in is the entry for one of its regions, and the region's name: the one that is
// wanted, or the only one.
func (c osCloud) in(wanted string) (osCloud, string, error) {
	var names []string
	values := make(map[string]osCloud)
	if list, ok := c["regions"].([]any); ok {
		for _, region := range list {
			switch r := region.(type) {
			case string:
				names = append(names, r)
			case osCloud:
				names = append(names, r.text("name"))
				values[r.text("name")], _ = r["values"].(osCloud)
			}
		}
	} else if name := c.text("region_name"); name != "" {
		names = []string{name}
	}
	switch {
	case wanted == "" && len(names) == 1:
		wanted = names[0]
	case wanted == "" && len(names) == 0:
		return nil, "", errors.New("region_name: the entry names no region: give --region")
	case wanted == "":
		return nil, "", fmt.Errorf("regions: the entry has several: give --region, one of %s", strings.Join(names, ", "))
	case len(names) > 0 && !slices.Contains(names, wanted):
		return nil, "", fmt.Errorf("--region: the entry has no region %s: it has %s", wanted, strings.Join(names, ", "))
	}
	return merge(c, values[wanted]), wanted, nil
}

// carried are the settings of auth that an infrastructure has, or that say
// nothing beside those.
var carried = []string{
	"auth_url", "username", "user_name", "password", "project_name", "tenant_name", "user_domain_name", "user_domain_id",
	"project_domain_name", "project_domain_id", "domain_name", "domain_id", "default_domain", "default_domain_name", "default_domain_id",
	"application_credential_id", "application_credential_name", "application_credential_secret",
	"identity_provider", "protocol", "access_token", "allow_reauth",
}

// infrastructure is the body that registers the entry's region. It fails for
// what cannot be carried over, rather than register something else.
func (c osCloud) infrastructure(region string) (map[string]string, error) {
	auth, _ := c["auth"].(osCloud)
	switch version := c.text("identity_api_version"); {
	case version != "" && !strings.HasPrefix(strings.TrimPrefix(version, "v"), "3"):
		return nil, fmt.Errorf("identity_api_version: Flavorsync speaks version 3 of Keystone only, not %s", version)
	case c["verify"] == false, c["insecure"] == true:
		return nil, errors.New("verify: Flavorsync always verifies certificates: give the authority's certificate as cacert instead")
	case c.text("cert") != "" || c.text("key") != "":
		return nil, errors.New("cert: Flavorsync has no client certificates: the region must take it without one")
	case c.text("profile") != "" || c.text("cloud") != "":
		return nil, errors.New("profile: vendor profiles are not read: write auth_url and the rest into the entry")
	}
	if face := strings.TrimSuffix(cmp.Or(c.text("interface"), c.text("endpoint_type")), "URL"); face != "" && face != "public" && c.text("compute_endpoint_override") == "" {
		return nil, fmt.Errorf("interface: Flavorsync calls public endpoints, not %s ones: leave it out, or give compute_endpoint_override", face)
	}
	kind, err := c.authType(auth)
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(auth)) {
		if !slices.Contains(carried, key) {
			return nil, fmt.Errorf("auth.%s: cannot be carried over: a service account has names of user, project and domains, and a secret of its own", key)
		}
	}
	body := map[string]string{"name": region, "keystone_url": auth.text("auth_url"), "nova_url": c.text("compute_endpoint_override")}
	user := cmp.Or(auth.text("username"), auth.text("user_name"))
	project := cmp.Or(auth.text("project_name"), auth.text("tenant_name"))
	userDomain, err := auth.domain("user_domain")
	if err != nil {
		return nil, err
	}
	projectDomain, err := auth.domain("project_domain")
	if err != nil {
		return nil, err
	}
	switch kind {
	case flavor.AuthApplicationCredential:
		body["application_credential_id"] = auth.text("application_credential_id")
		if body["application_credential_id"] == "" {
			body["application_credential_name"], body["username"], body["user_domain_name"] = auth.text("application_credential_name"), user, userDomain
		}
	case flavor.AuthOIDCAccessToken:
		body["identity_provider"], body["protocol"] = auth.text("identity_provider"), auth.text("protocol")
		body["tenant"], body["project_domain_name"] = project, projectDomain
	default:
		body["username"], body["user_domain_name"], body["tenant"], body["project_domain_name"] = user, userDomain, project, projectDomain
	}
	if kind != flavor.AuthPassword {
		body["auth_type"] = string(kind)
	}
	if body[kind.Secret()] = auth.text(kind.Secret()); body[kind.Secret()] == "" {
		return nil, fmt.Errorf("auth.%s: is missing: write it into the entry, or into secure.yaml beside it", kind.Secret())
	}
	if body["keystone_url"] == "" {
		return nil, errors.New("auth.auth_url: is missing: say where Keystone is")
	}
	if body["ca_certificate"], err = c.caCertificate(); err != nil {
		return nil, err
	}
	maps.DeleteFunc(body, func(_, value string) bool { return value == "" })
	return body, nil
}

// authType is the kind of service account that the entry has.
func (c osCloud) authType(auth osCloud) (flavor.AuthType, error) {
	switch kind := c.text("auth_type"); kind {
	case "":
		if auth.text("application_credential_secret") != "" {
			return flavor.AuthApplicationCredential, nil
		}
		return flavor.AuthPassword, nil
	case "password", "v3password":
		return flavor.AuthPassword, nil
	case string(flavor.AuthApplicationCredential), string(flavor.AuthOIDCAccessToken):
		return flavor.AuthType(kind), nil
	default:
		return "", fmt.Errorf("auth_type: %s cannot be carried over: use %s, %s or %s", kind, flavor.AuthPassword, flavor.AuthApplicationCredential, flavor.AuthOIDCAccessToken)
	}
}

// domain is the name of a domain, "" where none is given. Of domains that are
// given by their id only the one that every Keystone has is known by name.
func (c osCloud) domain(key string) (string, error) {
	if name := cmp.Or(c.text(key+"_name"), c.text("domain_name"), c.text("default_domain_name")); name != "" {
		return name, nil
	}
	switch id := cmp.Or(c.text(key+"_id"), c.text("domain_id"), c.text("default_domain_id"), c.text("default_domain")); id {
	case "", "default":
		return "", nil
	default:
		return "", fmt.Errorf("auth.%s_id: Flavorsync wants domains by name: give %s_name", key, key)
	}
}

// caCertificate is what is in the file that cacert names, relative to the working
// directory, as the OpenStack client has it.
func (c osCloud) caCertificate() (string, error) {
	path := c.text("cacert")
	if path == "" {
		return "", nil
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("cacert: %w", err)
		}
		path = filepath.Join(home, rest)
	}
	text, err := os.ReadFile(path) //nolint:gosec // whoever runs the command names it
	if err != nil {
		return "", fmt.Errorf("cacert: %w", err)
	}
	return string(text), nil
}
