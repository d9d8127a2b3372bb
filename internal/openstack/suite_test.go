package openstack_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/openstack"
)

// federation is a Keystone and the Novas of Spain2, Trento and Lannion2, real
// or simulated, with the users of the project's own federation.
type federation struct {
	keystone string // URL
	blind    bool   // Nova compares without case and accents
	real     bool
}

// The suite says what this package relies on. A simulation is trusted only
// while it passes the same suite as the real thing.
var suite = []struct {
	name string
	test func(*testing.T, federation)
}{
	{"a flavor goes in and comes back the same", testRoundTrip},
	{"non-public flavors and who may use them", testAccess},
	{"extra specs are replaced", testExtraSpecs},
	{"descriptions are replaced", testDescribe},
	{"ids and names are taken once", testConflict},
	{"ids and names that differ in case", testCase},
	{"what Nova accepts not", testInvalid},
	{"flavors that are not there", testNotFound},
	{"who may write", testDelegated},
	{"tokens that open nothing", testBadTokens},
	{"accounts that are refused", testBadAccounts},
	{"application credentials", testApplicationCredentials},
	{"access tokens", testAccessTokens},
	{"a token of somebody else", testSomebodyElse},
	{"whose token it is", testWhose},
	{"catalogs and URLs", testEndpoints},
	{"a hundred callers at once", testCrowd},
	{"ids are not paths", testPaths},
	{"request ids are collected", testTrace},
}

func run(t *testing.T, f federation) {
	for _, s := range suite {
		t.Run(strings.ReplaceAll(s.name, " ", "-"), func(t *testing.T) { s.test(t, f) })
	}
}

// TestReal runs the suite on a real Keystone and a real Nova, which others may
// use at the same time: everything it makes has an id of its own, and goes.
func TestReal(t *testing.T) {
	url := os.Getenv("FLAVORSYNC_TEST_KEYSTONE_URL")
	if url == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("FLAVORSYNC_TEST_KEYSTONE_URL is not set: there is no real OpenStack to test on")
		}
		t.Skip("FLAVORSYNC_TEST_KEYSTONE_URL is not set: no test on a real OpenStack")
	}
	run(t, federation{real: true, keystone: url, blind: os.Getenv("FLAVORSYNC_TEST_NOVA_COLLATION") == "blind"})
}

func (f federation) clouds(t *testing.T) *openstack.Clouds {
	t.Helper()
	c := openstack.New(openstack.Config{KeystoneURL: f.keystone, RegionTimeout: 30 * time.Second, AllowHTTP: true, Unguarded: true})
	t.Cleanup(c.Close)
	return c
}

// region is a region with a service account that may manage flavors.
func (f federation) region(name string) flavor.Region {
	return flavor.Region{
		Name: name, KeystoneURL: f.keystone, Username: "operator", Password: "operator-secret", Tenant: "operators",
		UserDomain: "Default", ProjectDomain: "Default",
	}
}

// token issues a Keystone token, scoped to project if there is one.
func (f federation) token(t testing.TB, user, password, project string) flavor.Secret {
	t.Helper()
	scope := ""
	if project != "" {
		scope = fmt.Sprintf(`,"scope":{"project":{"name":%q,"domain":{"name":"Default"}}}`, project)
	}
	token, _ := f.authenticate(t, fmt.Sprintf(
		`{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":%q,"domain":{"name":"Default"},"password":%q}}}%s}}`, user, password, scope))
	return token
}

func (f federation) authenticate(t testing.TB, body string) (token flavor.Secret, project string) {
	t.Helper()
	resp, err := http.Post(f.keystone+"/auth/tokens", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token struct{ Project struct{ ID string } }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("Keystone gave no token: %s, %v", resp.Status, err)
	}
	return flavor.Secret(resp.Header.Get("X-Subject-Token")), answer.Token.Project.ID
}

// project is the id of the project operators.
func (f federation) project(t *testing.T) string {
	t.Helper()
	_, id := f.authenticate(t, `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"operator","domain":{"name":"Default"},"password":"operator-secret"}}},"scope":{"project":{"name":"operators","domain":{"name":"Default"}}}}}`)
	return id
}

// fresh is a flavor nobody has yet.
func fresh() flavor.NovaFlavor {
	id := uuid.NewString()
	return flavor.NovaFlavor{ID: id, IsPublic: true, Spec: flavor.Spec{Name: "test " + id, VCPUs: 2, RAM: 512, Disk: 10, RxTxFactor: 1}}
}

