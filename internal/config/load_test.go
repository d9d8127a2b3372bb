package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/glue2"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/ucloud"
	"github.com/flavorsync/flavorsync/internal/webhooks"
)

const hash = "$2a$04$EPUJiSnE9ItMJDYrkFbzTuWdMoBf7P5LJ5CqyKxLfZRHPwSfk3nRm"

var equal = cmp.Options{cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flavorsync.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every scalar of the contract's example has its documented default.
func TestDefaults(t *testing.T) {
	got, err := Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	if diff := cmp.Diff(&want, got, equal); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct{ what, want, got any }{
		{"listen", "127.0.0.1:8080", got.Listen},
		{"metrics_listen", "", got.MetricsListen},
		{"tls.min_version", "1.2", got.TLS.MinVersion},
		{"database.driver", "sqlite", got.Database.Driver},
		{"database.dsn", "flavorsync.db", string(got.Database.DSN)},
		{"credentials_keyset", "keyset.json", got.CredentialsKeyset},
		{"outgoing.allow_http", false, got.Outgoing.AllowHTTP},
		{"requests_per_second", 0, got.Limits.RequestsPerSecond},
		{"failed_logins_per_minute", 60, got.Limits.FailedLoginsPerMinute},
		{"failed_tokens_per_minute", 6000, got.Limits.FailedTokensPerMinute},
		{"connections", 10000, got.Limits.Connections},
		{"connections_per_address", 256, got.Limits.ConnectionsPerAddress},
		{"audit.retention", 8760 * time.Hour, got.Audit.Retention},
		{"tracing.otlp_endpoint", "", got.Tracing.OTLPEndpoint},
		{"tracing.sample", 1.0, got.Tracing.Sample},
		{"events.retention", 168 * time.Hour, got.Events.Retention},
		{"promotion.install", "manual", got.Promotion.Install},
		{"sweep_interval", 60 * time.Second, got.Engine.SweepInterval},
		{"max_in_flight", 32, got.Engine.MaxInFlight},
		{"region_timeout", 10 * time.Second, got.Engine.RegionTimeout},
	} {
		if c.want != c.got {
			t.Errorf("%v is %v, not the documented %v", c.what, c.got, c.want)
		}
	}
}

const full = `
listen: "[::1]:9000"
metrics_listen: :9100
tls: {cert_file: /etc/flavorsync/tls.crt, key_file: /etc/flavorsync/tls.key, min_version: "1.3"}
trusted_proxies: [192.0.2.1/32, "2001:db8::/64"]
cors: {allow_origins: ["https://dash.example.org", "http://localhost:8000"]}
database: {driver: mysql, dsn: "flavorsync:s3cret#:@tcp(db:3306)/flavorsync"}
keystone_url: https://cloud.example.org:5000/v3
credentials_keyset: /etc/flavorsync/keyset.json
outgoing: {allow_http: true, allow_networks: [10.0.0.0/8, "fd00::/8"]}
limits: {requests_per_second: 7, failed_logins_per_minute: 0, failed_tokens_per_minute: 5, connections: 4, connections_per_address: 3}
identity:
  - {type: keyrock, url: "https://account.example.org/user", app_id: "f00", organizations: {"a.b": Trento, "0123": Spain2}, timeout: 750ms}
  - {type: accounts, users: [{name: spain2, password_hash: "` + hash + `", roles: [InfrastructureManager], regions: [Spain2]}]}
audit: {retention: 720h}
tracing: {otlp_endpoint: "https://otel.example.org:4318/x", sample: 0.25}
events: {retention: 48h}
webhooks: [{name: dash, url: "http://dash.example.org/hook?a=b", secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, types: [node.failed], regions: [Trento]}]
promotion: {install: manual, repair: false}
pricing: {per_vcpu: "0.05", per_gb: "0.0125", per_gpu: "7.5", currency: DKK, period: day}
engine: {sweep_interval: 2m, max_in_flight: 5, region_timeout: 1s500ms}
glue2: {sites: {a.b: {gocdb: BIFI, gocdb_id: 12249G0, endpoint: "https://k:5000/v3", vos: [{name: ops, auth: {project_id: p1}}]}}}
ucloud: {provider_id: aau, public_key: "` + publicKey + `", core_url: "https://cloud.example.org", refresh_token: s3cret, push: v1, push_interval: 1h, default_category: uc-x}
`

// publicKey is one of RSA-2048, as UCloud shows it.
const publicKey = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA5wXCLwaivZDCnKEuhj7ynM38OtEIsF6IwRZVj43oDufvufZeLgd/Cl6V1/vZS1frbX8ffwSQasXRew3PQYWHSnOnvIboUW5bBYrkszz61duxnCDVrGKkPoT2hb4TY6Mid8vlqerOvhNcTiBD0nm1Mr7Uhlm9xsWoKQqSlZdZTPQj2Povu1OVOD7afpnDGlVxdn7S5q2vwVUcvysTkqMMmzVY1/3it+imPV0dZLIaqP0cwIKHkD4r2yLGMDjEooLQ/ZXUNvnOh6M09LGswxUm8NWJlznR0Dq0Ud8Fci8hRNgUZoQ0NjNBqRQQB+3SLRGbNQ3DP5GVftKCKzCiKVq/zwIDAQAB"

var fullConfig = Config{
	Listen: "[::1]:9000", MetricsListen: ":9100",
	TLS:               TLS{CertFile: "/etc/flavorsync/tls.crt", KeyFile: "/etc/flavorsync/tls.key", MinVersion: "1.3"},
	TrustedProxies:    []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64")},
	CORS:              CORS{AllowOrigins: []string{"https://dash.example.org", "http://localhost:8000"}},
	Database:          Database{Driver: "mysql", DSN: "flavorsync:s3cret#:@tcp(db:3306)/flavorsync"},
	KeystoneURL:       "https://cloud.example.org:5000/v3",
	CredentialsKeyset: "/etc/flavorsync/keyset.json",
	Outgoing:          Outgoing{AllowHTTP: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}},
	Limits:            Limits{RequestsPerSecond: 7, FailedTokensPerMinute: 5, Connections: 4, ConnectionsPerAddress: 3},
	Identity: []identity.ProviderConfig{
		{
			Type: "keyrock", URL: "https://account.example.org/user", AppID: "f00", Organizations: map[string]string{"a.b": "Trento", "0123": "Spain2"},
			OrganizationPattern: "(?P<region>.+) FIDASH", ManagerRole: "InfrastructureManager", OwnerRole: "InfrastructureOwner",
			Timeout: 750 * time.Millisecond, CacheSize: 10000,
		},
		{Type: "accounts", Users: []identity.Account{{Name: "spain2", PasswordHash: hash, Roles: []string{"InfrastructureManager"}, Regions: []string{"Spain2"}}}},
	},
	Audit:   Audit{Retention: 720 * time.Hour},
	Tracing: Tracing{OTLPEndpoint: "https://otel.example.org:4318/x", Sample: 0.25},
	Events:  Events{Retention: 48 * time.Hour},
	Webhooks: []webhooks.Config{{
		Name: "dash", URL: "http://dash.example.org/hook?a=b", Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		Types: []flavor.EventType{flavor.NodeFailed}, Regions: []string{"Trento"},
	}},
	Promotion: Promotion{Install: "manual"},
	Pricing:   Pricing{PerVCPU: "0.05", PerGB: "0.0125", PerGPU: "7.5", Currency: "DKK", Period: "day"},
	Engine:    Engine{SweepInterval: 2 * time.Minute, MaxInFlight: 5, RegionTimeout: 1500 * time.Millisecond},
	UCloud: UCloud{
		ProviderID: "aau", PublicKey: publicKey, CoreURL: "https://cloud.example.org", RefreshToken: "s3cret", Push: ucloud.V1,
		PushInterval: time.Hour, DefaultCategory: "uc-x",
	},
	GLUE2: glue2.Config{Sites: map[string]glue2.Site{"a.b": {
		GOCDB: "BIFI", GOCDBID: "12249G0", Endpoint: "https://k:5000/v3", VOs: []glue2.VO{{Name: "ops", Auth: glue2.Auth{ProjectID: "p1"}}},
	}}},
}

