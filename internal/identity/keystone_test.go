package identity

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// fernetToken looks like one of Keystone's.
const fernetToken = "gAAAAABm1234"

// keystone is a Keystone whose answers a test decides.
type keystone struct {
	asked  atomic.Int64
	groups atomic.Bool // were wanted the last time
	answer func(context.Context, flavor.Secret) (map[string]any, time.Time, error)
}

func (k *keystone) Whose(ctx context.Context, token flavor.Secret, groups bool) (map[string]any, time.Time, error) {
	k.asked.Add(1)
	k.groups.Store(groups)
	return k.answer(ctx, token)
}

func (k *keystone) expect(t *testing.T, asked int64) {
	t.Helper()
	if n := k.asked.Load(); n != asked {
		t.Errorf("Keystone was asked %d times, not %d", n, asked)
	}
}

func (k *keystone) chain(t *testing.T, c *clock, cfg ...ProviderConfig) *Chain {
	t.Helper()
	chain, err := New(cfg, WithClock(c.now), WithKeystone(k), onLoopback)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(chain.Close)
	return chain
}

// operator is what Keystone says of an administrator of a project.
func operator(context.Context, flavor.Secret) (map[string]any, time.Time, error) {
	domain := map[string]any{"id": "default", "name": "Default"}
	return map[string]any{
		"user":        map[string]any{"id": "u1", "name": "operator", "domain": domain},
		"project":     map[string]any{"id": "p1", "name": "spain2", "domain": domain},
		"roles":       []any{map[string]any{"id": "r1", "name": "admin"}, map[string]any{"id": "r2", "name": "member"}},
		"assignments": []any{"admin@spain2@Default", "member@spain2@Default"},
		"groups":      []any{map[string]any{"id": "g1", "name": "trento-owners"}},
	}, time.Unix(1_700_000_000, 0).Add(24 * time.Hour), nil
}

// Roles, projects and groups of Keystone are worth what the configuration says,
// and nothing without it: an administrator of some project is no manager.
func TestKeystoneRights(t *testing.T) {
	for _, test := range []struct {
		name    string
		roles   []RoleRule
		regions []RegionRule
		want    flavor.Principal
		groups  bool
	}{
		{name: "no rules"},
		{
			name:  "a role",
			roles: []RoleRule{{"roles", "admin", RoleManager}},
			want:  flavor.Principal{Manager: true, Roles: []string{RoleManager}},
		},
		{name: "a role of another name", roles: []RoleRule{{"roles", "adm", RoleManager}}},
		{
			name:    "a role in a project",
			regions: []RegionRule{{Claim: "assignments", Match: `admin@(?P<region>.+)@Default`, Allow: []string{"spain2"}}},
			want:    flavor.Principal{Roles: []string{RoleOwner}, Regions: []string{"spain2"}},
		},
		{name: "a role in a project that counts for no region", regions: []RegionRule{{Claim: "assignments", Match: `admin@(?P<region>.+)@Default`, Allow: []string{"Trento"}}}},
		{
			name:    "a group",
			regions: []RegionRule{{Claim: "groups", Match: "(?P<region>trento)-owners"}},
			want:    flavor.Principal{Roles: []string{RoleOwner}, Regions: []string{"trento"}},
			groups:  true,
		},
		{
			name:   "a group's id",
			roles:  []RoleRule{{"groups.id", "g1", RoleManager}},
			want:   flavor.Principal{Manager: true, Roles: []string{RoleManager}},
			groups: true,
		},
		{
			name:  "a user",
			roles: []RoleRule{{"user.id", "u1", RoleManager}},
			want:  flavor.Principal{Manager: true, Roles: []string{RoleManager}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := &keystone{answer: operator}
			who, err := token(k.chain(t, new(clock), ProviderConfig{Type: TypeKeystone, Roles: test.roles, Regions: test.regions}), fernetToken)
			if err != nil {
				t.Fatal(err)
			}
			want := test.want
			if who.ID != "u1" || who.Name != "operator" || who.Provider != "keystone" || who.KeystoneUser != "u1" ||
				who.Manager != want.Manager || !slices.Equal(who.Roles, want.Roles) || !slices.Equal(who.Regions, want.Regions) {
				t.Errorf("%+v, not %+v", who, want)
			}
			if k.groups.Load() != test.groups {
				t.Errorf("groups were asked for: %t", k.groups.Load())
			}
		})
	}
}

