package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/singleflight"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

const (
	goodFor    = 30 * time.Second // how long an accepted token is remembered
	refusedFor = 5 * time.Second  // how long a refused one is
	retryAfter = 5 * time.Second  // what a caller is told when KeyRock cannot be asked
	maxAnswer  = 1 << 20          // bytes of KeyRock's answer
	maxConns   = 64               // connections to one KeyRock; further look-ups wait within their timeout
)

// keyRock is FIWARE's identity manager, version 5 to 8: it tells at
// GET /user?access_token=T whose OAuth2 token T is.
type keyRock struct {
	url           *url.URL
	appID         string
	organizations map[string]string
	organization  *regexp.Regexp
	region        int // the group of organization
	managerRole   string
	ownerRole     string
	timeout       time.Duration
	now           func() time.Time
	transport     *http.Transport
	client        *http.Client

	// key makes the tokens' hashes worthless outside this process.
	key     [32]byte
	flights singleflight.Group

	mu sync.Mutex
	// Two memories, so that a flood of bad tokens forgets no good one.
	good    *simplelru.LRU[digest, remembered]
	refused *simplelru.LRU[digest, remembered]
}

type digest [sha256.Size]byte

// remembered is KeyRock's word on a token.
type remembered struct {
	who   flavor.Principal
	err   error
	until time.Time
}

func newKeyRock(c ProviderConfig, now func() time.Time) *keyRock {
	k := &keyRock{
		appID: c.AppID, organizations: maps.Clone(c.Organizations),
		managerRole: c.ManagerRole, ownerRole: c.OwnerRole, timeout: c.Timeout, now: now,
	}
	// Validate has tried these; the size of a memory is at least 1.
	k.url, _ = url.Parse(c.URL)
	k.organization, _ = wholePattern(c.OrganizationPattern)
	k.region = k.organization.SubexpIndex("region")
	k.good, _ = simplelru.NewLRU[digest, remembered](c.CacheSize, nil)
	k.refused, _ = simplelru.NewLRU[digest, remembered](c.CacheSize, nil)
	rand.Read(k.key[:])
	k.transport = &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        maxConns,
		MaxIdleConnsPerHost: maxConns,
		MaxConnsPerHost:     maxConns,
		IdleConnTimeout:     90 * time.Second,

		MaxResponseHeaderBytes: 64 << 10,
	}
	k.client = &http.Client{
		Transport: k.transport,
		// A redirect would carry the token to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return k
}

func (k *keyRock) Name() string { return TypeKeyRock }

// Token answers from memory where it can. Callers who bring the same unknown
// token together share one look-up; it goes on when the first of them leaves.
func (k *keyRock) Token(ctx context.Context, token flavor.Secret) (flavor.Principal, error) {
	sum := k.digest(token)
	if r, ok := k.recall(sum); ok {
		return r.who, r.err
	}
	return k.lookUp(ctx, sum, token)
}

func (k *keyRock) lookUp(ctx context.Context, sum digest, token flavor.Secret) (flavor.Principal, error) {
	flight := k.flights.DoChan(string(sum[:]), func() (any, error) {
		// A flight may have landed between our look into the memory and here.
		if r, ok := k.recall(sum); ok {
			return r, nil
		}
		asked := k.now()
		who, err := k.ask(context.WithoutCancel(ctx), token)
		return k.remember(sum, asked, who, err), nil
	})
	select {
	case landed := <-flight:
		r := landed.Val.(remembered)
		return r.who, r.err
	case <-ctx.Done():
		return flavor.Principal{}, unavailable("the caller did not wait for the answer of the identity provider keyrock: %w", context.Cause(ctx))
	}
}

func (k *keyRock) digest(token flavor.Secret) digest {
	buf := make([]byte, 0, 256)
	buf = append(buf, k.key[:]...)
	buf = append(buf, token...)
	return sha256.Sum256(buf)
}

func (k *keyRock) recall(sum digest) (remembered, bool) {
	now := k.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, memory := range []*simplelru.LRU[digest, remembered]{k.good, k.refused} {
		if r, ok := memory.Get(sum); ok {
			if now.Before(r.until) {
				return r, true
			}
			memory.Remove(sum)
		}
	}
	return remembered{}, false
}

// remember keeps what is KeyRock's word on the token; that it could not be
// asked is not. The time counts from the question: what KeyRock revokes ends
// within goodFor.
func (k *keyRock) remember(sum digest, asked time.Time, who flavor.Principal, err error) remembered {
	r := remembered{who: who, err: err}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err == nil:
		r.until = asked.Add(goodFor)
		k.good.Add(sum, r)
	case flavor.CodeOf(err) == flavor.CodeUnauthorized:
		r.until = asked.Add(refusedFor)
		k.refused.Add(sum, r)
	}
	return r
}

