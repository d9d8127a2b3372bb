package flavor

import (
	"log/slog"
	"net/url"
	"regexp"
	"time"
)

// Secret is a password or a token: it prints as stars everywhere.
type Secret string

func (Secret) String() string { return "***" }

// GoString is for %#v.
func (Secret) GoString() string { return "***" }

// LogValue is for log/slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalText is for JSON, XML and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Region is an infrastructure: an OpenStack region, where its Keystone and Nova
// are, and the service account we act with there.
type Region struct {
	Name        string   // as in Keystone's catalog
	KeystoneURL string   // with or without a version path
	NovaURL     string   // "": found in the catalog
	AuthType    AuthType // "" is AuthPassword
	Username    string   // of the password, or of the named application credential
	// Password is the secret of the service account: by its AuthType the
	// password, the application credential's secret, or the access token.
	Password      Secret
	Tenant        string // the project's name; "" with an application credential, which has its own
	UserDomain    string // name
	ProjectDomain string // name
	// ApplicationCredentialID says which it is; else its name and its user do.
	ApplicationCredentialID   string
	ApplicationCredentialName string
	// IdentityProvider and Protocol are what Keystone calls those with which
	// it takes the access token.
	IdentityProvider string
	Protocol         string
	// CACertificate is PEM: certificates that vouch for this region's
	// Keystone and Nova, besides those of the system; "" is none.
	CACertificate string
	// Trusted: a manager says callers' Keystone tokens may be shown to
	// this region's own Keystone.
	Trusted bool
	// NovaURLTrusted: a manager registered NovaURL, so callers' tokens may go there.
	NovaURLTrusted bool
	// CACertificateTrusted: a manager registered CACertificate, so callers'
	// tokens may go where it alone vouches.
	CACertificateTrusted bool
	Status               RegionStatus
}

// RegionState is what the last look at a region found.
type RegionState string

// The states of a region.
const (
	RegionUnknown     RegionState = "unknown"     // never asked
	RegionUp          RegionState = "up"          // answers, and accepts the service account
	RegionUnreachable RegionState = "unreachable" // does not answer, or answers nonsense
	RegionRefused     RegionState = "refused"     // refuses the service account
)

// RegionStatus is the outcome of the last look at a region.
type RegionStatus struct {
	State     RegionState
	LastError string    // "" where the last look went well
	CheckedAt time.Time // zero: never
}

var regionName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// ValidRegionName says whether name can be a region's.
func ValidRegionName(name string) bool {
	return regionName.MatchString(name) && name != "." && name != ".."
}

// Validate tells the first field that cannot be registered.
func (r Region) Validate() error {
	if r.AuthType == "" {
		r.AuthType = AuthPassword
	}
	if !ValidRegionName(r.Name) {
		return Invalid("name: a region name has 1 to 64 letters, digits and . _ -")
	}
	for _, u := range []struct{ field, value string }{{"keystone_url", r.KeystoneURL}, {"nova_url", r.NovaURL}} {
		if u.field == "nova_url" && u.value == "" {
			continue
		}
		parsed, err := url.Parse(u.value)
		if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "" ||
			parsed.User != nil || parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "" || len(u.value) > 2000 {
			return Invalid("%s: must be an http or https URL with a host, without user, query and fragment", u.field)
		}
	}
	return r.validateAccount()
}

// Principal is who is asking.
type Principal struct {
	ID       string
	Name     string
	Provider string   // the identity provider that vouches: keyrock, accounts, ...
	Roles    []string // as the provider names them, sorted
	Manager  bool     // has the role InfrastructureManager
	Regions  []string // the regions this caller owns, sorted
	// KeystoneUser is the id of the caller's user in the federation's Keystone,
	// where the provider tells; "" where it is not known.
	KeystoneUser string
}
