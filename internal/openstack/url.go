package openstack

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// parseURL reads a URL of Keystone or Nova, registered or from a catalog: http
// or https with a host, without user, query and fragment, and without slashes
// at its end.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil {
		return nil, fmt.Errorf("reading a URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not the URL of a service", u.Redacted())
	}
	u.Host = strings.ToLower(u.Host)
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

var keystoneVersion = regexp.MustCompile(`/v(2\.0|3(\.\d+)?)$`)

// keystoneBase is where Keystone's versions live: the URL without one, with a
// slash at its end. The versions a Keystone lists at its root are not asked
// for: behind a proxy their links often name a host nobody can reach.
func keystoneBase(raw string) (*url.URL, error) {
	u, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	u.Path, u.RawPath = keystoneVersion.ReplaceAllString(u.Path, "")+"/", ""
	return u, nil
}

var novaVersion = regexp.MustCompile(`^(.*)/v2(?:\.\d)?(/[^/]+)?$`)

// novaEndpoint is the URL of Nova's API v2.1, with a slash at its end. What has
// no version gets one: a bare Nova answers /flavors with 300 and a list of
// versions. The legacy /v2 becomes /v2.1: it answers, but knows no
// microversion, so it hides extra specs and descriptions. A project in the path
// stays.
func novaEndpoint(raw string) (*url.URL, error) {
	u, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	if m := novaVersion.FindStringSubmatch(u.Path); m != nil {
		u.Path = m[1] + "/v2.1" + m[2] + "/"
	} else {
		u.Path += "/v2.1/"
	}
	u.RawPath = ""
	return u, nil
}