// openid is an issuer with the documented defaults, changed.
func openid(name, issuer string, change func(*identity.ProviderConfig)) identity.ProviderConfig {
	c := identity.ProviderConfig{
		Type: "oidc", Name: name, Issuer: issuer, AudienceClaims: identity.Texts{"aud"}, Tokens: identity.Texts{"access", "id"},
		Algorithms: identity.Texts{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"},
		ClockSkew:  30 * time.Second, NameClaims: identity.Texts{"name", "preferred_username", "email", "sub"}, Timeout: 2 * time.Second, CacheSize: 10000,
	}
	change(&c)
	return c
}

func TestFile(t *testing.T) {
	got, err := Load(write(t, full), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&fullConfig, got, equal); diff != "" {
		t.Error(diff)
	}
}

// The same settings, each from its own variable, over a file that says other
// things: the environment must win setting by setting, lists as a whole.
func TestEnvironment(t *testing.T) {
	file := write(t, `{listen: "x:1", outgoing: {allow_networks: [192.168.0.0/16]}, limits: {requests_per_second: 1}, identity: [{type: oidc}]}`)
	environ := []string{
		"FLAVORSYNC_LISTEN=overridden:1",
		"FLAVORSYNC_LISTEN=[::1]:9000",
		"FLAVORSYNC_METRICS_LISTEN=:9100",
		"FLAVORSYNC_TLS_CERT_FILE=/etc/flavorsync/tls.crt", "FLAVORSYNC_TLS_KEY_FILE=/etc/flavorsync/tls.key", "FLAVORSYNC_TLS_MIN_VERSION=1.3",
		`FLAVORSYNC_TRUSTED_PROXIES=[192.0.2.1/32, "2001:db8::/64"]`,
		`FLAVORSYNC_CORS_ALLOW_ORIGINS=["https://dash.example.org", "http://localhost:8000"]`,
		"FLAVORSYNC_DATABASE_DRIVER=mysql",
		"FLAVORSYNC_DATABASE_DSN=flavorsync:s3cret#:@tcp(db:3306)/flavorsync",
		"FLAVORSYNC_KEYSTONE_URL=https://cloud.example.org:5000/v3",
		"FLAVORSYNC_CREDENTIALS_KEYSET=/etc/flavorsync/keyset.json",
		"FLAVORSYNC_OUTGOING_ALLOW_HTTP=true",
		`FLAVORSYNC_OUTGOING_ALLOW_NETWORKS=[10.0.0.0/8, "fd00::/8"]`,
		"FLAVORSYNC_LIMITS={requests_per_second: 3, failed_logins_per_minute: 0, failed_tokens_per_minute: 5, connections: 4, connections_per_address: 3}",
		"FLAVORSYNC_LIMITS_REQUESTS_PER_SECOND=7",
		`FLAVORSYNC_IDENTITY=[{type: keyrock, url: "https://account.example.org/user", app_id: f00, organizations: {a.b: Trento, "0123": Spain2}, timeout: 750ms},
		  {type: accounts, users: [{name: spain2, password_hash: "` + hash + `", roles: [InfrastructureManager], regions: [Spain2]}]}]`,
		"FLAVORSYNC_TRACING_OTLP_ENDPOINT=https://otel.example.org:4318/x", "FLAVORSYNC_TRACING_SAMPLE=0.25",
		"FLAVORSYNC_AUDIT_RETENTION=720h", "FLAVORSYNC_EVENTS_RETENTION=48h",
		`FLAVORSYNC_WEBHOOKS=[{name: dash, url: "http://dash.example.org/hook?a=b", secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, types: [node.failed], regions: [Trento]}]`,
		"FLAVORSYNC_PROMOTION_REPAIR=",
		"FLAVORSYNC_PRICING_PER_VCPU=0.05", "FLAVORSYNC_PRICING_PER_GB=0.0125", "FLAVORSYNC_PRICING_PER_GPU=7.5",
		"FLAVORSYNC_UCLOUD_PROVIDER_ID=aau", "FLAVORSYNC_UCLOUD_PUBLIC_KEY=" + publicKey, "FLAVORSYNC_UCLOUD_CORE_URL=https://cloud.example.org",
		"FLAVORSYNC_UCLOUD_REFRESH_TOKEN=s3cret", "FLAVORSYNC_UCLOUD_PUSH=v1", "FLAVORSYNC_UCLOUD_PUSH_INTERVAL=1h", "FLAVORSYNC_UCLOUD_DEFAULT_CATEGORY=uc-x",
		`FLAVORSYNC_GLUE2_SITES={a.b: {gocdb: BIFI, gocdb_id: 12249G0, endpoint: "https://k:5000/v3", vos: [{name: ops, auth: {project_id: p1}}]}}`,
		"FLAVORSYNC_PRICING_CURRENCY=DKK", "FLAVORSYNC_PRICING_PERIOD=day",
		"FLAVORSYNC_ENGINE_SWEEP_INTERVAL=2m",
		"FLAVORSYNC_ENGINE_MAX_IN_FLIGHT=5",
		"FLAVORSYNC_ENGINE_REGION_TIMEOUT=1s500ms",
		// None of these is a setting.
		"FLAVORSYNC_URL=https://flavorsync.example.org", "FLAVORSYNC_TOKEN=t", "FLAVORSYNC_USERNAME=u", "FLAVORSYNC_PASSWORD=p", "FLAVORSYNC_CONFIG=/x",
		"FLAVORSYNC_TEST_MYSQL_DSN=x", "FLAVORSYNC_ENGINE_MAX=x", "flavorsync_listen=x", "LISTEN=x", "malformed",
	}
	got, err := Load(file, environ)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&fullConfig, got, equal); diff != "" {
		t.Error(diff)
	}
}