// put creates f, and removes it at the end of the test.
func put(t testing.TB, c *openstack.Compute, f flavor.NovaFlavor) flavor.NovaFlavor {
	t.Helper()
	created, err := c.Create(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.Background(), created.ID); err != nil && flavor.CodeOf(err) != flavor.CodeNotFound {
			t.Error(err)
		}
	})
	return created
}

func same(t *testing.T, what string, got, want flavor.NovaFlavor) {
	t.Helper()
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// fails checks an error's code, and that it is fit to be told to a client.
func fails(t *testing.T, err error, code flavor.Code, words ...string) {
	t.Helper()
	if flavor.CodeOf(err) != code {
		t.Errorf("code %q, not %q: %v", flavor.CodeOf(err), code, err)
		return
	}
	e, _ := errors.AsType[*flavor.Error](err)
	for _, word := range words {
		if !strings.Contains(e.Message, word) {
			t.Errorf("the message does not say %q: %s", word, e.Message)
		}
	}
	for _, secret := range []string{"secret", "gAAAA", "already exists", "does not match"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error holds %q: %s", secret, err)
		}
	}
}

func testRoundTrip(t *testing.T, f federation) {
	c := f.clouds(t).Service(f.region("Spain2"))
	small := fresh()
	big := fresh()
	big.Spec = flavor.Spec{
		Name: "大 ä/?#%; " + big.ID, VCPUs: flavor.MaxNumber, RAM: flavor.MaxNumber, Disk: flavor.MaxNumber, Swap: flavor.MaxNumber,
		Ephemeral: flavor.MaxNumber, RxTxFactor: 1.5, Description: "Größer geht <nicht>",
		ExtraSpecs: map[string]string{"hw:cpu_policy": "dedicated", "a key with blanks": "", "n": "42"},
	}
	odd := fresh()
	odd.ID, odd.Disk = "An id with . _- "+odd.ID, 0
	for _, want := range []flavor.NovaFlavor{small, big, odd} {
		same(t, "what Create answers", put(t, c, want), want)
		got, err := c.Get(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "what Get answers", got, want)
	}
	all, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []flavor.NovaFlavor{small, big, odd} {
		i := slices.IndexFunc(all, func(f flavor.NovaFlavor) bool { return f.ID == want.ID })
		if i < 0 {
			t.Fatalf("%q is not listed", want.ID)
		}
		same(t, "what List answers", all[i], want)
	}
	chosen := fresh()
	chosen.ID = ""
	if got := put(t, c, chosen); !flavor.IsUUID(got.ID) {
		t.Errorf("Nova chose the id %q, not a UUID", got.ID)
	}
}

func testAccess(t *testing.T, f federation) {
	c := f.clouds(t).Service(f.region("Spain2"))
	hidden := fresh()
	hidden.IsPublic = false
	put(t, c, hidden)
	all, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(f flavor.NovaFlavor) bool { return f.ID == hidden.ID && !f.IsPublic }) {
		t.Error("the non-public flavor is not listed")
	}
	if got, err := c.Access(t.Context(), hidden.ID); err != nil || len(got) != 0 {
		t.Errorf("a new flavor may be used by %v, %v", got, err)
	}
	project := f.project(t)
	for range 2 { // the second time it has access already
		if err := c.Grant(t.Context(), hidden.ID, []string{project}); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Access(t.Context(), hidden.ID); err != nil || !slices.Equal(got, []string{project}) {
			t.Errorf("it may be used by %v, %v", got, err)
		}
	}
	fails(t, c.Grant(t.Context(), hidden.ID, []string{"nosuchproject"}), flavor.CodeInvalid, "Spain2", "project")
	public := put(t, c, fresh())
	if got, err := c.Access(t.Context(), public.ID); err != nil || len(got) != 0 {
		t.Errorf("a public flavor has an access list: %v, %v", got, err)
	}
	fails(t, c.Grant(t.Context(), public.ID, []string{project}), flavor.CodeConflict, "Spain2", "public")
	_, err = c.Access(t.Context(), uuid.NewString())
	fails(t, err, flavor.CodeNotFound, "Spain2")
}

