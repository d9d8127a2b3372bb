package config

import (
	"fmt"
	"iter"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/kms"
	"github.com/flavorsync/flavorsync/internal/ucloud"
	"github.com/flavorsync/flavorsync/internal/webhooks"
)

// check tells what is of the right type and yet no good.
func (l *loader) check(c *Config) {
	l.address("listen", c.Listen)
	if c.MetricsListen != "" {
		l.address("metrics_listen", c.MetricsListen)
		if _, port, _ := net.SplitHostPort(c.Listen); c.MetricsListen == c.Listen && port != "0" {
			l.wrong("metrics_listen", "is the address of listen: give it another port")
		}
	}
	switch {
	case c.TLS.CertFile != "" && c.TLS.KeyFile == "":
		l.wrong("tls.key_file", "is missing: give the path of the certificate's private key")
	case c.TLS.CertFile == "" && c.TLS.KeyFile != "":
		l.wrong("tls.cert_file", "is missing: give the path of the key's certificate")
	}
	if c.TLS.Version() == 0 {
		l.wrong("tls.min_version", "%q is no version to begin with: write \"1.2\" or \"1.3\"", c.TLS.MinVersion)
	}
	for i, n := range c.TrustedProxies {
		if n.Addr().Is4In6() {
			l.wrong(fmt.Sprintf("trusted_proxies[%d]", i), "%s is IPv4 written as IPv6: write it as in 10.0.0.0/8", n)
		}
	}
	for i, origin := range c.CORS.AllowOrigins {
		l.origin(fmt.Sprintf("cors.allow_origins[%d]", i), origin)
	}
	switch dsn := string(c.Database.DSN); c.Database.Driver {
	case "sqlite":
		if dsn == "" {
			l.wrong("database.dsn", "is empty: give the path of the database's file, such as flavorsync.db")
		}
	case "mysql":
		// The parser's own error would quote a piece of the DSN.
		if parsed, err := mysql.ParseDSN(dsn); err != nil || parsed.DBName == "" {
			l.wrong("database.dsn", "is no DSN of MySQL or MariaDB: write user:password@tcp(host:3306)/flavorsync")
		}
	case "mariadb":
		l.wrong("database.driver", "the driver for MariaDB is called mysql: write mysql")
	default:
		l.wrong("database.driver", "%q is no driver: write sqlite or mysql", c.Database.Driver)
	}
	if c.KeystoneURL != "" {
		l.url("keystone_url", c.KeystoneURL)
	}
	for i, p := range c.Identity {
		if p.Type == identity.TypeKeystone && c.KeystoneURL == "" {
			l.wrong(fmt.Sprintf("identity[%d].type", i), "keystone asks the federation's Keystone: set keystone_url too")
		}
	}
	if !c.Outgoing.AllowHTTP {
		for path := range c.plain() {
			l.wrong(path, "is plain http, which shows callers' tokens to everybody on the way: write https, or allow it with outgoing.allow_http")
		}
	}
	if c.CredentialsKeyset == "" {
		l.wrong("credentials_keyset", "is empty: give the path of the keyset, such as keyset.json")
	}
	if c.CredentialsKMS != "" {
		if err := kms.CheckURI(c.CredentialsKMS); err != nil {
			l.wrong("credentials_kms", "%s", err)
		}
	}
	for _, n := range []struct {
		path       string
		value, min int
	}{
		{"limits.requests_per_second", c.Limits.RequestsPerSecond, 0},
		{"limits.failed_logins_per_minute", c.Limits.FailedLoginsPerMinute, 0},
		{"limits.failed_tokens_per_minute", c.Limits.FailedTokensPerMinute, 0},
		{"limits.connections", c.Limits.Connections, 0},
		{"limits.connections_per_address", c.Limits.ConnectionsPerAddress, 0},
		{"engine.max_in_flight", c.Engine.MaxInFlight, 1},
	} {
		if n.value < n.min {
			l.wrong(n.path, "must be at least %d", n.min)
		}
	}
	if c.Engine.SweepInterval <= 0 {
		l.wrong("engine.sweep_interval", "must be above 0, such as 60s")
	}
	if c.Engine.RegionTimeout <= 0 {
		l.wrong("engine.region_timeout", "must be above 0, such as 10s")
	}
	if c.Audit.Retention < 0 {
		l.wrong("audit.retention", "must be at least 0, which keeps everything, such as 8760h for a year")
	}
	if c.Tracing.OTLPEndpoint != "" {
		l.url("tracing.otlp_endpoint", c.Tracing.OTLPEndpoint)
	}
	if s := c.Tracing.Sample; !(s >= 0 && s <= 1) { // NaN is neither
		l.wrong("tracing.sample", "must be from 0 to 1, such as 0.1 for a tenth of all traces")
	}
	if c.Events.Retention != 0 && c.Events.Retention < time.Hour {
		l.wrong("events.retention", "must be 0, which keeps everything, or at least 1h, such as 168h for a week")
	}
	for i, w := range c.Webhooks {
		l.wrongAll(fmt.Sprintf("webhooks[%d]", i), w.Validate(c.Outgoing.AllowHTTP))
	}
	l.wrongAll("", webhooks.Distinct(c.Webhooks))
	l.promotion(c.Promotion)
	l.pricing(c.Pricing)
	l.wrongAll("glue2", c.GLUE2.Validate())
	l.wrongAll("ucloud", c.Provider().Validate())
	if c.UCloud.PushInterval < time.Second {
		l.wrong("ucloud.push_interval", "must be at least 1s, such as 15m")
	}
	switch c.UCloud.Push {
	case ucloud.V2, ucloud.V1, ucloud.Off:
	default:
		l.wrong("ucloud.push", "%q is unknown: write v2, v1 or off", string(c.UCloud.Push))
	}
	if !flavor.ValidCategory(c.UCloud.DefaultCategory) {
		l.wrong("ucloud.default_category", "must have 1 to 64 letters, digits and . _ -, and begin with a letter or a digit, such as uc-general")
	}
}