// The client commands' variables must never become settings of the server.
func TestReservedVariables(t *testing.T) {
	seen := make(map[string]string)
	for _, s := range settings(reflect.TypeFor[Config](), "") {
		name := s.variable()
		switch name {
		case "FLAVORSYNC_URL", "FLAVORSYNC_TOKEN", "FLAVORSYNC_USERNAME", "FLAVORSYNC_PASSWORD", "FLAVORSYNC_CONFIG":
			t.Errorf("%s takes the variable %s of the client commands", s.path, name)
		}
		if strings.HasPrefix(name, "FLAVORSYNC_TEST_") {
			t.Errorf("%s takes a variable of the tests", s.path)
		}
		if other, twice := seen[name]; twice {
			t.Errorf("%s and %s have one variable", s.path, other)
		}
		seen[name] = s.path
	}
	if seen["FLAVORSYNC_ENGINE_MAX_IN_FLIGHT"] != "engine.max_in_flight" {
		t.Error("engine.max_in_flight has no variable")
	}
}

func TestWrong(t *testing.T) {
	const idm = `identity: [{type: keyrock, url: "https://a/user", `
	for _, c := range []struct {
		name, file string
		environ    []string
		want       []string // of the lines after the first, their beginnings and all of them
	}{
		{"unknown key", "lisen: x", nil, []string{"lisen: is no setting: there are listen, metrics_listen,"}},
		{"unknown inner key", "limits: {requests: 1}", nil, []string{"limits.requests: is no setting: there are requests_per_second, failed_logins_per_minute"}},
		{"other case", "Listen: x", nil, []string{"Listen: is no setting"}},
		{"unknown key in a list", idm + `tiemout: 2s}]`, nil, []string{"identity[0].tiemout: is no setting: there are type, url,"}},
		{"unknown key of a user", `identity: [{type: accounts, users: [{name: a, password: x, password_hash: "` + hash + `"}]}]`, nil, []string{"identity[0].users[0].password: is no setting: there are name, password_hash,"}},
		{"bare duration", "engine: {sweep_interval: 60, region_timeout: 1.5}", nil, []string{"engine.region_timeout: must be a time with its unit", "engine.sweep_interval: must be a time with its unit"}},
		{"duration without unit", "engine: {sweep_interval: '60'}", nil, []string{"engine.sweep_interval: is no time"}},
		{"traces", "tracing: {otlp_endpoint: 'localhost:4318', sample: 1.5}", nil, []string{"tracing.otlp_endpoint: must be an http or https URL", "tracing.sample: must be from 0 to 1"}},
		{"no share of traces", "tracing: {sample: '1'}", nil, []string{"tracing.sample: must be a number"}},
		{"negative duration", "engine: {sweep_interval: -1s, region_timeout: 0s}", nil, []string{"engine.region_timeout: must be above 0", "engine.sweep_interval: must be above 0"}},
		{"retention of events", "events: {retention: 1m}", nil, []string{"events.retention: must be 0, which keeps everything, or at least 1h"}},
		{
			"webhooks", "webhooks: [{name: a, url: 'http://x', secret: c2hvcnQ=}, {name: a, url: 'https://x', secret: short, types: [x], extra: 1}, {}]", nil,
			[]string{
				"webhooks[0].secret: must be base64 of 24 to 64 random bytes", "webhooks[0].url: is plain http",
				"webhooks[1].extra: is no setting", "webhooks[1].name: \"a\" is another webhook's", "webhooks[1].secret: must be base64", "webhooks[1].types[0]: \"x\" is no type",
				"webhooks[2].name: must have", "webhooks[2].secret: must be", "webhooks[2].url: must be",
			},
		},
		{"fraction", "limits: {requests_per_second: 3.7, failed_logins_per_minute: 3.0}", nil, []string{"limits.failed_logins_per_minute: must be a whole number", "limits.requests_per_second: must be a whole number"}},
		{"text for a number", "limits: {requests_per_second: '3'}", nil, []string{"limits.requests_per_second: must be a whole number"}},
		{"huge number", "limits: {requests_per_second: 18446744073709551615}", nil, []string{"limits.requests_per_second: must be a whole number"}},
		{"negative numbers", "{limits: {requests_per_second: -1, connections: -1}, engine: {max_in_flight: 0}}", nil, []string{"engine.max_in_flight: must be at least 1", "limits.connections: must be at least 0", "limits.requests_per_second: must be at least 0"}},
		{"number for text", "{listen: 8080, database: {dsn: 12345}}", nil, []string{"database.dsn: must be text", "listen: must be text"}},
		{"text for a bool", "outgoing: {allow_http: 'yes'}", nil, []string{"outgoing.allow_http: must be true or false"}},
		{"text for a map", "database: sqlite", nil, []string{"database: must be a map"}},
		{"text for a list", "outgoing: {allow_networks: 10.0.0.0/8}", nil, []string{"outgoing.allow_networks: must be a list"}},
		{"networks", "outgoing: {allow_networks: [10.0.0.1, 10.0.0.1/8, x, 5]}", nil, []string{
			"outgoing.allow_networks[0]: 10.0.0.1 is an address: write the network 10.0.0.1/32", "outgoing.allow_networks[1]: 10.0.0.1/8 is an address inside a network: write the network 10.0.0.0/8",
			`outgoing.allow_networks[2]: "x" is no network`, "outgoing.allow_networks[3]: must be a network",
		}},
		{"TLS without a key", `tls: {cert_file: x, min_version: "1.1"}`, nil, []string{"tls.key_file: is missing", `tls.min_version: "1.1" is no version`}},
		{"TLS without a certificate", `tls: {key_file: x, min_version: 1.3}`, nil, []string{"tls.cert_file: is missing", "tls.min_version: must be text: put it in quotes"}},
		{"proxies", "trusted_proxies: [10.0.0.1, '::ffff:10.0.0.0/104']", nil, []string{
			"trusted_proxies[0]: 10.0.0.1 is an address: write the network 10.0.0.1/32", "trusted_proxies[1]: ::ffff:10.0.0.0/104 is IPv4 written as IPv6",
		}},
		{"origins", `cors: {allow_origins: ["null", dash.example.org, "https://dash.example.org/", "https://Dash.example.org", "https://dash.example.org:443", "http://x:80", "https://münchen.example", "ftp://x", "https://u@x", "https://*.x"]}`, nil, []string{
			"cors.allow_origins[0]: null is the origin of every", `cors.allow_origins[1]: "dash.example.org" is no origin`, `cors.allow_origins[2]: "https://dash.example.org/" is no origin`,
			`cors.allow_origins[3]: "https://Dash.example.org" is not as browsers write it`, `cors.allow_origins[4]: "https://dash.example.org:443" is not as browsers write it: leave out the port`,
			`cors.allow_origins[5]: "http://x:80" is not as`, "cors.allow_origins[6]: ", `cors.allow_origins[7]: "ftp://x" is no origin`, "cors.allow_origins[8]: ", "cors.allow_origins[9]: ",
		}},
		{"addresses", "{listen: '8080', metrics_listen: 'localhost:http'}", nil, []string{`listen: "8080" is no address`, `metrics_listen: "localhost:http" is no address`}},
		{"one address for both", "{listen: ':80', metrics_listen: ':80'}", nil, []string{"metrics_listen: is the address of listen"}},
		{"no port of that number", "listen: ':65536'", nil, []string{`listen: ":65536" is no address`}},
		{"driver", "database: {driver: postgres}", nil, []string{`database.driver: "postgres" is no driver`}},
		{"mariadb", "database: {driver: mariadb}", nil, []string{"database.driver: the driver for MariaDB is called mysql"}},
		{"mysql without a DSN", "database: {driver: mysql}", nil, []string{"database.dsn: is no DSN of MySQL or MariaDB"}},
		{"mysql without a database", "database: {driver: mysql, dsn: 'u:p@tcp(h:1)/'}", nil, []string{"database.dsn: is no DSN of MySQL or MariaDB"}},
		{"empty", "{database: {dsn: ''}, credentials_keyset: ''}", nil, []string{"credentials_keyset: is empty", "database.dsn: is empty"}},
		{"keystone", "keystone_url: ftp://x/v3", nil, []string{"keystone_url: must be an http or https URL"}},
		{"keystone with a user", "keystone_url: https://u:p@x/v3", nil, []string{"keystone_url: must be an http or https URL"}},
		{"promotion", "promotion: {install: auto, regions: {a/b: {install: no}, Trento: {repair: x}}, flavors: {m1.small: {instal: manual}}}", nil, []string{
			"promotion.flavors[m1.small].instal: is no setting", `promotion.install: "auto" is unknown: write manual or automatic`,
			"promotion.regions[Trento].repair: must be true or false", "promotion.regions[a/b]: cannot be the name of a region",
			`promotion.regions[a/b].install: "no" is unknown`,
		}},
		{"ucloud", "ucloud: {provider_id: 'a@b', public_key: x, core_url: 'http://x', push_interval: 0s, push: v3, default_category: 'a b'}", nil, []string{
			"ucloud.default_category: must have", "ucloud.provider_id: must have", "ucloud.public_key: is not base64", `ucloud.push: "v3" is unknown`, "ucloud.push_interval: must be at least 1s",
		}},
		{"a push without a provider", "ucloud: {push: v3}", nil, []string{`ucloud.push: "v3" is unknown`}},
		{"a provider without a Core", "ucloud: {provider_id: aau}", nil, []string{"ucloud.core_url: is missing", "ucloud.public_key: is missing", "ucloud.refresh_token: is missing"}},
		{"a Core by plain http", "ucloud: {provider_id: aau, public_key: '" + publicKey + "', core_url: 'http://x', refresh_token: s3cret}", nil, []string{"ucloud.core_url: is plain http"}},
		{"prices", `pricing: {per_vcpu: "-1", per_gb: "0.0000001", per_gpu: "99999999999999999999", currency: dkk, period: week}`, nil, []string{
			`pricing.currency: "dkk" is no currency`, "pricing.per_gb: must have at most 6 digits", "pricing.per_gpu: must be at most",
			"pricing.per_vcpu: must not be below 0", `pricing.period: "week" is no period`,
		}},
		{"a price that was a float", "pricing: {per_vcpu: 0.05, currency: DKK}", nil, []string{"pricing.per_vcpu: must be text: put it in quotes"}},
		{"prices in no currency", `pricing: {per_gpu: "1"}`, nil, []string{"pricing.currency: is missing"}},
		{"sites of EGI", "glue2: {sites: {Trento: {gocdb: 'A B', endpoint: x, vos: [{name: ops, auht: {}}], gocbd_id: 1}, 'a b': {}}}", nil, []string{
			"glue2.sites[Trento].endpoint: must be an http", "glue2.sites[Trento].gocbd_id: is no setting: there are gocdb,", "glue2.sites[Trento].gocdb: must be the site's name",
			"glue2.sites[Trento].vos[0].auht: is no setting: there are name, auth", "glue2.sites[Trento].vos[0].auth.project_id: is missing",
			`glue2.sites[a b]: "a b" is no region's name`, "glue2.sites[a b].endpoint: is missing", "glue2.sites[a b].gocdb: is missing", "glue2.sites[a b].vos: is missing",
		}},
		{"plain http", "{keystone_url: 'http://127.0.0.1:5000', identity: [{type: keyrock, url: 'HTTP://idm.example.org/user'}, {type: keyrock, url: 'https://idm.example.org/user'}]}", nil, []string{
			"identity[0].url: is plain http, which shows", "keystone_url: is plain http, which shows",
		}},
		{"promotion", "promotion: {install: never}", nil, []string{`promotion.install: "never" is unknown`}},
		{"keystone", "identity: [{type: keystone}]", nil, []string{"identity[0].type: keystone asks the federation's Keystone: set keystone_url too"}},
		{"oidc", "identity: [{type: oidc, issuer: 'ftp://x', tokens: refresh, algorithms: [HS256], clock_skew: 1h, opaque: introspection, url: 'https://x', roles: [{claim: a, match: b}], regions: [{claim: a, match: b, role: c}]}, {type: oidc, issuer: 'ftp://x', audience: a, opaque: yes, client_id: x}]", nil, []string{
			"identity[0].algorithms: must be a list of RS256", "identity[0].audience: is missing", "identity[0].client_id: opaque: introspection needs", "identity[0].clock_skew: must be between 1s and 5m0s", "identity[0].issuer: must be an http or https URL",
			"identity[0].regions[0].match: needs a group named region", "identity[0].roles[0].role: must be a role's name", "identity[0].tokens: must be a list of access, id", "identity[0].url: is a setting of type keyrock, not of oidc",
			"identity[1].issuer: must be an http or https URL", "identity[1].name: oidc is the name of identity[0] already", `identity[1].opaque: "yes" is unknown`,
		}},
		{"two of one issuer", "identity: [{type: oidc, name: a, issuer: 'https://x', audience: a}, {type: oidc, name: b, issuer: 'https://x', audience: b}, {type: oidc, name: keyrock, issuer: 'https://y', audience: b}]", nil, []string{
			"identity[1].issuer: is that of identity[0] already", "identity[2].name: keyrock is the name of a type already",
		}},
		{"identity types", "identity: [{type: ldap}, {}, x, null, {type: 5}]", nil, []string{
			`identity[0].type: "ldap" is unknown`, "identity[1].type: is missing", "identity[2]: must be a map", "identity[3]: must be a map", "identity[4].type: is missing",
		}},
		{"identity no list", "identity: {type: keyrock}", nil, []string{"identity: must be a list"}},
		{"keyrock", "identity: [{type: keyrock, url: 'ftp://x', app_id: 12, organizations: {x: 'a b'}, organization_pattern: 'FIDASH', manager_role: '', owner_role: '', timeout: 0s, cache_size: 0, users: []}]", nil, []string{
			"identity[0].app_id: must be text", "identity[0].cache_size: must be at least 1", "identity[0].manager_role: must not be empty", "identity[0].organization_pattern: needs a group",
			`identity[0].organizations[x]: "a b" is no region's name`, "identity[0].owner_role: must not be empty", "identity[0].timeout: must be above 0", "identity[0].url: must be an http", "identity[0].users: is a setting of type accounts",
		}},
		{"keyrock without url", "identity: [{type: keyrock, organization_pattern: '(', timeout: 2}]", nil, []string{"identity[0].organization_pattern: is no regular", "identity[0].timeout: must be a time", "identity[0].url: is missing"}},
		{"accounts", `identity: [{type: accounts, url: "https://x", users: [{name: a}, {name: a, password_hash: x, regions: [a/b]}, {password_hash: "` + strings.Replace(hash, "$04$", "$31$", 1) + `", roles: [""]}, {name: "a:b", password_hash: "` + hash + `"}]}]`, nil, []string{
			"identity[0].url: is a setting of type keyrock", "identity[0].users[0].password_hash: is missing", "identity[0].users[1].name: a is users[0] already", "identity[0].users[1].password_hash: is no bcrypt hash",
			`identity[0].users[1].regions[0]: "a/b" is no region's name`, "identity[0].users[2].name: is missing", "identity[0].users[2].password_hash: its cost of 31", "identity[0].users[2].roles[0]: must be a role's name",
			"identity[0].users[3].name: must not hold a colon",
		}},
		{"no accounts", "identity: [{type: accounts}]", nil, []string{"identity[0].users: is missing or empty"}},
		{"key that YAML reads as a number", idm + `organizations: {0123: Trento}}]`, nil, []string{"yaml: the key 83 is a number or the like: put it in quotes"}},
		{"repeated key", "listen: :1\nlisten: :2", nil, []string{"yaml: unmarshal errors:", `  line 2: mapping key "listen" already defined at line 1`}},
		{"no YAML", "listen: [", nil, []string{"yaml: line 1:"}},
		{"two documents", "listen: :1\n---\nlisten: :2", nil, []string{"yaml: there must be one document only"}},
		{"no map", "[listen]", nil, []string{"the file must be a map of settings"}},
		{"text only", "hello", nil, []string{"the file must be a map of settings"}},
		{"environment names its variable", "", []string{"FLAVORSYNC_LIMITS_REQUESTS_PER_SECOND=3.7", "FLAVORSYNC_OUTGOING_ALLOW_NETWORKS=[x]", "FLAVORSYNC_ENGINE=5", "FLAVORSYNC_IDENTITY=[", "FLAVORSYNC_DATABASE={driver: sqlite, dns: x}"}, []string{
			"database.dns (FLAVORSYNC_DATABASE): is no setting", "engine (FLAVORSYNC_ENGINE): must be a map", "identity (FLAVORSYNC_IDENTITY): is not YAML",
			"limits.requests_per_second (FLAVORSYNC_LIMITS_REQUESTS_PER_SECOND): must be a whole number", `outgoing.allow_networks[0] (FLAVORSYNC_OUTGOING_ALLOW_NETWORKS): "x" is no network`,
		}},
		{"several at once", "{listen: x, limits: {requests_per_second: x}, foo: 1}", []string{"FLAVORSYNC_KEYSTONE_URL=x"}, []string{"foo: is no setting", "keystone_url (FLAVORSYNC_KEYSTONE_URL): must be", "limits.requests_per_second: must be", `listen: "x" is no address`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Load(write(t, c.file), c.environ)
			if err == nil || got != nil {
				t.Fatal("it was accepted")
			}
			lines := strings.Split(err.Error(), "\n")[1:]
			if len(lines) != len(c.want) {
				t.Fatalf("%d errors, want %d:\n%v", len(lines), len(c.want), err)
			}
			for i, line := range lines {
				if !strings.HasPrefix(line, c.want[i]) {
					t.Errorf("error %d is %q, want %q", i, line, c.want[i])
				}
			}
		})
	}
}

