// Package config reads the configuration: one struct, from a YAML file and the
// environment, every error reported at once.
package config

import (
	"crypto/tls"
	"net/netip"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/glue2"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/ucloud"
	"github.com/flavorsync/flavorsync/internal/webhooks"
)

// Config is the configuration; its fields mirror the YAML. What is secret in it
// prints as stars.
type Config struct {
	Listen            string                    `koanf:"listen"`         // host:port of the API
	MetricsListen     string                    `koanf:"metrics_listen"` // host:port of /metrics; "" for none
	TLS               TLS                       `koanf:"tls"`
	TrustedProxies    []netip.Prefix            `koanf:"trusted_proxies"` // whose X-Forwarded-For and -Proto are believed
	CORS              CORS                      `koanf:"cors"`
	Database          Database                  `koanf:"database"`
	KeystoneURL       string                    `koanf:"keystone_url"`       // the federation's own Keystone; "" for none
	CredentialsKeyset string                    `koanf:"credentials_keyset"` // path of the tink keyset
	CredentialsKMS    string                    `koanf:"credentials_kms"`    // URI of the key that encrypts it; "" for none
	Outgoing          Outgoing                  `koanf:"outgoing"`
	Limits            Limits                    `koanf:"limits"`
	Identity          []identity.ProviderConfig `koanf:"identity"`
	Promotion         Promotion                 `koanf:"promotion"`
	Pricing           Pricing                   `koanf:"pricing"`
	Engine            Engine                    `koanf:"engine"`
	UCloud            UCloud                    `koanf:"ucloud"`
	GLUE2             glue2.Config              `koanf:"glue2"`
	Audit             Audit                     `koanf:"audit"`
	Tracing           Tracing                   `koanf:"tracing"`
	Events            Events                    `koanf:"events"`
	Webhooks          []webhooks.Config         `koanf:"webhooks"`
}

// TLS is the certificate that listen shows; without one it speaks plain HTTP.
type TLS struct {
	CertFile   string `koanf:"cert_file"`   // path; PEM, with the chain behind the certificate
	KeyFile    string `koanf:"key_file"`    // path; PEM
	MinVersion string `koanf:"min_version"` // 1.2 or 1.3
}

// Version is MinVersion as crypto/tls has it, 0 where it is none.
func (t TLS) Version() uint16 {
	switch t.MinVersion {
	case "1.2":
		return tls.VersionTLS12
	case "1.3":
		return tls.VersionTLS13
	}
	return 0
}

// CORS is which pages may call from a browser.
type CORS struct {
	AllowOrigins []string `koanf:"allow_origins"` // scheme://host[:port] as browsers write it, or *
}

// Database is where everything is stored.
type Database struct {
	Driver string        `koanf:"driver"` // sqlite or mysql
	DSN    flavor.Secret `koanf:"dsn"`    // a file's path, or user:password@tcp(host:3306)/name
}

// Outgoing is what may be called.
type Outgoing struct {
	AllowHTTP     bool           `koanf:"allow_http"`
	AllowNetworks []netip.Prefix `koanf:"allow_networks"` // private networks that may be called all the same
}

// Limits are what callers may do; 0 is no limit.
type Limits struct {
	RequestsPerSecond     int `koanf:"requests_per_second"`      // for each caller
	FailedLoginsPerMinute int `koanf:"failed_logins_per_minute"` // for each address with basic credentials
	FailedTokensPerMinute int `koanf:"failed_tokens_per_minute"` // for each address with tokens
	Connections           int `koanf:"connections"`              // open at once
	ConnectionsPerAddress int `koanf:"connections_per_address"`  // of each but this machine's and trusted_proxies'
}

// Audit is how long what callers changed is remembered.
type Audit struct {
	Retention time.Duration `koanf:"retention"` // 0: for ever
}

// Tracing is where traces go.
type Tracing struct {
	OTLPEndpoint string  `koanf:"otlp_endpoint"` // URL of a receiver of OTLP over HTTP; "" for none
	Sample       float64 `koanf:"sample"`        // how much of all traces is made, from 0 to 1
}

// Events is how long what has happened can be followed.
type Events struct {
	Retention time.Duration `koanf:"retention"` // 0: for ever
}

// Promotion is what happens to promoted flavors by itself: in the whole
// federation, and where a region or a flavor is told otherwise.
type Promotion struct {
	Install string                   `koanf:"install"` // manual or automatic
	Repair  bool                     `koanf:"repair"`
	Regions map[string]PromotionPart `koanf:"regions"` // by name
	Flavors map[string]PromotionPart `koanf:"flavors"` // by id or name
}

// PromotionPart is what is said for one region or one flavor.
type PromotionPart struct {
	Install string `koanf:"install"` // "": nothing
	Repair  *bool  `koanf:"repair"`  // nil: nothing
}