func (l *loader) promotion(p Promotion) {
	check := func(path, install string) {
		if install != manual && install != automatic {
			l.wrong(path, "%q is unknown: write manual or automatic", install)
		}
	}
	check("promotion.install", p.Install)
	for _, parts := range []struct {
		path string
		of   map[string]PromotionPart
	}{{"promotion.regions", p.Regions}, {"promotion.flavors", p.Flavors}} {
		for _, name := range slices.Sorted(maps.Keys(parts.of)) {
			path := fmt.Sprintf("%s[%s]", parts.path, name)
			if parts.path == "promotion.regions" && !flavor.ValidRegionName(name) {
				l.wrong(path, "cannot be the name of a region")
			}
			if install := parts.of[name].Install; install != "" {
				check(path+".install", install)
			}
		}
	}
}

func (l *loader) pricing(p Pricing) {
	for _, price := range []struct{ path, text string }{
		{"pricing.per_vcpu", p.PerVCPU}, {"pricing.per_gb", p.PerGB}, {"pricing.per_gpu", p.PerGPU},
	} {
		if price.text == "" {
			continue
		}
		if _, err := flavor.ParseAmount("", price.text); err != nil {
			l.wrong(price.path, "%s", strings.TrimPrefix(err.Error(), ": "))
		}
	}
	switch {
	case p.Currency != "" && !flavor.ValidCurrency(p.Currency):
		l.wrong("pricing.currency", "%q is no currency: write three capital letters, such as DKK", p.Currency)
	case p.Currency == "" && p.Formula().Configured():
		l.wrong("pricing.currency", "is missing: the prices beside it are in some currency, such as DKK")
	}
	if !slices.Contains(flavor.Periods, flavor.Period(p.Period)) {
		l.wrong("pricing.period", "%q is no period: write minute, hour or day", p.Period)
	}
}

func (l *loader) address(path, value string) {
	host, port, err := net.SplitHostPort(value)
	n, errPort := strconv.ParseUint(port, 10, 16)
	if err != nil || errPort != nil || strings.ContainsAny(host, " /") || n > 65535 {
		l.wrong(path, "%q is no address to listen at: write host:port, such as 127.0.0.1:8080, or :8080 for all of the machine's addresses", value)
	}
}

