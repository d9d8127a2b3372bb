package identity

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// maxToken is the longest token anyone is asked about, in bytes.
const maxToken = 16 << 10

// jwtPrefix is how nearly every JWT begins: {" in base64url.
const jwtPrefix = "eyJ"

// shape is what a token looks like, which decides who may see it.
type shape int

const (
	opaque    shape = iota // tells nothing: whoever is configured may be asked
	malformed              // nobody's: empty, too long, or with characters no token has
	jwt                    // its issuer's alone (RFC 7519)
	fernet                 // Keystone's alone
)

func shapeOf(token flavor.Secret) shape {
	t := string(token)
	if t == "" || len(t) > maxToken {
		return malformed
	}
	dots := 0
	for i := range len(t) {
		switch b := t[i]; {
		case b <= ' ' || b >= 0x7f: // RFC 6749, appendix A.12: visible ASCII only
			return malformed
		case b == '.':
			dots++
		}
	}
	switch {
	case strings.HasPrefix(t, "gAAAA"):
		return fernet
	case (dots == 2 || dots == 4) && isJWT(t): // signed, or encrypted
		return jwt
	}
	return opaque
}

// isJWT says whether t is base64url parts, the first a JSON object with an alg.
// The signature may be empty: an unsecured JWT is its issuer's too.
func isJWT(t string) bool {
	header, rest, _ := strings.Cut(t, ".")
	decoded, err := decodePart(header)
	if err != nil {
		return false
	}
	for part := range strings.SplitSeq(rest, ".") {
		if _, err := decodePart(part); err != nil {
			return false
		}
	}
	var fields map[string]json.RawMessage
	return json.Unmarshal(decoded, &fields) == nil && fields["alg"] != nil
}

// issuerOf is the issuer that a JWT says it is of, "" where it says none.
func issuerOf(token flavor.Secret) string {
	_, rest, _ := strings.Cut(string(token), ".")
	payload, _, _ := strings.Cut(rest, ".")
	text, err := decodePart(payload)
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	// This decoder refuses a name that is there twice, of which others might read
	// the other one.
	if jsonv2.Unmarshal(text, &claims) != nil {
		return ""
	}
	return claims.Issuer
}

func decodePart(part string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
}
