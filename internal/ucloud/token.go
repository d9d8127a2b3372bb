package ucloud

import (
	"crypto/sha256"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

const (
	issuer      = "cloud.sdu.dk"
	coreSubject = "_UCloud"
	coreRole    = "SERVICE"

	// maxToken is far above what Core sends (some 600 bytes).
	maxToken = 8 << 10
	// maxVerified is how many verified tokens are remembered. Core has one at a
	// time and makes a new one every seven minutes.
	maxVerified = 128
	// skew is how far Core's clock may be ahead of ours. A fresh token is used at
	// once, so without it one second of difference would refuse every token.
	skew = 5 * time.Second
)

type digest [sha256.Size]byte

// claims are what a provider has to look at. aud is none of them: the two
// generations write it in different shapes, and nothing follows from it.
type claims struct {
	Issuer   string           `json:"iss"`
	Subject  string           `json:"sub"`
	Role     string           `json:"role"`
	IssuedAt *jwt.NumericDate `json:"iat"`
	Expiry   *jwt.NumericDate `json:"exp"`
}

// Verify says whether token is one that Core made for calling this provider:
// CodeUnauthorized where it is not. It checks what UCloud's own documentation
// asks of providers: signature and RS256, sub, iat, exp, iss, role. A verified
// token is remembered until it expires.
func (p *Provider) Verify(token string) error {
	switch {
	case p == nil:
		return unauthorized("no UCloud provider is configured here")
	case token == "":
		return unauthorized("UCloud's token is missing: send Authorization: Bearer TOKEN")
	case len(token) > maxToken:
		return unauthorized("the token is too long to be UCloud's")
	}
	now, sum := p.cfg.Now(), p.digest(token)
	if until, known := p.verified.Get(sum); known && now.Before(until) {
		return nil
	}
	until, err := p.verify(token, now)
	if err == nil {
		p.verified.Add(sum, until)
	}
	return err
}

func (p *Provider) digest(token string) digest {
	buf := make([]byte, 0, 1024)
	buf = append(buf, p.salt[:]...)
	buf = append(buf, token...)
	return sha256.Sum256(buf)
}

func (p *Provider) verify(token string, now time.Time) (until time.Time, err error) {
	signed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return until, unauthorized("the token is no JWT signed with RS256")
	}
	var c claims
	if err := signed.Claims(p.key, &c); err != nil {
		return until, unauthorized("the token is not signed with the key that ucloud.public_key names, or its claims cannot be read")
	}
	switch {
	case c.Issuer != issuer:
		return until, unauthorized("the token's iss is not %s", issuer)
	// A provider's own token, for calling Core, is signed with the same key.
	case c.Subject != coreSubject:
		return until, unauthorized("the token's sub is not %s: it was not made for calling a provider", coreSubject)
	case c.Role != coreRole:
		return until, unauthorized("the token's role is not %s", coreRole)
	case c.Expiry == nil || c.IssuedAt == nil:
		return until, unauthorized("the token has no exp or no iat")
	case !now.Before(c.Expiry.Time()):
		return until, unauthorized("the token has expired")
	case now.Add(skew).Before(c.IssuedAt.Time()):
		return until, unauthorized("the token's iat is in the future: the clock of UCloud or of this machine is wrong")
	}
	return c.Expiry.Time(), nil
}

func unauthorized(format string, args ...any) error {
	return flavor.Errorf(flavor.CodeUnauthorized, format, args...)
}