func testExtraSpecs(t *testing.T, f federation) {
	c := f.clouds(t).Service(f.region("Spain2"))
	it := fresh()
	it.ExtraSpecs = map[string]string{"stays": "1", "changes": "1", "goes": "1", "case": "1", "goes too: a.b-c_d": "1"}
	put(t, c, it)
	for _, want := range []map[string]string{
		{"stays": "1", "changes": "2", "Case": "1", "comes": "1"},
		{"stays": "1", "changes": "2", "Case": "1", "comes": "1"},
		{},
		{"again": "x"},
	} {
		if err := c.SetExtraSpecs(t.Context(), it.ID, want); err != nil {
			t.Fatal(err)
		}
		it.ExtraSpecs = want
		got, err := c.Get(t.Context(), it.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "after SetExtraSpecs", got, it)
	}
	fails(t, c.SetExtraSpecs(t.Context(), it.ID, map[string]string{"again": "y", "a/b": "1"}), flavor.CodeInvalid, "Spain2", "extra_specs")
	got, err := c.Get(t.Context(), it.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "after refused extra specs", got, it)
	fails(t, c.SetExtraSpecs(t.Context(), uuid.NewString(), nil), flavor.CodeNotFound, "Spain2")
}

func testDescribe(t *testing.T, f federation) {
	c := f.clouds(t).Service(f.region("Spain2"))
	it := put(t, c, fresh())
	for _, want := range []string{"für alle", "für alle", "", strings.Repeat("ä", 10000)} {
		if err := c.Describe(t.Context(), it.ID, want); err != nil {
			t.Fatal(err)
		}
		it.Description = want
		got, err := c.Get(t.Context(), it.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "after Describe", got, it)
	}
	// Nova takes no control character there, not even the end of a line.
	fails(t, c.Describe(t.Context(), it.ID, "two\nlines"), flavor.CodeInvalid, "Spain2", "description")
	fails(t, c.Describe(t.Context(), uuid.NewString(), "x"), flavor.CodeNotFound, "Spain2")
}

func testConflict(t *testing.T, f federation) {
	c := f.clouds(t).Service(f.region("Spain2"))
	it := put(t, c, fresh())
	other := fresh()
	other.ID = it.ID
	_, err := c.Create(t.Context(), other)
	fails(t, err, flavor.CodeConflict, "Spain2", "id")
	other = fresh()
	other.Name = it.Name
	_, err = c.Create(t.Context(), other)
	fails(t, err, flavor.CodeConflict, "Spain2", "name")

	one := fresh()
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			mine := one
			mine.ID = fmt.Sprintf("%s-%d", one.ID, i)
			t.Cleanup(func() { _ = c.Delete(context.Background(), mine.ID) })
			_, errs[i] = c.Create(t.Context(), mine)
		})
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else {
			fails(t, err, flavor.CodeConflict)
		}
	}
	if made != 1 {
		t.Errorf("of 8 creations of one name %d succeeded", made)
	}
}