func TestAcceptable(t *testing.T) {
	for _, file := range []string{
		"", "# nothing\n", "---\nlisten: :0\nmetrics_listen: :0\n", "limits:\nidentity:\nucloud: {}\noutgoing: {allow_networks: null}\n", "identity: []", "{cors: {allow_origins: ['*', 'http://[::1]:3000', 'https://a.b:8443']}}", "{listen: 'localhost:80', keystone_url: 'http://[::1]:5000', outgoing: {allow_http: true}}",
	} {
		if _, err := Load(write(t, file), nil); err != nil {
			t.Errorf("%q: %v", file, err)
		}
	}
}

func TestNoFile(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Error("a file that does not exist must be an error that names it, not the defaults:", err)
	}
}

// Whoever prints a configuration, or its errors, prints no password.
func TestSecrets(t *testing.T) {
	c, err := Load(write(t, full), nil)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	_, wrong := Load(write(t, `{database: {driver: mysql, dsn: "user:s3cret"}, identity: [{type: accounts, users: [{name: a, password_hash: s3cret}, {name: b, password_hash: [s3cret]}]}], ucloud: {refresh_token: s3cret}}`),
		[]string{"FLAVORSYNC_KEYSTONE_URL=https://u:s3cret@x"})
	if wrong == nil {
		t.Fatal("it was accepted")
	}
	for _, printed := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v", *c, *c), string(encoded), wrong.Error()} {
		if strings.Contains(printed, "s3cret") || strings.Contains(printed, hash) {
			t.Errorf("a secret is printed: %s", printed)
		}
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		file string
		want []string
	}{
		{"", []string{"identity: no provider", "keystone_url: is not set"}},
		{"{listen: ':8080', keystone_url: 'https://k', identity: [{type: keyrock, url: 'https://idm/user'}], cors: {allow_origins: ['*', 'http://dash', 'http://localhost:3000']}}",
			[]string{"listen: is plain http where others", "cors.allow_origins[1]: is plain http"}},
		{"{listen: ':8080', keystone_url: 'https://k', identity: [{type: keyrock, url: 'https://idm/user'}], trusted_proxies: [0.0.0.0/0]}",
			[]string{"trusted_proxies: trusts every address"}},
		{"{keystone_url: 'http://k:5000', outgoing: {allow_http: true, allow_networks: [0.0.0.0/0]}, identity: [{type: keyrock, url: 'http://127.0.0.1/user'}, {type: keyrock, url: 'http://idm/user'}]}",
			[]string{"keystone_url: is plain http", "identity[1].url: is plain http", "outgoing.allow_networks: allows every address"}},
		{full, nil},
	} {
		loaded, err := Load(write(t, c.file), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := loaded.Warnings()
		if len(got) != len(c.want) {
			t.Fatalf("got %q, want %q", got, c.want)
		}
		for i := range got {
			if !strings.HasPrefix(got[i], c.want[i]) {
				t.Errorf("got %q, want %q", got[i], c.want[i])
			}
		}
	}
}

