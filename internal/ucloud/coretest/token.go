package coretest

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// Claims are a token's, as they are written. A nil value is left out.
type Claims map[string]any

// Token makes the token a Core calls a provider with, with these claims other
// than it would have.
func (c *Core) Token(other Claims) (string, error) {
	return c.sign(c.claims("_UCloud", "SERVICE", "service", other))
}

// providerToken makes the token a provider calls the Core with.
func (c *Core) providerToken(other Claims) (string, error) {
	return c.sign(c.claims("#P_"+c.opts.Provider, "PROVIDER", "provider", other))
}

func (c *Core) claims(sub, role, principal string, other Claims) Claims {
	life := 10 * time.Minute
	all := Claims{"uid": nil}
	if c.opts.Generation == Classic {
		life = 15 * time.Minute
		all = Claims{"uid": 10, "extendedByChain": []string{}}
	}
	now := c.now()
	maps.Copy(all, Claims{
		"iss": "cloud.sdu.dk", "sub": sub, "role": role, "principalType": principal, "aud": []string{"all:write"},
		"iat": now.Unix(), "exp": now.Add(life).Unix(),
	})
	maps.Copy(all, other)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	return all
}

func (c *Core) sign(claims Claims) (string, error) { return signRS256(c.key, claims) }

var encoding = base64.RawURLEncoding

func unsigned(header, claims Claims) (string, error) {
	head, err := json.Marshal(header)
	if err != nil {
		return "", fmt.Errorf("while writing a token's header: %w", err)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("while writing a token's claims: %w", err)
	}
	return encoding.EncodeToString(head) + "." + encoding.EncodeToString(body), nil
}

func signRS256(key *rsa.PrivateKey, claims Claims) (string, error) {
	text, err := unsigned(Claims{"alg": "RS256", "typ": "JWT"}, claims)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("while signing a token: %w", err)
	}
	return text + "." + encoding.EncodeToString(signature), nil
}

// Sample is a token that a provider must accept, or must not.
type Sample struct {
	Name  string
	Token string
}

// Accepted are tokens that a provider must accept.
func (c *Core) Accepted() ([]Sample, error) {
	now := c.now()
	return c.samples(map[string]Claims{
		"aud a list":      nil,
		"aud a string":    {"aud": "all:write"},
		"aud absent":      {"aud": nil},
		"classic extras":  {"uid": 10, "extendedByChain": []string{}},
		"dates not whole": {"iat": float64(now.Unix()) - 0.5, "exp": float64(now.Unix()) + 600.25},
	}, c.Token)
}

// Forged are tokens that a provider must not accept.
func (c *Core) Forged() ([]Sample, error) {
	now := c.now()
	all, err := c.samples(map[string]Claims{
		"exp past":           {"exp": now.Add(-time.Second).Unix()},
		"exp now":            {"exp": now.Unix()},
		"exp absent":         {"exp": nil},
		"exp a string":       {"exp": fmt.Sprint(now.Add(time.Hour).Unix())},
		"iat future":         {"iat": now.Add(time.Minute).Unix()},
		"iat absent":         {"iat": nil},
		"iss another":        {"iss": "cloud.example.org"},
		"iss absent":         {"iss": nil},
		"sub in lower case":  {"sub": "_ucloud"},
		"sub a provider's":   {"sub": "#P_" + c.opts.Provider},
		"sub absent":         {"sub": nil},
		"sub a list":         {"sub": []string{"_UCloud"}},
		"role PROVIDER":      {"role": "PROVIDER"},
		"role USER":          {"role": "USER"},
		"role in lower case": {"role": "service"},
		"role absent":        {"role": nil},
		"claims in upper case": {
			"iss": nil, "sub": nil, "role": nil, "Iss": "cloud.sdu.dk", "Sub": "_UCloud", "Role": "SERVICE",
		},
	}, c.Token)
	if err != nil {
		return nil, err
	}
	own, err := c.providerToken(nil)
	if err != nil {
		return nil, err
	}
	badly, err := c.badlySigned()
	if err != nil {
		return nil, err
	}
	all = append(all, Sample{"the provider's own", own}, Sample{"garbage", "garbage"}, Sample{"dots", "..."}, Sample{"nothing", ""})
	return append(all, badly...), nil
}

func (c *Core) samples(of map[string]Claims, sign func(Claims) (string, error)) ([]Sample, error) {
	var all []Sample
	for name, other := range of {
		token, err := sign(other)
		if err != nil {
			return nil, err
		}
		all = append(all, Sample{name, token})
	}
	return all, nil
}