func testCase(t *testing.T, f federation) {
	c := f.clouds(t).Service(f.region("Spain2"))
	it := fresh()
	it.ID, it.Name = "case-"+it.ID, "case-"+it.ID
	put(t, c, it)
	shout := it
	shout.ID, shout.Name = strings.ToUpper(it.ID), "other"+it.Name
	_, err := c.Get(t.Context(), shout.ID)
	fails(t, err, flavor.CodeNotFound, "Spain2", shout.ID)
	fails(t, c.Delete(t.Context(), shout.ID), flavor.CodeNotFound)
	fails(t, c.Describe(t.Context(), shout.ID, "x"), flavor.CodeNotFound)
	fails(t, c.SetExtraSpecs(t.Context(), shout.ID, map[string]string{"k": "v"}), flavor.CodeNotFound)
	fails(t, c.Grant(t.Context(), shout.ID, []string{"p"}), flavor.CodeNotFound)
	got, err := c.Get(t.Context(), it.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the one in lower case, after all was tried on the one in upper case", got, it)

	accent := fresh()
	accent.Name = "cäse-" + it.ID[len("case-"):]
	twoKeys := fresh()
	twoKeys.ExtraSpecs = map[string]string{"k": "1", "K": "2"}
	if !f.blind {
		put(t, c, shout)
		put(t, c, accent)
		same(t, "keys that differ in case", put(t, c, twoKeys), twoKeys)
		return
	}
	_, err = c.Create(t.Context(), shout)
	fails(t, err, flavor.CodeConflict, "id", "case")
	_, err = c.Create(t.Context(), accent)
	fails(t, err, flavor.CodeConflict, "name", "accents")
	_, err = c.Create(t.Context(), twoKeys)
	fails(t, err, flavor.CodeConflict, "extra specs", "removed again")
	_, err = c.Get(t.Context(), twoKeys.ID)
	fails(t, err, flavor.CodeNotFound)
}

func testInvalid(t *testing.T, f federation) {
	c := f.clouds(t).Service(f.region("Spain2"))
	for field, spoil := range map[string]func(*flavor.NovaFlavor){
		"name":        func(f *flavor.NovaFlavor) { f.Name = " " + f.Name },
		"ram":         func(f *flavor.NovaFlavor) { f.RAM = -1 },
		"vcpus":       func(f *flavor.NovaFlavor) { f.VCPUs = flavor.MaxNumber + 1 },
		"disk":        func(f *flavor.NovaFlavor) { f.Disk = -1 },
		"swap":        func(f *flavor.NovaFlavor) { f.Swap = -1 },
		"ephemeral":   func(f *flavor.NovaFlavor) { f.Ephemeral = -1 },
		"rxtx_factor": func(f *flavor.NovaFlavor) { f.RxTxFactor = -1 },
		"description": func(f *flavor.NovaFlavor) { f.Description = "two\nlines" },
		"extra_specs": func(f *flavor.NovaFlavor) { f.ExtraSpecs = map[string]string{"a/b": "1"} },
		"id":          func(f *flavor.NovaFlavor) { f.ID = "detail" },
	} {
		bad := fresh()
		bad.Name += " " + field
		spoil(&bad)
		_, err := c.Create(t.Context(), bad)
		fails(t, err, flavor.CodeInvalid, field)
		_, err = c.Get(t.Context(), bad.ID)
		fails(t, err, flavor.CodeNotFound)
	}
}

func testNotFound(t *testing.T, f federation) {
	clouds := f.clouds(t)
	id := uuid.NewString()
	mine, err := clouds.Delegated(t.Context(), f.region("Trento"), f.token(t, "operator", "operator-secret", "operators"), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*openstack.Compute{clouds.Service(f.region("Trento")), mine} {
		_, err := c.Get(t.Context(), id)
		fails(t, err, flavor.CodeNotFound, "Trento", id)
		fails(t, c.Delete(t.Context(), id), flavor.CodeNotFound, "Trento", id)
	}
	// What is deleted is gone at once, and its id and name are free.
	it := fresh()
	for range 2 {
		put(t, mine, it)
		if err := mine.Delete(t.Context(), it.ID); err != nil {
			t.Fatal(err)
		}
		fails(t, mine.Delete(t.Context(), it.ID), flavor.CodeNotFound)
	}
}

func testDelegated(t *testing.T, f federation) {
	clouds := f.clouds(t)
	it := fresh()
	it.ExtraSpecs = map[string]string{"k": "v"}
	it.Description = "seen by all"
	put(t, clouds.Service(f.region("Trento")), it)
	reader, err := clouds.Delegated(t.Context(), f.region("Trento"), f.token(t, "member", "member-secret", "demo"), "")
	if err != nil {
		t.Fatal(err)
	}
	all, err := reader.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(all, func(f flavor.NovaFlavor) bool { return f.ID == it.ID }); i < 0 {
		t.Error("a member does not see a public flavor")
	} else {
		same(t, "what a member sees", all[i], it)
	}
	_, err = reader.Create(t.Context(), fresh())
	fails(t, err, flavor.CodeForbidden, "Trento")
	fails(t, reader.Delete(t.Context(), it.ID), flavor.CodeForbidden, "Trento")
	fails(t, reader.Describe(t.Context(), it.ID, "x"), flavor.CodeForbidden, "Trento")
	fails(t, reader.SetExtraSpecs(t.Context(), it.ID, nil), flavor.CodeForbidden, "Trento")
	if got := reader.Check(t.Context()); got.State != flavor.RegionUp {
		t.Errorf("a member's check: %+v", got)
	}
}

func testBadTokens(t *testing.T, f federation) {
	clouds := f.clouds(t)
	for name, token := range map[string]flavor.Secret{
		"none": "", "nonsense": "nonsense", "no header": "a\r\nX-Evil: 1", "unscoped": f.token(t, "member", "member-secret", ""),
		"like one": "gAAAAABrARlB5vNmYH_2twMePZGrNUOOjoAcyJTQEGk",
	} {
		_, err := clouds.Delegated(t.Context(), f.region("Spain2"), token, "")
		fails(t, err, flavor.CodeKeystone, "X-Auth-Token-KeyStone")
		if err != nil && token != "" && strings.Contains(err.Error(), string(token)) {
			t.Errorf("%s: the error holds the token: %v", name, err)
		}
	}
}

func testBadAccounts(t *testing.T, f federation) {
	clouds := f.clouds(t)
	for name, spoil := range map[string]func(*flavor.Region){
		"password": func(r *flavor.Region) { r.Password = "wrong" },
		"user":     func(r *flavor.Region) { r.Username = "nobody" },
		"project":  func(r *flavor.Region) { r.Tenant = "nowhere" },
		"domain":   func(r *flavor.Region) { r.UserDomain = "Elsewhere" },
	} {
		t.Run(name, func(t *testing.T) {
			r := f.region("Spain2")
			spoil(&r)
			c := clouds.Service(r)
			_, err := c.List(t.Context())
			fails(t, err, flavor.CodeUnreachable, "Spain2", "service account", "PUT /v1/infrastructures/Spain2")
			if got := c.Check(t.Context()); got.State != flavor.RegionRefused || got.LastError == "" || got.CheckedAt.IsZero() {
				t.Errorf("the status is %+v", got)
			}
		})
	}
	// An account that may only read is accepted, and fails when it writes.
	r := f.region("Spain2")
	r.Username, r.Password, r.Tenant = "member", "member-secret", "demo"
	_, err := clouds.Service(r).Create(t.Context(), fresh())
	fails(t, err, flavor.CodeUnreachable, "Spain2", "service account", "role")
	if got := clouds.Service(f.region("Spain2")).Check(t.Context()); got.State != flavor.RegionUp || got.LastError != "" {
		t.Errorf("the status of a good account after bad ones is %+v", got)
	}
}

// call asks Keystone with a token, and reads the answer into value.
func (f federation) call(t *testing.T, method, path string, token flavor.Secret, body string, value any) (status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, f.keystone+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", string(token))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if value != nil {
		if err := json.NewDecoder(resp.Body).Decode(value); err != nil {
			t.Fatalf("%s %s: %s, %v", method, path, resp.Status, err)
		}
	}
	return resp.StatusCode
}

// validated reads what Keystone says of a token to whoever has it.
func (f federation) validated(t testing.TB, token flavor.Secret, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.keystone+"/auth/tokens", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", string(token))
	req.Header.Set("X-Subject-Token", string(token))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("whose token it is: %s, %v", resp.Status, err)
	}
}