// A token is believed for 30 s however long it lives, and never longer than it
// lives; a refused one is for 5 s; that Keystone is down is news each time.
func TestKeystoneIsRemembered(t *testing.T) {
	k, c := &keystone{answer: operator}, new(clock)
	chain := k.chain(t, c, ProviderConfig{Type: TypeKeystone})
	ask := func(want flavor.Code, asked int64) {
		t.Helper()
		_, err := token(chain, fernetToken)
		expectCode(t, err, want)
		k.expect(t, asked)
	}
	ask("", 1)
	c.advance(29 * time.Second)
	ask("", 1)
	c.advance(time.Second)
	k.answer = func(context.Context, flavor.Secret) (map[string]any, time.Time, error) {
		return nil, time.Time{}, flavor.Errorf(flavor.CodeKeystone, "expired")
	}
	ask(flavor.CodeUnauthorized, 2)
	c.advance(4 * time.Second)
	ask(flavor.CodeUnauthorized, 2)
	c.advance(time.Second)
	k.answer = func(context.Context, flavor.Secret) (map[string]any, time.Time, error) {
		return nil, time.Time{}, flavor.Errorf(flavor.CodeUnreachable, "down")
	}
	ask(flavor.CodeUnavailable, 3)
	ask(flavor.CodeUnavailable, 4)
	k.answer = func(ctx context.Context, token flavor.Secret) (map[string]any, time.Time, error) {
		claims, _, err := operator(ctx, token)
		return claims, c.now().Add(3 * time.Second), err
	}
	ask("", 5)
	c.advance(3 * time.Second)
	ask("", 6)
}

// Keystone's tokens are shown to Keystone alone, JWTs to nobody here, and what
// tells nothing to each provider in its order.
func TestKeystoneSeesItsOwn(t *testing.T) {
	for _, test := range []struct {
		name, token string
		first, last int64 // how often KeyRock and Keystone are asked
	}{
		{"Fernet", fernetToken, 0, 1},
		{"opaque", "5b3f0dc4e1b2a697", 1, 1},
		{"a JWT", b64(`{"alg":"ES256"}`) + "." + b64(`{"sub":"u1"}`) + ".c2ln", 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			first := newIDM(t, text(401, ""))
			k := &keystone{answer: operator}
			_, err := token(k.chain(t, new(clock), keyrock(first), ProviderConfig{Type: TypeKeystone}), flavor.Secret(test.token))
			if (err == nil) != (test.last == 1) {
				t.Error(err)
			}
			first.expect(t, test.first)
			k.expect(t, test.last)
		})
	}
}

// A Keystone that hangs costs a caller the time limit, and a crowd with one token
// is one question.
func TestKeystoneThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keystone{answer: func(ctx context.Context, _ flavor.Secret) (map[string]any, time.Time, error) {
			<-ctx.Done()
			return nil, time.Time{}, flavor.Errorf(flavor.CodeUnreachable, "hung: %w", context.Cause(ctx))
		}}
		chain := k.chain(t, new(clock), ProviderConfig{Type: TypeKeystone})
		began := time.Now()
		var crowd sync.WaitGroup
		for range 100 {
			crowd.Go(func() {
				_, err := token(chain, fernetToken)
				expectCode(t, err, flavor.CodeUnavailable)
				if err != nil && strings.Contains(err.Error(), fernetToken) {
					t.Errorf("the error holds the token: %v", err)
				}
			})
		}
		crowd.Wait()
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("it took %s", took)
		}
		k.expect(t, 1)
	})
}

// Where nobody says what to ask, the provider is refused at start.
func TestKeystoneMustBeThere(t *testing.T) {
	if _, err := New([]ProviderConfig{{Type: TypeKeystone}}); err == nil || !strings.Contains(err.Error(), "identity[0]") {
		t.Errorf("%v", err)
	}
}
