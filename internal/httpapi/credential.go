package httpapi

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
)

// unauthorizedText and managerOnlyText are whole bodies, in plain text: clients
// of flavor-sync 1.0 compare them.
const (
	unauthorizedText = "Could not verify your access level for that URL. You have to login with proper token"
	managerOnlyText  = "The method specified in the Request-Line is not allowed for the resource identified by the Request-URI."
)

// authenticate finds out who is asking, and whether they ask too often.
func (k *call) authenticate() error {
	if err := k.takeCredential(); err != nil {
		return err
	}
	failed := false
	switch {
	case k.cred.Kind == identity.Basic && k.s.logins != nil:
		done, err := k.s.logins.begin(k.RealIP())
		if err != nil {
			return err
		}
		defer func() { done(failed) }()
	case k.cred.Kind == identity.Token && k.s.tokens != nil:
		if err := k.s.tokens.check(k.RealIP); err != nil {
			return err
		}
		defer func() {
			if failed {
				k.s.tokens.failed(k.RealIP())
			}
		}()
	}
	who, err := k.s.cfg.Identity.Authenticate(k.ctx, k.cred)
	if err != nil {
		failed = flavor.CodeOf(err) == flavor.CodeUnauthorized
		return err
	}
	k.who = who
	if k.s.callers != nil {
		return k.s.callers.take(who.Provider + "/" + who.ID)
	}
	return nil
}

// takeCredential reads the first credential of X-Auth-Token, Bearer,
// access_token, Basic and the header pair. An empty one is none.
func (k *call) takeCredential() error {
	h := k.Request().Header
	if token := strings.TrimSpace(h.Get("X-Auth-Token")); token != "" {
		return k.takeToken(h["X-Auth-Token"]...)
	}
	if token, ok := authorization(h, "Bearer"); ok {
		return k.takeToken(token)
	}
	if len(k.accessToken) > 0 {
		return k.takeToken(k.accessToken...)
	}
	if encoded, ok := authorization(h, "Basic"); ok {
		k.sentBasic = true
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		user, password, colon := strings.Cut(string(decoded), ":")
		if err != nil || !colon {
			return flavor.Errorf(flavor.CodeUnauthorized, "the basic credential is malformed")
		}
		return k.takeBasic(user, password)
	}
	if user := h.Get("User"); user != "" && h.Get("Password") != "" {
		return k.takeBasic(user, h.Get("Password"))
	}
	k.cred = identity.Credential{Kind: identity.None}
	return nil
}

// authorization is the credential of the first Authorization header of scheme.
func authorization(h http.Header, scheme string) (string, bool) {
	for _, value := range h["Authorization"] {
		name, credential, _ := strings.Cut(strings.TrimSpace(value), " ")
		if credential = strings.TrimSpace(credential); credential != "" && strings.EqualFold(name, scheme) {
			return credential, true
		}
	}
	return "", false
}

func (k *call) takeToken(tokens ...string) error {
	token := tokens[0]
	for _, other := range tokens[1:] {
		if other != token {
			return flavor.Errorf(flavor.CodeUnauthorized, "several different tokens were sent in one place")
		}
	}
	// A token is asked of identity providers by HTTP, and nothing else fits there.
	for i := range len(token) {
		if token[i] <= ' ' || token[i] >= 0x7f {
			return flavor.Errorf(flavor.CodeUnauthorized, "the token has blanks, control or non-ASCII characters")
		}
	}
	k.cred = identity.Credential{Kind: identity.Token, Token: flavor.Secret(token)}
	return nil
}

func (k *call) takeBasic(user, password string) error {
	if !utf8.ValidString(user) || strings.ContainsAny(user, "\x00\r\n") {
		return flavor.Errorf(flavor.CodeUnauthorized, "the user name is not UTF-8, or has control characters")
	}
	k.cred = identity.Credential{Kind: identity.Basic, User: user, Password: flavor.Secret(password)}
	return nil
}

// secrets are what this request must not leave behind anywhere.
func (k *call) secrets() []string {
	var found []string
	for _, secret := range []flavor.Secret{k.cred.Token, k.cred.Password, k.keystoneToken()} {
		if secret != "" {
			found = append(found, string(secret))
		}
	}
	return append(found, k.accessToken...)
}