// user is the id of whoever has the token.
func (f federation) user(t *testing.T, token flavor.Secret) string {
	t.Helper()
	var answer struct {
		Token struct{ User struct{ ID string } }
	}
	if f.validated(t, token, &answer); answer.Token.User.ID == "" {
		t.Fatal("a token is nobody's")
	}
	return answer.Token.User.ID
}

// works says that the service account of r may manage flavors. It cleans up at once:
// the account may be gone at the end of the test.
func works(t *testing.T, c *openstack.Compute) {
	t.Helper()
	it, err := c.Create(t.Context(), fresh())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Delete(t.Context(), it.ID); err != nil {
			t.Error(err)
		}
	}()
	if got, err := c.Get(t.Context(), it.ID); err != nil || got.ID != it.ID {
		t.Errorf("what it made: %+v, %v", got, err)
	}
	if got := c.Check(t.Context()); got.State != flavor.RegionUp || got.LastError != "" {
		t.Errorf("its status is %+v", got)
	}
}

// refusedAccount says that Keystone refuses the service account, and what to do.
func refusedAccount(t *testing.T, c *openstack.Compute, words ...string) {
	t.Helper()
	_, err := c.List(t.Context())
	fails(t, err, flavor.CodeUnreachable, append(words, "service account", "PUT /v1/infrastructures/Spain2")...)
	got := c.Check(t.Context())
	if got.State != flavor.RegionRefused {
		t.Errorf("the status is %+v", got)
	}
	for _, word := range words {
		if !strings.Contains(got.LastError, word) {
			t.Errorf("the status does not say %q: %s", word, got.LastError)
		}
	}
}

