// Package webhooks tells others what has happened, by calling them: each event
// once at least, in order, signed as the Standard Webhooks specification says
// (https://www.standardwebhooks.com), again and again until it is taken.
package webhooks

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Config is one webhook, as it is configured.
type Config struct {
	// Name is by which the database knows how far it has been told: under another
	// name it begins anew.
	Name string `koanf:"name"`
	URL  string `koanf:"url"`
	// Secret is base64 of 24 to 64 bytes, with or without the specification's
	// whsec_ before it.
	Secret  flavor.Secret      `koanf:"secret"`
	Types   []flavor.EventType `koanf:"types"`   // none: all
	Regions []string           `koanf:"regions"` // none: all, and events of no region
}

var webhookName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,39}$`)

// key is what messages are signed with.
func (c Config) key() ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(c.Secret), "whsec_"))
	if err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("must be base64 of 24 to 64 random bytes: openssl rand -base64 32 makes one")
	}
	return key, nil
}

// Validate tells everything of c that is no good, each with the setting's name
// before it. Plain http is for allowHTTP only.
func (c Config) Validate(allowHTTP bool) error {
	var errs []error
	wrong := func(setting, format string, args ...any) {
		errs = append(errs, fmt.Errorf(setting+": "+format, args...))
	}
	if !webhookName.MatchString(c.Name) {
		wrong("name", "must have 1 to 40 small letters, digits and . _ -, and begin with a letter or a digit")
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "":
		wrong("url", "must be an https URL with a host, without user and fragment")
	case u.Scheme == "http" && !allowHTTP:
		wrong("url", "is plain http, where anybody on the way may read and hold back what happens: write https, or allow it with outgoing.allow_http")
	}
	if _, err := c.key(); err != nil {
		wrong("secret", "%w", err)
	}
	for i, t := range c.Types {
		if !slices.Contains(flavor.EventTypes, t) {
			wrong(fmt.Sprintf("types[%d]", i), "%q is no type of events", string(t))
		}
	}
	for i, r := range c.Regions {
		if !flavor.ValidRegionName(r) {
			wrong(fmt.Sprintf("regions[%d]", i), "%q cannot be the name of a region", r)
		}
	}
	return errors.Join(errs...)
}

// Distinct refuses two webhooks of one name.
func Distinct(all []Config) error {
	var errs []error
	for i, c := range all {
		if slices.ContainsFunc(all[:i], func(other Config) bool { return other.Name == c.Name }) {
			errs = append(errs, fmt.Errorf("webhooks[%d].name: %q is another webhook's: they would be told in turns", i, c.Name))
		}
	}
	return errors.Join(errs...)
}