const example = "../../configs/flavorsync.yaml"

// A newcomer copies the example: it must load, name every setting, and be
// right about every default.
func TestExample(t *testing.T) {
	got, err := Load(example, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.KeystoneURL = "https://cloud.example.org:5000/v3"
	want.Identity = []identity.ProviderConfig{identity.ProviderConfig{Type: "keyrock", URL: "https://account.example.org/user"}.WithDefaults()}
	if diff := cmp.Diff(&want, got, equal); diff != "" {
		t.Errorf("the example has other values than the code's defaults:\n%s", diff)
	}
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	has := func(path string) bool {
		value := any(values)
		for key := range strings.SplitSeq(path, ".") {
			section, _ := value.(map[string]any)
			var ok bool
			if value, ok = section[key]; !ok {
				return false
			}
		}
		return true
	}
	for _, s := range settings(reflect.TypeFor[Config](), "") {
		if !has(s.path) {
			t.Errorf("the example does not show %s", s.path)
		}
	}
	keyrock := values["identity"].([]any)[0].(map[string]any)
	for f := range reflect.TypeFor[identity.ProviderConfig]().Fields() {
		name, of := f.Tag.Get("koanf"), strings.Fields(f.Tag.Get("of"))
		if _, ok := keyrock[name]; !ok && slices.Contains(of, "keyrock") {
			t.Errorf("the example's keyrock does not show %s", name)
		}
	}

	// What stands there as a comment must be right too: the accounts, with a
	// real hash, and every "default" beside a line whose value is one.
	var accounts []string
	for line := range strings.Lines(string(text)) {
		if after, ok := strings.CutPrefix(line, "  # "); ok && (strings.HasPrefix(after, "- type") || accounts != nil) {
			accounts = append(accounts, after)
		} else if accounts != nil {
			break
		}
	}
	commented := "identity:\n" + strings.Replace(strings.Join(accounts, ""), "$2y$10$...", hash, 1)
	c, err := Load(write(t, commented), nil)
	if err != nil {
		t.Fatalf("the commented accounts do not load: %v\n%s", err, commented)
	}
	if len(c.Identity) != 1 || len(c.Identity[0].Users) != 1 || c.Identity[0].Users[0].Regions[0] != "Spain2" {
		t.Errorf("the commented accounts are %+v", c.Identity)
	}

	// The commented issuer shows every setting, and tells the defaults.
	_, after, _ := strings.Cut(string(text), "  #   - type: oidc")
	block, _, _ := strings.Cut(after, "\n\n")
	commented = "identity:\n  - type: oidc" + strings.ReplaceAll(block, "\n  #   ", "\n  ")
	if c, err = Load(write(t, commented), nil); err != nil {
		t.Fatalf("the commented issuer does not load: %v\n%s", err, commented)
	}
	shown := c.Identity[0]
	if diff := cmp.Diff(openid("oidc", shown.Issuer, func(c *identity.ProviderConfig) {
		c.Audience, c.Roles, c.Regions = shown.Audience, shown.Roles, shown.Regions
		c.Opaque, c.ClientID, c.ClientSecret = shown.Opaque, shown.ClientID, shown.ClientSecret
	}), shown, equal); diff != "" {
		t.Errorf("the commented issuer has other values than the defaults:\n%s", diff)
	}
	for f := range reflect.TypeFor[identity.ProviderConfig]().Fields() {
		if name := f.Tag.Get("koanf"); slices.Contains(strings.Fields(f.Tag.Get("of")), "oidc") && !strings.Contains(block, " "+name+":") {
			t.Errorf("the commented issuer does not show %s", name)
		}
	}
}

// The environment file beside the example names settings only.
func TestExampleEnvironment(t *testing.T) {
	text, err := os.ReadFile("../../configs/flavorsync.env")
	if err != nil {
		t.Fatal(err)
	}
	var environ []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			name, value, _ := strings.Cut(line, "=")
			environ = append(environ, name+"="+strings.Trim(value, "'")) // as systemd and a shell read it
		}
	}
	c, err := Load(example, environ)
	if err != nil {
		t.Fatal(err)
	}
	if c.Database.Driver != "mysql" || string(c.Database.DSN) != "flavorsync:PASSWORD@tcp(db.example.org:3306)/flavorsync" {
		t.Errorf("the database is %s %q", c.Database.Driver, string(c.Database.DSN))
	}
	known := make(map[string]bool)
	for _, s := range settings(reflect.TypeFor[Config](), "") {
		known[s.variable()] = true
	}
	for _, e := range environ {
		if name, _, _ := strings.Cut(e, "="); !known[name] {
			t.Errorf("%s is no setting", name)
		}
	}
}