// The ways to install promoted flavors.
const (
	manual    = "manual"
	automatic = "automatic"
)

// Policy is p as the marketplace has it; of a Config that Load gave.
func (p Promotion) Policy() flavor.Policy {
	part := func(install string, repair *bool) flavor.PolicyPart {
		said := flavor.PolicyPart{Repair: repair}
		if install != "" {
			said.Install = new(install == automatic)
		}
		return said
	}
	parts := func(of map[string]PromotionPart) map[string]flavor.PolicyPart {
		all := make(map[string]flavor.PolicyPart, len(of))
		for name, said := range of {
			all[name] = part(said.Install, said.Repair)
		}
		return all
	}
	return flavor.Policy{PolicyPart: part(p.Install, &p.Repair), Regions: parts(p.Regions), Flavors: parts(p.Flavors)}
}

// Pricing is what promoted flavors cost as products where no manager has said
// something else. The prices are decimals such as "0.34"; with none of them
// there is no formula.
type Pricing struct {
	PerVCPU  string `koanf:"per_vcpu"`
	PerGB    string `koanf:"per_gb"` // of memory, 1024 MB
	PerGPU   string `koanf:"per_gpu"`
	Currency string `koanf:"currency"` // three capital letters; "" for none
	Period   string `koanf:"period"`   // minute, hour or day
}

// Formula is p as the marketplace has it; of a Config that Load gave.
func (p Pricing) Formula() flavor.Pricing {
	f := flavor.Pricing{Currency: p.Currency, Period: flavor.Period(p.Period)}
	for _, price := range []struct {
		text string
		into *flavor.Amount
	}{{p.PerVCPU, &f.VCPU}, {p.PerGB, &f.GB}, {p.PerGPU, &f.GPU}} {
		if price.text != "" {
			*price.into, _ = flavor.ParseAmount("", price.text) // check has tried it
		}
	}
	return f
}

// Engine bounds the work towards the regions.
type Engine struct {
	SweepInterval time.Duration `koanf:"sweep_interval"`
	MaxInFlight   int           `koanf:"max_in_flight"`  // calls at once, over all regions
	RegionTimeout time.Duration `koanf:"region_timeout"` // of one call to one region
}

// UCloud is the provider of UCloud that this is, if provider_id is set.
type UCloud struct {
	ProviderID      string        `koanf:"provider_id"`
	PublicKey       string        `koanf:"public_key"`       // base64, as UCloud shows it
	CoreURL         string        `koanf:"core_url"`         // where UCloud itself is
	RefreshToken    flavor.Secret `koanf:"refresh_token"`    // as UCloud shows it
	Push            ucloud.Mode   `koanf:"push"`             // v2, v1 or off
	PushInterval    time.Duration `koanf:"push_interval"`    // how often what Core has is compared
	DefaultCategory string        `koanf:"default_category"` // of products that name none
}

// Provider is the settings as package ucloud has them. How to push says nothing
// where no provider is named: it has a default.
func (c *Config) Provider() ucloud.Config {
	u := c.UCloud
	if u.ProviderID == "" && u.PublicKey == "" && u.CoreURL == "" && u.RefreshToken == "" {
		u.Push = ucloud.Off
	}
	return ucloud.Config{
		ProviderID: u.ProviderID, PublicKey: u.PublicKey, CoreURL: u.CoreURL, RefreshToken: u.RefreshToken,
		Push: u.Push, PushInterval: u.PushInterval,
		AllowHTTP: c.Outgoing.AllowHTTP, AllowNetworks: c.Outgoing.AllowNetworks,
	}
}

// Default is the configuration where nothing is configured.
func Default() Config {
	return Config{
		Listen:            "127.0.0.1:8080",
		TLS:               TLS{MinVersion: "1.2"},
		Database:          Database{Driver: "sqlite", DSN: "flavorsync.db"},
		CredentialsKeyset: "keyset.json",
		Limits:            Limits{FailedLoginsPerMinute: 60, FailedTokensPerMinute: 6000, Connections: 10_000, ConnectionsPerAddress: 256},
		Audit:             Audit{Retention: 365 * 24 * time.Hour},
		Tracing:           Tracing{Sample: 1},
		Events:            Events{Retention: 7 * 24 * time.Hour},
		Promotion:         Promotion{Install: manual},
		Pricing:           Pricing{Period: "hour"},
		UCloud:            UCloud{Push: ucloud.V2, PushInterval: 15 * time.Minute, DefaultCategory: "uc-general"},
		Engine:            Engine{SweepInterval: 60 * time.Second, MaxInFlight: 32, RegionTimeout: 10 * time.Second},
	}
}