// ask shows the token to KeyRock, within the timeout.
func (k *keyRock) ask(ctx context.Context, token flavor.Secret) (flavor.Principal, error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	at := *k.url
	query := at.Query()
	query.Set("access_token", string(token))
	at.RawQuery = query.Encode()
	failed := func(what string, err error) error {
		return unavailable("the identity provider keyrock at %s %s: %w", k.url.Host, what, err)
	}
	broken := func(what string, err error) error {
		if ctx.Err() != nil {
			what = "did not answer within " + k.timeout.String()
		}
		return failed(what, withoutQuotes(err))
	}
	req := (&http.Request{
		Method: http.MethodGet, URL: &at, Host: at.Host,
		Header: http.Header{"Accept": {"application/json"}, "User-Agent": {"flavorsync"}},
	}).WithContext(ctx)
	res, err := k.client.Do(req)
	if err != nil {
		return flavor.Principal{}, broken("cannot be reached", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden, res.StatusCode == http.StatusNotFound:
		return flavor.Principal{}, refused("does not accept the token")
	case res.StatusCode != http.StatusOK:
		return flavor.Principal{}, failed("answers nonsense", fmt.Errorf("status %d", res.StatusCode))
	case err != nil:
		return flavor.Principal{}, broken("broke off its answer", err)
	case len(body) > maxAnswer:
		return flavor.Principal{}, failed("answers nonsense", fmt.Errorf("more than %d bytes", maxAnswer))
	}
	var u keyRockUser
	if err := json.Unmarshal(body, &u, jsontext.AllowInvalidUTF8(true)); err != nil {
		return flavor.Principal{}, failed("answers nonsense", errors.New("not the JSON of a user"))
	}
	if u.ID == "" || strings.ContainsFunc(u.ID, unicode.IsControl) {
		return flavor.Principal{}, failed("answers nonsense", errors.New("no user id"))
	}
	if k.appID != "" && u.AppID != k.appID {
		return flavor.Principal{}, refused("issued the token for another application: ask for one for app_id %s", k.appID)
	}
	return k.principal(u), nil
}

// withoutQuotes is what of err may be logged. The token is in the URL, which
// url.Error quotes, and an answer that is no HTTP, which other errors of
// net/http quote, may hold it too: so only what comes from below HTTP is told.
func withoutQuotes(err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e
	}
	for _, known := range []error{context.DeadlineExceeded, http.ErrSchemeMismatch, io.ErrUnexpectedEOF, io.EOF} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errors.New("not an answer in HTTP")
}

func unavailable(format string, args ...any) *flavor.Error {
	e := flavor.Errorf(flavor.CodeUnavailable, format, args...)
	e.RetryAfter = retryAfter
	return e
}

func refused(format string, args ...any) *flavor.Error {
	return flavor.Errorf(flavor.CodeUnauthorized, "the identity provider keyrock "+format, args...)
}

// keyRockUser is what of KeyRock's answer counts here.
type keyRockUser struct {
	ID            string                `json:"id"`
	DisplayName   string                `json:"displayName"`
	Username      string                `json:"username"`
	AppID         string                `json:"app_id"`
	Roles         []keyRockRole         `json:"roles"`
	Organizations []keyRockOrganization `json:"organizations"`
}

type keyRockOrganization struct {
	ID    string        `json:"id"`
	Name  string        `json:"name"`
	Roles []keyRockRole `json:"roles"`
}

type keyRockRole struct {
	Name string `json:"name"`
}

// principal reads the rights out of KeyRock's answer. The role of a manager
// counts among the user's own roles only, that of an owner in the region's
// organisation only.
func (k *keyRock) principal(u keyRockUser) flavor.Principal {
	var roles, regions []string
	p := flavor.Principal{ID: u.ID, Provider: TypeKeyRock}
	for _, r := range u.Roles {
		p.Manager = p.Manager || r.Name == k.managerRole
		roles = append(roles, printable(r.Name))
	}
	for _, o := range u.Organizations {
		owner := slices.ContainsFunc(o.Roles, func(r keyRockRole) bool { return r.Name == k.ownerRole })
		if region := k.regionOf(o); owner && flavor.ValidRegionName(region) {
			regions = append(regions, region)
			roles = append(roles, k.ownerRole)
		}
	}
	for _, name := range []string{u.DisplayName, u.Username, u.ID} {
		if p.Name == "" {
			p.Name = printable(name)
		}
	}
	p.Roles, p.Regions = set(roles), set(regions)
	return p
}

// regionOf is the region whose organisation o is, "" for none.
func (k *keyRock) regionOf(o keyRockOrganization) string {
	if len(k.organizations) > 0 {
		return k.organizations[o.ID]
	}
	if m := k.organization.FindStringSubmatch(o.Name); m != nil {
		return m[k.region]
	}
	return ""
}

// printable is s as any answer can carry it, XML too.
func printable(s string) string {
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == 0xFFFE || r == 0xFFFF {
			return unicode.ReplacementChar
		}
		return r
	}, s), string(unicode.ReplacementChar))
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