// origin takes what browsers send in Origin, to the letter: they are compared.
func (l *loader) origin(path, value string) {
	u, err := url.Parse(value)
	switch {
	case value == "*":
	case value == "null":
		l.wrong(path, "null is the origin of every sandboxed page and every file: name the pages' own origin")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || value != u.Scheme+"://"+u.Host || strings.Contains(value, "*"):
		l.wrong(path, "%q is no origin: write scheme://host or scheme://host:port without a path, such as https://dash.example.org, or \"*\" for all", value)
	case value != strings.ToLower(value) || strings.ContainsFunc(value, func(r rune) bool { return r > '~' }):
		l.wrong(path, "%q is not as browsers write it: write it in small letters, other alphabets as xn--…", value)
	case u.Port() == map[string]string{"http": "80", "https": "443"}[u.Scheme]:
		l.wrong(path, "%q is not as browsers write it: leave out the port that %s has anyway", value, u.Scheme)
	}
}

func (l *loader) url(path, value string) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		l.wrong(path, "must be an http or https URL with a host, without user, query and fragment")
	}
}

// Warnings tells what is allowed and yet hardly wanted of a server, one
// sentence each, for the log at start.
func (c *Config) Warnings() []string {
	var all []string
	warn := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if len(c.Identity) == 0 {
		warn("identity: no provider is configured, so every call is refused with 401")
	}
	if host, _, _ := net.SplitHostPort(c.Listen); c.TLS.CertFile == "" && len(c.TrustedProxies) == 0 && !loopback(host) {
		warn("listen: is plain http where others reach it, so passwords and tokens travel unencrypted: set tls, or name the proxy before it in trusted_proxies")
	}
	if c.KeystoneURL == "" {
		warn("keystone_url: is not set, so private flavors can be reached in infrastructures marked as trusted only")
	}
	for path, host := range c.plain() {
		if !loopback(host) {
			warn("%s: is plain http: callers' tokens travel unencrypted, and anybody on the way may answer", path)
		}
	}
	for i, p := range c.Identity {
		if p.Opaque == identity.OpaqueUserInfo {
			warn("identity[%d].opaque: userinfo does not tell for whom a token was issued, so one that a user gave to any other service is good here", i)
		}
	}
	if slices.ContainsFunc(c.Outgoing.AllowNetworks, func(n netip.Prefix) bool { return n.Bits() == 0 }) {
		warn("outgoing.allow_networks: allows every address, so whoever registers an infrastructure may have this machine and its network called")
	}
	for i, origin := range c.CORS.AllowOrigins {
		if u, err := url.Parse(origin); err == nil && u.Scheme == "http" && !loopback(u.Hostname()) {
			warn("cors.allow_origins[%d]: is plain http: whoever is between that page and its reader can call as its reader", i)
		}
	}
	if slices.ContainsFunc(c.TrustedProxies, func(n netip.Prefix) bool { return n.Bits() == 0 }) {
		warn("trusted_proxies: trusts every address, so every caller may choose the address that the log, the audit and limits.failed_logins_per_minute go by")
	}
	for _, warning := range c.GLUE2.Warnings() {
		warn("glue2.%s", warning)
	}
	return all
}

// plain is the settings, each with its host, that have callers' tokens sent by
// plain http.
func (c *Config) plain() iter.Seq2[string, string] {
	return func(yield func(path, host string) bool) {
		is := func(path, raw string) bool {
			u, err := url.Parse(raw)
			return err != nil || u.Scheme != "http" || yield(path, u.Hostname())
		}
		if !is("keystone_url", c.KeystoneURL) {
			return
		}
		for i, p := range c.Identity {
			for _, asked := range []struct{ key, url string }{
				{"url", p.URL}, {"issuer", p.Issuer}, {"introspection_url", p.IntrospectionURL}, {"userinfo_url", p.UserInfoURL}, {"jwks_url", p.JWKSURL},
			} {
				if !is(fmt.Sprintf("identity[%d].%s", i, asked.key), asked.url) {
					return
				}
			}
		}
	}
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}