func testApplicationCredentials(t *testing.T, f federation) {
	token := f.token(t, "operator", "operator-secret", "operators")
	all := "/users/" + f.user(t, token) + "/application_credentials"
	name := "test " + uuid.NewString()
	var made struct {
		It struct{ ID, Secret string } `json:"application_credential"`
	}
	if status := f.call(t, http.MethodPost, all, token, fmt.Sprintf(`{"application_credential":{"name":%q,"roles":[{"name":"admin"}]}}`, name), &made); status != http.StatusCreated {
		t.Fatalf("no application credential: %d", status)
	}
	clouds := f.clouds(t)
	byID := flavor.Region{
		Name: "Spain2", KeystoneURL: f.keystone, AuthType: flavor.AuthApplicationCredential,
		ApplicationCredentialID: made.It.ID, Password: flavor.Secret(made.It.Secret),
	}
	byName := byID
	byName.ApplicationCredentialID, byName.ApplicationCredentialName = "", name
	byName.Username, byName.UserDomain = "operator", "Default"
	works(t, clouds.Service(byID))
	works(t, clouds.Service(byName))

	for what, spoil := range map[string]func(*flavor.Region){
		"its secret": func(r *flavor.Region) { r.Password = "wrong" },
		"its id":     func(r *flavor.Region) { r.ApplicationCredentialID = "nosuch" },
	} {
		r := byID
		spoil(&r)
		t.Run(what, func(t *testing.T) { refusedAccount(t, clouds.Service(r), "application credential") })
	}
	r := byName
	r.ApplicationCredentialName = "nosuch"
	refusedAccount(t, clouds.Service(r), "application credential")
	if status := f.call(t, http.MethodDelete, all+"/"+made.It.ID, token, "", nil); status != http.StatusNoContent {
		t.Errorf("the application credential stays: %d", status)
	}
	refusedAccount(t, f.clouds(t).Service(byID), "application credential", "deleted")
}

func testAccessTokens(t *testing.T, f federation) {
	admin := f.token(t, "admin", "admin-secret", "admin")
	if status := f.call(t, http.MethodGet, "/OS-FEDERATION/identity_providers/egi.eu", admin, "", nil); status != http.StatusOK && f.real {
		if os.Getenv("CI") == "true" {
			t.Fatalf("this Keystone has no identity provider egi.eu: %d", status)
		}
		t.Skip("this Keystone has no identity provider egi.eu")
	}
	clouds := f.clouds(t)
	good := flavor.Region{
		Name: "Spain2", KeystoneURL: f.keystone, AuthType: flavor.AuthOIDCAccessToken,
		IdentityProvider: "egi.eu", Protocol: "openid", Password: "operator-access-token",
		Tenant: "operators", ProjectDomain: "Default",
	}
	works(t, clouds.Service(good))
	for _, refused := range []struct {
		what  string
		spoil func(*flavor.Region)
		word  string
	}{
		{"an expired token", func(r *flavor.Region) { r.Password = "expired" }, "give a new access_token"},
		{"another project", func(r *flavor.Region) { r.Tenant = "demo" }, "tenant"},
		{"one of no group", func(r *flavor.Region) { r.Password = "stranger-access-token" }, "tenant"},
		{"an unknown provider", func(r *flavor.Region) { r.IdentityProvider = "nosuch" }, "identity_provider"},
	} {
		t.Run(refused.what, func(t *testing.T) {
			r := good
			refused.spoil(&r)
			refusedAccount(t, clouds.Service(r), refused.word)
		})
	}
}