// badlySigned are tokens whose claims are right.
func (c *Core) badlySigned() ([]Sample, error) {
	claims := c.claims("_UCloud", "SERVICE", "service", nil)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("while making another key: %w", err)
	}
	foreign, err := signRS256(other, claims)
	if err != nil {
		return nil, err
	}
	good, err := c.sign(claims)
	if err != nil {
		return nil, err
	}
	head, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	changed, err := unsigned(Claims{"alg": "RS256"}, Claims{"iss": "cloud.sdu.dk", "sub": "_UCloud", "role": "SERVICE"})
	if err != nil {
		return nil, err
	}
	all := []Sample{
		{"signed by another key", foreign}, {"without a signature", head + "." + payload + "."}, {"two parts", head + "." + payload},
		{"other claims, same signature", changed + "." + signature}, {"with something behind", good + ".e30"},
		{"too long", good + strings.Repeat("A", 100_000)},
	}
	for _, alg := range []string{"none", "None", "HS256", "RS512", "PS256"} {
		text, err := unsigned(Claims{"alg": alg, "typ": "JWT"}, claims)
		if err != nil {
			return nil, err
		}
		token, err := c.signAs(alg, text)
		if err != nil {
			return nil, err
		}
		all = append(all, Sample{"alg " + alg, token})
	}
	return all, nil
}

// signAs signs text by an algorithm that is not RS256. HS256 takes the public key,
// which is no secret, for one.
func (c *Core) signAs(alg, text string) (string, error) {
	var signature []byte
	var err error
	switch alg {
	case "HS256":
		mac := hmac.New(sha256.New, []byte(c.PublicKey()))
		mac.Write([]byte(text))
		signature = mac.Sum(nil)
	case "RS512":
		sum := crypto.SHA512.New()
		sum.Write([]byte(text))
		signature, err = rsa.SignPKCS1v15(rand.Reader, c.key, crypto.SHA512, sum.Sum(nil))
	case "PS256":
		sum := sha256.Sum256([]byte(text))
		signature, err = rsa.SignPSS(rand.Reader, c.key, crypto.SHA256, sum[:], nil)
	}
	if err != nil {
		return "", fmt.Errorf("while signing a token by %s: %w", alg, err)
	}
	return text + "." + encoding.EncodeToString(signature), nil
}

// Certificate is an X.509 certificate of the provider's public key, as some
// installations hand it out: DER in base64.
func (c *Core) Certificate() (string, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "UCloud"},
		NotBefore: c.now().Add(-time.Hour), NotAfter: c.now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key)
	if err != nil {
		return "", fmt.Errorf("while making a certificate: %w", err)
	}
	return base64.StdEncoding.EncodeToString(der), nil
}

// refreshed answers a refresh token with an access token.
func (c *Core) refreshed(body []byte) (any, error) {
	var bulk struct {
		Items []struct {
			RefreshToken string `json:"refreshToken"`
		} `json:"items"`
	}
	if json.Unmarshal(body, &bulk) != nil || len(bulk.Items) == 0 {
		return nil, fail(http.StatusBadRequest, "No items were given")
	}
	type response struct {
		AccessToken string `json:"accessToken"`
		CSRFToken   string `json:"csrfToken,omitempty"`
	}
	var responses []response
	for _, item := range bulk.Items {
		if item.RefreshToken != c.RefreshToken() {
			return nil, fail(http.StatusUnauthorized, "Unauthorized")
		}
		token, err := c.providerToken(Claims{"epoch": c.epochNow()})
		if err != nil {
			return nil, err
		}
		r := response{AccessToken: token}
		if c.opts.Generation == Current {
			r.CSRFToken = newSecret()
		}
		responses = append(responses, r)
	}
	return map[string]any{"responses": responses}, nil
}

// RevokeTokens makes the Core refuse every access token it has handed out.
func (c *Core) RevokeTokens() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
}

// epochNow is in the tokens that are handed out now.
func (c *Core) epochNow() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// authenticate says whether r is the provider's, by its access token.
func (c *Core) authenticate(r *http.Request) error {
	unauthorized := fail(http.StatusUnauthorized, "Unauthorized")
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 {
		return unauthorized
	}
	var header struct{ Alg string }
	var claims struct {
		Iss, Sub, Role string
		Iat, Exp       *int64
		Epoch          int `json:"epoch"`
	}
	head, err1 := encoding.DecodeString(parts[0])
	payload, err2 := encoding.DecodeString(parts[1])
	signature, err3 := encoding.DecodeString(parts[2])
	if err1 != nil || err2 != nil || err3 != nil || json.Unmarshal(head, &header) != nil || json.Unmarshal(payload, &claims) != nil {
		return unauthorized
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	now := c.now().Unix()
	switch {
	case header.Alg != "RS256", rsa.VerifyPKCS1v15(&c.key.PublicKey, crypto.SHA256, sum[:], signature) != nil,
		claims.Iss != "cloud.sdu.dk", claims.Iat == nil || *claims.Iat > now, claims.Exp == nil || *claims.Exp <= now, claims.Epoch != c.epochNow():
		return unauthorized
	case claims.Sub != "#P_"+c.opts.Provider || claims.Role != "PROVIDER":
		return fail(http.StatusForbidden, "Forbidden")
	}
	return nil
}
