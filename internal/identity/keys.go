package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// fetchPause is how often at most an issuer is asked for what it publishes,
	// whoever brings whatever key id: a rotated key is learnt after it at the
	// latest.
	fetchPause = 5 * time.Second
	// keysFor is how long an issuer's keys are used before they are fetched anew
	// beside the request that finds them old, so that a withdrawn key ends.
	keysFor = 10 * time.Minute
	// minRSA is the size of the smallest RSA key that may sign, in bits.
	minRSA = 2048
)

// algorithms are those that may sign a token: asymmetric ones only, for an
// issuer's public key must not be good for signing.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// signingKeys are the keys that may have signed with algorithm under key id; an
// empty kid means any. Where none is known the issuer is asked, fetchPause after
// the last time at the soonest; until is when it may be asked again. The error,
// flavor.CodeUnavailable, is that of the last question.
func (o *openID) signingKeys(ctx context.Context, kid, algorithm string) (keys []jose.JSONWebKey, until time.Time, err error) {
	all, since := o.keys.known()
	if keys = fitting(all, kid, algorithm); len(keys) > 0 {
		if o.now().Sub(since) >= keysFor {
			o.keys.start(ctx)
		}
		return keys, time.Time{}, nil
	}
	all, until, err = o.keys.again(ctx)
	if keys = fitting(all, kid, algorithm); len(keys) > 0 {
		return keys, time.Time{}, nil
	}
	return nil, until, err
}

func fitting(keys []jose.JSONWebKey, kid, algorithm string) []jose.JSONWebKey {
	var fit []jose.JSONWebKey
	for _, key := range keys {
		if (kid == "" || key.KeyID == "" || key.KeyID == kid) && (key.Algorithm == "" || key.Algorithm == algorithm) {
			fit = append(fit, key)
		}
	}
	return fit
}

// fetchKeys asks the issuer for its keys.
func (o *openID) fetchKeys(ctx context.Context) ([]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	at := o.jwksURL
	if at == "" {
		published, err := o.discovered(ctx)
		if err != nil {
			return nil, err
		}
		at = published.JWKS
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return nil, o.nonsense(o.host, "a jwks_uri that is no URL")
	}
	status, body, err := o.do(req)
	switch {
	case err != nil:
		return nil, err
	case status != http.StatusOK:
		return nil, o.nonsense(req.URL.Host, "status %d for its keys", status)
	}
	keys, err := parseKeys(body)
	if err != nil {
		return nil, o.nonsense(req.URL.Host, "%w", err)
	}
	return keys, nil
}

// parseKeys reads the public keys that may sign from a JSON Web Key Set (RFC
// 7517), or from what KeyRock publishes instead: one certificate, its line breaks
// lost. A key that is of no use is left out, as the RFC wants.
func parseKeys(body []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys        []jsontext.Value `json:"keys"`
		Certificate string           `json:"rs_256_certificate"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, errors.New("not the JSON of a key set")
	}
	var keys []jose.JSONWebKey
	for _, text := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) == nil && maySign(key) {
			keys = append(keys, key)
		}
	}
	if set.Certificate != "" {
		text := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(set.Certificate), "-----BEGIN CERTIFICATE-----"), "-----END CERTIFICATE-----")
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, errors.New("not a certificate")
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, errors.New("not a certificate")
		}
		if key := (jose.JSONWebKey{Key: certificate.PublicKey, Algorithm: oidc.RS256}); maySign(key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no key that may sign")
	}
	return keys, nil
}

// maySign says whether key is a public key for signatures. Symmetric and private
// ones are not to be published at all.
func maySign(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" || key.Algorithm != "" && !slices.Contains(algorithms, key.Algorithm) {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= minRSA
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}
