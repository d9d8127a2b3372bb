package openstack

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// foreign is a cloud that answers as a fuzz target says, and a client of it.
type foreign struct {
	*fakeCloud
	clouds *Clouds
}

func newForeign(f *testing.F) *foreign {
	cloud := &foreign{fakeCloud: &fakeCloud{}}
	cloud.Server = httptest.NewServer(cloud.fakeCloud)
	cloud.clouds = New(Config{KeystoneURL: cloud.URL, RegionTimeout: 20 * time.Second, AllowHTTP: true, Unguarded: true})
	f.Cleanup(func() {
		cloud.clouds.Close()
		cloud.Close()
	})
	return cloud
}

// marked is an answer that holds the canary wherever the fuzzer has a tilde.
func marked(answer []byte) string { return strings.ReplaceAll(string(answer), "~", canary) }

// toldOnly fails unless err is an error of ours, without a byte of an answer.
func toldOnly(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		if flavor.CodeOf(err) == flavor.CodeInternal {
			t.Errorf("nobody explains %v", err)
		}
		discreet(t, err.Error())
	}
}

// FuzzNovaList and the other answers of Nova: what is taken for a flavor can be
// one, and of what is not nothing is told.
func FuzzNovaList(f *testing.F) {
	cloud := newForeign(f)
	f.Fuzz(func(t *testing.T, answer []byte) {
		cloud.nova = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(marked(answer))) }
		nova := cloud.clouds.Service(cloud.region())
		found, err := nova.List(t.Context())
		toldOnly(t, err)
		for _, one := range found {
			if one.ID == "" || one.Name == "" || one.VCPUs < 1 || one.RAM < 1 || !(one.RxTxFactor > 0) {
				t.Errorf("%s is taken for the flavor %+v", answer, one)
			}
		}
		if status := nova.Check(t.Context()); (status.State == flavor.RegionUp) != (status.LastError == "") {
			t.Errorf("the status is %+v", status)
		} else {
			discreet(t, status.LastError)
		}
	})
}

func FuzzNovaFlavor(f *testing.F) {
	cloud := newForeign(f)
	f.Fuzz(func(t *testing.T, answer []byte) {
		cloud.nova = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(marked(answer))) }
		nova := cloud.clouds.Service(cloud.region())
		one, err := nova.Get(t.Context(), "f")
		toldOnly(t, err)
		if err == nil && one.ID != "f" {
			t.Errorf("%s is taken for flavor f", answer)
		}
		// What seems to have been created is looked for, and must not be waited for.
		cloud.nova = func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				_, _ = w.Write([]byte(marked(answer)))
				return
			}
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"itemNotFound": {"code": 404, "message": "gone"}}`))
		}
		_, err = nova.Create(t.Context(), flavor.NovaFlavor{ID: "f", Spec: flavor.Spec{Name: "n", VCPUs: 1, RAM: 1}})
		toldOnly(t, err)
	})
}

// FuzzFault: an error of a cloud is recognised, never repeated.
func FuzzFault(f *testing.F) {
	cloud := newForeign(f)
	f.Fuzz(func(t *testing.T, status int, answer []byte) {
		if status < 200 || status > 599 {
			return // net/http's own business
		}
		fault := func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(marked(answer)))
		}
		cloud.nova, cloud.keystone = fault, nil
		nova := cloud.clouds.Service(cloud.region())
		_, err := nova.Create(t.Context(), flavor.NovaFlavor{ID: "f", Spec: flavor.Spec{Name: "n", VCPUs: 1, RAM: 1}})
		toldOnly(t, err)
		_, err = nova.Get(t.Context(), "f")
		toldOnly(t, err)
		cloud.keystone = fault
		cloud.clouds.Forget("R")
		cloud.clouds.tokens.Purge()
		_, err = cloud.clouds.Service(cloud.region()).Get(t.Context(), "f")
		toldOnly(t, err)
		_, err = cloud.clouds.Delegated(t.Context(), cloud.region(), goodToken, "")
		toldOnly(t, err)
	})
}

// FuzzKeystone: a token and a catalog, whoever wrote them, lead to a Nova at a URL
// that can be called, or to an error of ours.
func FuzzKeystone(f *testing.F) {
	cloud := newForeign(f)
	f.Fuzz(func(t *testing.T, token string, answer []byte) {
		if strings.ContainsAny(token, "\r\n") {
			return // no header can be that
		}
		cloud.keystone = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Subject-Token", token)
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusCreated)
			}
			// The canary is no host that anybody may ask the DNS for.
			_, _ = w.Write([]byte(strings.ReplaceAll(string(answer), "NOVA", cloud.URL)))
		}
		cloud.clouds.Forget("R")
		cloud.clouds.tokens.Purge()
		r := cloud.region()
		// Whatever the catalog says is read; who is called is here.
		_, err := cloud.clouds.Delegated(t.Context(), r, goodToken, "")
		toldOnly(t, err)
		r.NovaURL = cloud.URL
		_, err = cloud.clouds.Service(r).Get(t.Context(), "f")
		toldOnly(t, err)
		// Blanks around a header's value are no part of it.
		if err == nil && !wellFormedToken(strings.Trim(token, " \t")) {
			t.Errorf("%q is used as a token", token)
		}
	})
}

// FuzzURL: a registered or catalogued URL is refused, or one that is called as it
// was meant: the same scheme and host, and no more than a path, which for Keystone
// begins as the given one, and for Nova is the same when it is read anew.
func FuzzURL(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw string) {
		given, _ := url.Parse(strings.TrimSpace(raw))
		for name, read := range map[string]func(string) (*url.URL, error){"Nova": novaEndpoint, "Keystone": keystoneBase} {
			u, err := read(raw)
			if err != nil {
				continue
			}
			if u.Scheme != given.Scheme || !strings.EqualFold(u.Host, given.Host) || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !strings.HasSuffix(u.Path, "/") {
				t.Errorf("%s at %q is called at %q", name, raw, u)
			}
			if name == "Keystone" && !strings.HasPrefix(strings.TrimRight(given.Path, "/")+"/", u.Path) {
				t.Errorf("Keystone at %q has the path %q", raw, u.Path)
			}
			if again, err := novaEndpoint(u.String()); name == "Nova" && (err != nil || again.String() != u.String()) {
				t.Errorf("Nova at %q is %q, and that is %q, %v", raw, u, again, err)
			}
		}
	})
}

// FuzzFlavorPath: no id leads to another path of Nova than that of its flavor.
func FuzzFlavorPath(f *testing.F) {
	cloud := newForeign(f)
	f.Fuzz(func(t *testing.T, id string) {
		client, err := cloud.clouds.novaAt("R", "https://nova.test/compute", goodToken, "")
		if err != nil || flavor.ValidateID(id) != nil {
			return
		}
		u, err := url.Parse(flavorURL(client, id, "os-extra_specs"))
		if err != nil || u.Host != "nova.test" || u.RawQuery != "" || u.Fragment != "" || u.Path != "/compute/v2.1/flavors/"+id+"/os-extra_specs" || u.JoinPath().Path != u.Path {
			t.Errorf("flavor %q is at %v, %v", id, u, err)
		}
	})
}
