package ucloud

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/store"
)

// Mode is whether, and by which generation of the protocol, products are pushed.
type Mode string

// The modes of a push.
const (
	Off Mode = "off" // they are registered with Core by hand
	V1  Mode = "v1"  // UCloud 2021 to 2023
	V2  Mode = "v2"  // UCloud since 2023
)

const defaultInterval = 15 * time.Minute

// Config is what a Provider works with. The first group are settings, and the
// only ones that Validate looks at, with AllowHTTP.
type Config struct {
	ProviderID string
	// PublicKey is what Core's tokens are verified with, as UCloud gives it to a
	// provider: SubjectPublicKeyInfo in DER and base64. An X.509 certificate does
	// too, and so do PEM's armour and white space.
	PublicKey    string
	CoreURL      string
	RefreshToken flavor.Secret
	Push         Mode          // "" is Off
	PushInterval time.Duration // how often what Core has is compared with the products; 0 is 15 minutes

	AllowHTTP     bool
	AllowNetworks []netip.Prefix // private networks that Core may be in

	Store    *store.Store
	Products Offers
	Log      *slog.Logger

	Now    func() time.Time // nil: time.Now
	Jitter func() float64   // in [0, 1); nil: random
}

// Configured says whether c is about a provider at all.
func (c Config) Configured() bool {
	return c.ProviderID != "" || c.PublicKey != "" || c.CoreURL != "" || c.RefreshToken != "" || c.Push != "" && c.Push != Off
}

func (c Config) withDefaults() Config {
	if c.Push == "" {
		c.Push = Off
	}
	if c.PushInterval == 0 {
		c.PushInterval = defaultInterval
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// providerID is narrower than UCloud's own rule: it goes into paths as it is,
// and Core's cursors part at an @.
var providerID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Validate tells everything that is wrong with the settings, as an errors.Join
// of errors that each begin with the setting's name, as internal/config calls
// it, and a colon, and say what to do. No error holds a secret.
func (c Config) Validate() error {
	if !c.Configured() {
		return nil
	}
	c = c.withDefaults()
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case c.ProviderID == "":
		wrong("provider_id: is missing: give the id that UCloud knows this provider by")
	case !providerID.MatchString(c.ProviderID):
		wrong("provider_id: must have 1 to 64 letters, digits and . _ -, and begin with a letter or a digit")
	}
	if c.PublicKey == "" {
		wrong("public_key: is missing: give the public key that UCloud shows for this provider, such as MIIBIjANBgkq...")
	} else if _, err := parsePublicKey(c.PublicKey); err != nil {
		wrong("public_key: %w", err)
	}
	if c.PushInterval < time.Second {
		wrong("push_interval: must be at least 1s, such as 15m")
	}
	switch c.Push {
	case Off:
	case V1, V2:
		c.validatePush(wrong)
	default:
		wrong("push: %q is unknown: write v2, v1 or off", string(c.Push))
	}
	return errors.Join(errs...)
}

func (c Config) validatePush(wrong func(string, ...any)) {
	u, err := url.Parse(c.CoreURL)
	switch {
	case c.CoreURL == "":
		wrong("core_url: is missing: give the address of UCloud, such as https://cloud.sdu.dk, or write push: off")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		wrong("core_url: must be an https URL with a host, without user, query and fragment")
	case u.Scheme == "http" && !c.AllowHTTP:
		wrong("core_url: is plain http, which would show the refresh token to everybody on the way: write https, or allow it with outgoing.allow_http")
	}
	switch {
	case c.RefreshToken == "":
		wrong("refresh_token: is missing: give the refresh token that UCloud shows for this provider, or write push: off")
	case strings.ContainsFunc(string(c.RefreshToken), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		wrong("refresh_token: must not hold white space or a control character")
	}
}

var armour = regexp.MustCompile(`-----(BEGIN|END) [A-Z0-9 ]+-----`)

const minKeyBits = 2048

// parsePublicKey reads what the JVM library of UCloud's providers reads: a
// certificate first, else a bare key.
func parsePublicKey(text string) (*rsa.PublicKey, error) {
	bare := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, armour.ReplaceAllString(text, ""))
	der, err := base64.StdEncoding.DecodeString(bare)
	if err != nil {
		return nil, errors.New("is not base64: give the key as UCloud shows it, which begins like MIIBIjANBgkq")
	}
	var key any
	if certificate, err := x509.ParseCertificate(der); err == nil {
		key = certificate.PublicKey
	} else if key, err = x509.ParsePKIXPublicKey(der); err != nil {
		return nil, errors.New("is neither a public key (SubjectPublicKeyInfo) nor an X.509 certificate: give the key as UCloud shows it")
	}
	public, ok := key.(*rsa.PublicKey)
	switch {
	case !ok:
		return nil, errors.New("is not an RSA key: UCloud signs with RS256")
	case public.N.BitLen() < minKeyBits:
		return nil, fmt.Errorf("has %d bits: an RSA key needs %d at least", public.N.BitLen(), minKeyBits)
	}
	return public, nil
}