// testSomebodyElse: a token opens nothing for one who is known to be another
// user, whether it was validated just now or is remembered.
func testSomebodyElse(t *testing.T, f federation) {
	clouds := f.clouds(t)
	token := f.token(t, "operator", "operator-secret", "operators")
	operator, member := f.user(t, token), f.user(t, f.token(t, "member", "member-secret", "demo"))
	for range 2 {
		_, err := clouds.Delegated(t.Context(), f.region("Spain2"), token, member)
		fails(t, err, flavor.CodeForbidden, "not yours", "X-Auth-Token-KeyStone", "Spain2")
		c, err := clouds.Delegated(t.Context(), f.region("Spain2"), token, operator)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.List(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// at is the value at a path of claims.
func at(claims map[string]any, path ...string) any {
	var v any = claims
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func testWhose(t *testing.T, f federation) {
	clouds := f.clouds(t)
	token := f.token(t, "operator", "operator-secret", "operators")
	claims, until, err := clouds.Whose(t.Context(), token, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		path  []string
		value any
	}{
		{[]string{"user", "id"}, f.user(t, token)},
		{[]string{"user", "name"}, "operator"},
		{[]string{"user", "domain", "name"}, "Default"},
		{[]string{"project", "name"}, "operators"},
		{[]string{"project", "domain", "id"}, "default"},
	} {
		if got := at(claims, want.path...); got != want.value {
			t.Errorf("%v is %v, not %v", want.path, got, want.value)
		}
	}
	names := func(list any) (all []string) {
		for _, one := range list.([]any) {
			all = append(all, one.(map[string]any)["name"].(string))
		}
		slices.Sort(all)
		return all
	}
	if got := names(claims["roles"]); !slices.Equal(got, []string{"admin", "member", "reader"}) {
		t.Errorf("the roles are %v", got)
	}
	if got := claims["assignments"].([]any); !slices.Contains(got, any("admin@operators@Default")) || len(got) != 3 {
		t.Errorf("the assignments are %v", got)
	}
	if left := time.Until(until); left <= 0 || left > 25*time.Hour {
		t.Errorf("it lives for %s", left)
	}
	if _, ok := claims["groups"].([]any); !ok {
		t.Errorf("the groups are %v", claims["groups"])
	}

	claims, _, err = clouds.Whose(t.Context(), f.token(t, "member", "member-secret", ""), true)
	if err != nil || at(claims, "user", "name") != "member" || claims["project"] != nil || len(names(claims["roles"])) != 0 || claims["assignments"] != nil {
		t.Errorf("unscoped: %v, %v", claims, err)
	}
	for _, bad := range []flavor.Secret{"nonsense", "gAAAAABrARlB5vNmYH_2twMePZGrNUOOjoAcyJTQEGk", "a b"} {
		_, _, err := clouds.Whose(t.Context(), bad, false)
		fails(t, err, flavor.CodeKeystone)
	}
	down := openstack.New(openstack.Config{KeystoneURL: "http://127.0.0.1:1", AllowHTTP: true, Unguarded: true})
	defer down.Close()
	_, _, err = down.Whose(t.Context(), token, false)
	fails(t, err, flavor.CodeUnreachable, "the federation's Keystone")
}

func testEndpoints(t *testing.T, f federation) {
	clouds := f.clouds(t)
	// Keystone with and without its version.
	r := f.region("Trento")
	for _, url := range []string{strings.TrimSuffix(f.keystone, "/v3"), strings.TrimSuffix(f.keystone, "v3"), f.keystone + "/"} {
		r.KeystoneURL = url
		if _, err := clouds.Service(r).List(t.Context()); err != nil {
			t.Errorf("Keystone at %s: %v", url, err)
		}
	}
	// No such region in the catalog.
	token := f.token(t, "operator", "operator-secret", "operators")
	mordor := f.region("Mordor")
	_, err := clouds.Service(mordor).List(t.Context())
	fails(t, err, flavor.CodeUnreachable, "Mordor", "nova_url")
	_, err = clouds.Delegated(t.Context(), mordor, token, "")
	fails(t, err, flavor.CodeUnreachable, "Mordor", "nova_url")
	// A registered Nova: whatever its version in the URL.
	trento := f.novaURL(t, token, "Trento")
	for _, suffix := range []string{"", "/", "/v2", "/v2.1/"} {
		mordor.NovaURL = strings.TrimSuffix(trento, "/v2.1") + suffix
		if _, err := clouds.Service(mordor).List(t.Context()); err != nil {
			t.Errorf("Nova at %s: %v", mordor.NovaURL, err)
		}
	}
	// It is the service account's alone, unless a manager registered it.
	_, err = clouds.Delegated(t.Context(), mordor, token, "")
	fails(t, err, flavor.CodeUnreachable, "Mordor")
	mordor.NovaURLTrusted = true
	c, err := clouds.Delegated(t.Context(), mordor, token, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(t.Context()); err != nil {
		t.Error(err)
	}
	// A path that is not Nova's is no empty region, and no 404 of a flavor.
	mordor.NovaURL = strings.TrimSuffix(trento, "/v2.1") + "/elsewhere"
	for range 2 {
		_, err = clouds.Service(mordor).List(t.Context())
		fails(t, err, flavor.CodeUnreachable, "Mordor")
		_, err = clouds.Service(mordor).Get(t.Context(), "x")
		fails(t, err, flavor.CodeUnreachable, "Mordor")
	}
	// A Keystone that is none.
	r.KeystoneURL = strings.TrimSuffix(f.keystone, "/v3") + "/nowhere"
	_, err = clouds.Service(r).List(t.Context())
	fails(t, err, flavor.CodeUnreachable, "Trento", "keystone_url")
	r.Trusted = true
	_, err = clouds.Delegated(t.Context(), r, token, "")
	fails(t, err, flavor.CodeUnreachable, "Trento", "keystone_url")
}

// novaURL is the compute endpoint of a region in the token's catalog.
func (f federation) novaURL(t testing.TB, token flavor.Secret, region string) string {
	t.Helper()
	var answer struct {
		Token struct {
			Catalog []struct {
				Type      string
				Endpoints []struct{ Interface, Region, URL string }
			}
		}
	}
	f.validated(t, token, &answer)
	for _, s := range answer.Token.Catalog {
		for _, e := range s.Endpoints {
			if s.Type == "compute" && e.Interface == "public" && e.Region == region {
				return e.URL
			}
		}
	}
	t.Fatalf("no compute endpoint of %s", region)
	return ""
}

// A proxy in front of a Keystone counts what is asked.
func counting(t *testing.T, target string) (url string, calls func(method string) int) {
	t.Helper()
	var mu sync.Mutex
	counts := make(map[string]int)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		counts[r.Method]++
		mu.Unlock()
		out, err := http.NewRequestWithContext(r.Context(), r.Method, target+r.URL.Path, r.Body)
		if err != nil {
			panic(err)
		}
		out.Header, out.ContentLength = r.Header.Clone(), r.ContentLength // uwsgi takes no chunks
		resp, err := http.DefaultClient.Do(out)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func(method string) int {
		mu.Lock()
		defer mu.Unlock()
		return counts[method]
	}
}

func testCrowd(t *testing.T, f federation) {
	url, calls := counting(t, strings.TrimSuffix(f.keystone, "/v3"))
	clouds := openstack.New(openstack.Config{KeystoneURL: url, RegionTimeout: time.Minute, AllowHTTP: true, Unguarded: true})
	t.Cleanup(clouds.Close)
	r := f.region("Lannion2")
	r.KeystoneURL = url
	token := f.token(t, "member", "member-secret", "demo")
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if got := clouds.Service(r).Check(t.Context()); got.State != flavor.RegionUp {
				t.Errorf("%+v", got)
			}
		})
		wg.Go(func() {
			if _, err := clouds.Delegated(t.Context(), r, token, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := cmp.Compare(calls(http.MethodPost), 1); got != 0 {
		t.Errorf("100 first callers authenticated the service account %d times", calls(http.MethodPost))
	}
	if calls(http.MethodGet) != 1 {
		t.Errorf("100 first uses of a token validated it %d times", calls(http.MethodGet))
	}
}

func testPaths(t *testing.T, f federation) {
	c := f.clouds(t).Service(f.region("Spain2"))
	for _, id := range []string{"", ".", "..", "detail", "../flavors", "a/b", "x?y", "%2e%2e", "a\x00b", "a%00b", " a", strings.Repeat("x", 256)} {
		_, err := c.Get(t.Context(), id)
		fails(t, err, flavor.CodeNotFound, "Spain2")
		fails(t, c.Delete(t.Context(), id), flavor.CodeNotFound)
		fails(t, c.Describe(t.Context(), id, "x"), flavor.CodeNotFound)
		fails(t, c.SetExtraSpecs(t.Context(), id, nil), flavor.CodeNotFound)
	}
	it := fresh()
	it.ExtraSpecs = map[string]string{"..": "1", "k": "v"}
	put(t, c, it)
	fails(t, c.SetExtraSpecs(t.Context(), it.ID, map[string]string{"k": "v"}), flavor.CodeConflict, "Spain2")
	got, err := c.Get(t.Context(), it.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "a flavor whose extra spec .. could not be removed", got, it)
}

func testTrace(t *testing.T, f federation) {
	c := f.clouds(t).Service(f.region("Spain2"))
	ctx, trace := openstack.WithTrace(t.Context())
	if _, err := c.List(ctx); err != nil {
		t.Fatal(err)
	}
	_, err := c.Get(ctx, uuid.NewString())
	fails(t, err, flavor.CodeNotFound)
	ids := trace.RequestIDs()
	if len(ids) != 3 { // Keystone, the list, the flavor that is not there
		t.Errorf("request ids: %q", ids)
	}
	for _, id := range ids {
		if !strings.HasPrefix(id, "req-") {
			t.Errorf("a request id of OpenStack is %q", id)
		}
	}
}
