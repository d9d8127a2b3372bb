package identity

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Keystone is the federation's Keystone; *openstack.Clouds is one.
type Keystone interface {
	// Whose is what Keystone says of a token of its own, scoped or not, and when
	// that ends. The claims are
	//
	//	user, project  {"id", "name", "domain": {"id", "name"}}; no project where
	//	               the token is scoped to none
	//	roles          [{"id", "name"}], those in that project
	//	assignments    ["ROLE@PROJECT@DOMAIN"], the same as texts, by their names
	//	groups         [{"id", "name"}], the user's, where they are wanted
	//
	// Its errors are flavor.CodeKeystone where Keystone does not accept the token,
	// else flavor.CodeUnreachable.
	Whose(ctx context.Context, token flavor.Secret, groups bool) (claims map[string]any, until time.Time, err error)
}

// keystoneTokens is the provider of tokens that are Keystone's own. Without
// rules whoever has one is a user: no role of OpenStack means anything here that
// the configuration does not say, least of all admin.
type keystoneTokens struct {
	keystone Keystone
	memory   *memory
	timeout  time.Duration
	settings settings
	rules    mapping
	groups   bool // a rule is about them
}

func newKeystoneTokens(c ProviderConfig, s settings) *keystoneTokens {
	k := &keystoneTokens{
		keystone: s.keystone, memory: newMemory(TypeKeystone, c.CacheSize, s.now), timeout: c.Timeout, settings: s,
		rules: newMapping(c.Roles, c.Regions),
	}
	about := func(claim string) bool { return claim == "groups" || strings.HasPrefix(claim, "groups.") }
	k.groups = slices.ContainsFunc(c.Roles, func(r RoleRule) bool { return about(r.Claim) }) ||
		slices.ContainsFunc(c.Regions, func(r RegionRule) bool { return about(r.Claim) })
	return k
}

func (*keystoneTokens) Name() string { return TypeKeystone }

// Token asks Keystone, or remembers.
func (k *keystoneTokens) Token(ctx context.Context, token flavor.Secret) (flavor.Principal, error) {
	return k.memory.token(ctx, token, func(ctx context.Context) verdict {
		ctx, cancel := context.WithTimeout(ctx, k.timeout)
		defer cancel()
		started := time.Now()
		claims, until, err := k.keystone.Whose(ctx, token, k.groups)
		outcome := outcomeOK
		if flavor.CodeOf(err) == flavor.CodeKeystone {
			outcome = outcomeRefused
		} else if err != nil {
			outcome = outcomeUnavailable
		}
		k.settings.asked(ctx, TypeKeystone, outcome, started)
		switch {
		case flavor.CodeOf(err) == flavor.CodeKeystone:
			return verdict{err: flavor.Errorf(flavor.CodeUnauthorized, "the identity provider keystone does not accept the token: %w", err)}
		case err != nil:
			return verdict{err: unavailable("the identity provider keystone cannot be asked: %w", err)}
		}
		who, err := k.principal(claims)
		return verdict{who: who, err: err, until: until}
	})
}

func (k *keystoneTokens) principal(claims map[string]any) (flavor.Principal, error) {
	id := claimText(claims, "user.id")
	if id == "" {
		return flavor.Principal{}, unavailable("the identity provider keystone answers nonsense: no user id")
	}
	p := flavor.Principal{ID: id, Name: printable(claimText(claims, "user.name")), Provider: TypeKeystone, KeystoneUser: id}
	if p.Name == "" {
		p.Name = id
	}
	k.rules.apply(&p, claims)
	return p, nil
}
