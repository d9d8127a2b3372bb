package ucloud

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/ucloud/coretest"
)

func spki(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// An operator learns of everything that is wrong at once, and what to write
// instead.
func TestConfig(t *testing.T) {
	core, err := coretest.New(coretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	small, err1 := rsa.GenerateKey(rand.Reader, 1024)
	curve, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	certificate, err3 := core.Certificate()
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	private, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	folded := "-----BEGIN PUBLIC KEY-----\n" + core.PublicKey()[:64] + "\r\n  " + core.PublicKey()[64:] + "\n-----END PUBLIC KEY-----\n"
	good := Config{ProviderID: "aau", PublicKey: core.PublicKey(), CoreURL: "https://cloud.sdu.dk", RefreshToken: "s3cret", Push: V2}
	for name, c := range map[string]struct {
		change func(*Config)
		want   []string // the beginning of each error
	}{
		"good":                  {func(*Config) {}, nil},
		"nothing":               {func(c *Config) { *c = Config{} }, nil},
		"nothing but push: off": {func(c *Config) { *c = Config{Push: Off} }, nil},
		"pull only":             {func(c *Config) { *c = Config{ProviderID: "aau", PublicKey: core.PublicKey()} }, nil},
		"v1 below a path":       {func(c *Config) { c.Push, c.CoreURL = V1, "https://example.org/ucloud/" }, nil},
		"PEM":                   {func(c *Config) { c.PublicKey = folded }, nil},
		"PEM on one line":       {func(c *Config) { c.PublicKey = strings.ReplaceAll(folded, "\n", " ") }, nil},
		"certificate":           {func(c *Config) { c.PublicKey = certificate }, nil},
		"certificate in PEM": {func(c *Config) {
			c.PublicKey = "-----BEGIN CERTIFICATE-----" + certificate + "-----END CERTIFICATE-----"
		}, nil},
		"http that is allowed":      {func(c *Config) { c.CoreURL, c.AllowHTTP = "http://127.0.0.1:1", true }, nil},
		"no id":                     {func(c *Config) { c.ProviderID = "" }, []string{"provider_id: is missing"}},
		"an id that parts a cursor": {func(c *Config) { c.ProviderID = "a@b" }, []string{"provider_id: must have"}},
		"an id that parts a path":   {func(c *Config) { c.ProviderID = "a/b" }, []string{"provider_id: must have"}},
		"an id that leaves a path":  {func(c *Config) { c.ProviderID = ".." }, []string{"provider_id: must have"}},
		"no key":                    {func(c *Config) { c.PublicKey = "" }, []string{"public_key: is missing"}},
		"no base64":                 {func(c *Config) { c.PublicKey = "s3cret?" }, []string{"public_key: is not base64"}},
		"base64 of nothing":         {func(c *Config) { c.PublicKey = "s3crets3crets3cr" }, []string{"public_key: is neither"}},
		"private key":               {func(c *Config) { c.PublicKey = base64.StdEncoding.EncodeToString(private) }, []string{"public_key: is neither"}},
		"another kind of key":       {func(c *Config) { c.PublicKey = spki(t, &curve.PublicKey) }, []string{"public_key: is not an RSA key"}},
		"a small key":               {func(c *Config) { c.PublicKey = spki(t, &small.PublicKey) }, []string{"public_key: has 1024 bits"}},
		"plain http":                {func(c *Config) { c.CoreURL = "http://cloud.sdu.dk" }, []string{"core_url: is plain http"}},
		"a URL with a password":     {func(c *Config) { c.CoreURL = "https://u:s3cret@cloud.sdu.dk" }, []string{"core_url: must be"}},
		"no URL":                    {func(c *Config) { c.CoreURL = "cloud.sdu.dk" }, []string{"core_url: must be"}},
		"a token of two lines":      {func(c *Config) { c.RefreshToken = "s3cret\n" }, []string{"refresh_token: must not"}},
		"an unknown mode":           {func(c *Config) { c.Push = "v3" }, []string{"push: \"v3\" is unknown"}},
		"too often":                 {func(c *Config) { c.PushInterval = time.Millisecond }, []string{"push_interval: must be"}},
		"everything":                {func(c *Config) { *c = Config{Push: V1, PushInterval: -1} }, []string{"provider_id:", "public_key:", "push_interval:", "core_url:", "refresh_token:"}},
		"a URL and no mode":         {func(c *Config) { *c = Config{CoreURL: "https://cloud.sdu.dk"} }, []string{"provider_id:", "public_key:"}},
	} {
		cfg := good
		c.change(&cfg)
		err := cfg.Validate()
		var lines []string
		if err != nil {
			lines = strings.Split(err.Error(), "\n")
		}
		if len(lines) != len(c.want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, line := range lines {
			if !strings.HasPrefix(line, c.want[i]) {
				t.Errorf("%s: %q does not begin with %q", name, line, c.want[i])
			}
			if strings.Contains(line, "s3cret") {
				t.Errorf("%s: the error holds a secret: %s", name, line)
			}
		}
		if p, err := New(cfg); (err != nil) != (c.want != nil) || (p != nil) != (c.want == nil && cfg.Configured()) {
			t.Errorf("%s: New answers %v, %v", name, p, err)
		} else if p != nil {
			p.Close()
		}
	}
}
