package contract_test

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/flavorsync/flavorsync/api"
)

var update = flag.Bool("update", false, "write the golden files as the tests find things")

// goldenRights is who may call what, for a reader to review.
const goldenRights = "testdata/authorization.txt"

// A trial is one call that somebody may be allowed, with what it needs: prepare
// makes the things it is about anew, for each caller, and answers with the path.
type trial struct {
	call    string // method and path, as the description has it, and what is special
	prepare func(r *rightsWorld, t *testing.T) (path string, d *document)
	after   func(r *rightsWorld, t *testing.T)
	xml     string // the body in XML, where it is no document
}

// rightsWorld is a server of its own for the walk over all calls.
type rightsWorld struct {
	*provider
	cloud *cloud
	n     namer
	id    string // of what prepare made last
}

// The regions of that world: one that the trials are about, one of another owner,
// and one that is registered by the trials.
func (r *rightsWorld) this() string { return r.cloud.regions[0] }
func (r *rightsWorld) free() string { return r.cloud.regions[2] }

func (r *rightsWorld) promote(t *testing.T) string {
	t.Helper()
	r.id = r.manager.post(t, "/promotedflavors", sized(r.word())).want(t, 201).flavor(t).ID
	return r.id
}

// word is a name that no flavor has yet.
func (r *rightsWorld) word() string { return unique()("x") }

// private is a flavor of this region that is nobody's but its Nova's.
func (r *rightsWorld) private(t *testing.T) string {
	t.Helper()
	r.id = r.manager.post(t, "/flavors", sized(r.word()).and("nodes", []string{r.this()})).want(t, 201).flavor(t).ID
	return r.id
}

func (r *rightsWorld) register(t *testing.T) string {
	t.Helper()
	r.manager.post(t, "/infrastructures", r.cloud.infrastructure(r.free())).wantOneOf(t, 201, 409)
	return r.free()
}

func (r *rightsWorld) deregister(t *testing.T) {
	r.manager.delete(t, "/infrastructures/"+r.free(), query("force", "true")).wantOneOf(t, 204, 404)
}

// dropped removes what prepare made.
func (r *rightsWorld) dropped(t *testing.T) {
	r.manager.delete(t, "/promotedflavors/"+r.id, query("uninstall", "true")).wantOneOf(t, 204, 404, 405)
	r.manager.delete(t, "/flavors/"+r.id, query("node", r.this())).wantOneOf(t, 204, 403, 404)
}

func plainly(path string) func(*rightsWorld, *testing.T) (string, *document) {
	return func(*rightsWorld, *testing.T) (string, *document) { return path, nil }
}

// at fills the id of what is made into a path.
func at(path string, made func(*rightsWorld, *testing.T) string, pairs ...any) func(*rightsWorld, *testing.T) (string, *document) {
	return func(r *rightsWorld, t *testing.T) (string, *document) {
		var d *document
		if len(pairs) > 0 {
			d = documentOf(pairs[0].(string), pairs[1:])
		}
		return strings.NewReplacer("{id}", made(r, t), "{region}", r.this()).Replace(path), d
	}
}

func nothing(*rightsWorld, *testing.T) string { return "" }

var (
	promotedOne = (*rightsWorld).promote
	privateOne  = (*rightsWorld).private
	drop        = (*rightsWorld).dropped
	forget      = (*rightsWorld).deregister
	settle      = (*rightsWorld).settled
)

var trials = []trial{
	{"GET /v1/promotedflavors", plainly("/promotedflavors"), nil, ""},
	{"POST /v1/promotedflavors", func(r *rightsWorld, _ *testing.T) (string, *document) { return "/promotedflavors", sized(r.word()) }, nil, ""},
	{"GET /v1/promotedflavors/{id}", at("/promotedflavors/{id}", promotedOne), drop, ""},
	{"PUT /v1/promotedflavors/{id}", at("/promotedflavors/{id}", promotedOne, "flavor", "ram", 4096), drop, ""},
	{"DELETE /v1/promotedflavors/{id}", at("/promotedflavors/{id}", promotedOne), drop, ""},
	{"GET /v1/promotedflavors/{id}/product", at("/promotedflavors/{id}/product", (*rightsWorld).sold), drop, ""},
	{"PUT /v1/promotedflavors/{id}/product", at("/promotedflavors/{id}/product", promotedOne, "product", "price", "0.34", "currency", "DKK"), drop, ""},
	{"DELETE /v1/promotedflavors/{id}/product", at("/promotedflavors/{id}/product", (*rightsWorld).sold), drop, ""},
	{"GET /v1/promotedflavors/{id}/coverage", at("/promotedflavors/{id}/coverage", promotedOne), drop, ""},
	{"GET /v1/products", plainly("/products"), nil, ""},
	{"GET /v1/products/push", plainly("/products/push"), nil, ""},
	{"POST /v1/products/push", plainly("/products/push?dry_run=true"), nil, ""},
	{"GET /v1/regions", plainly("/regions"), nil, ""},
	{"GET /v1/regions/{region}/flavors", at("/regions/{region}/flavors", nothing), nil, ""},
	{"POST /v1/regions/{region}/flavors", func(r *rightsWorld, _ *testing.T) (string, *document) {
		return "/regions/" + r.this() + "/flavors", sized(r.word())
	}, nil, ""},
	{"GET /v1/regions/{region}/flavors/{id}", at("/regions/{region}/flavors/{id}", privateOne), drop, ""},
	{"PUT /v1/regions/{region}/flavors/{id}", at("/regions/{region}/flavors/{id}", privateOne, "flavor", "ram", 4096), drop, ""},
	{"DELETE /v1/regions/{region}/flavors/{id}", at("/regions/{region}/flavors/{id}", privateOne), drop, ""},
	{"DELETE /v1/regions/{region}/flavors/{id} of a public node", at("/regions/{region}/flavors/{id}", (*rightsWorld).installed), drop, ""},
	{"GET /v1/regions/{region}/glue2", at("/regions/{region}/glue2", nothing), nil, ""},
	{"GET /v1/regions/{region}/compliance", at("/regions/{region}/compliance", nothing), nil, ""},
	{"GET /v1/infrastructures", plainly("/infrastructures"), nil, ""},
	{"POST /v1/infrastructures", func(r *rightsWorld, _ *testing.T) (string, *document) {
		return "/infrastructures", r.cloud.infrastructure(r.free())
	}, forget, ""},
	{"GET /v1/infrastructures/{id}", at("/infrastructures/{id}", (*rightsWorld).register), forget, ""},
	{"PUT /v1/infrastructures/{id}", at("/infrastructures/{id}", (*rightsWorld).register, "infrastructure", "nova_url", ""), forget, ""},
	{"PUT /v1/infrastructures/{id} with trusted", at("/infrastructures/{id}", (*rightsWorld).register, "infrastructure", "trusted", true), forget, ""},
	{"DELETE /v1/infrastructures/{id}", at("/infrastructures/{id}", (*rightsWorld).register), forget, ""},
	{"DELETE /v1/infrastructures/{id} with force", at("/infrastructures/{id}?force=true", (*rightsWorld).register), forget, ""},
	{"GET /v1/flavors", plainly("/flavors"), nil, ""},
	{"POST /v1/flavors", func(r *rightsWorld, _ *testing.T) (string, *document) {
		return "/flavors", sized(r.word()).and("nodes", []string{r.this()})
	}, nil, ""},
	{"GET /v1/flavors/{id}", at("/flavors/{id}", promotedOne), drop, ""},
	{"GET /v1/flavors/{id} of a private one", at("/flavors/{id}", privateOne), drop, ""},
	{"PUT /v1/flavors/{id} to install", func(r *rightsWorld, t *testing.T) (string, *document) {
		return "/flavors/" + r.promote(t), flavorOf("nodes", []string{r.this()})
	}, drop, ""},
	{"PUT /v1/flavors/{id} to install without waiting", func(r *rightsWorld, t *testing.T) (string, *document) {
		return "/flavors/" + r.promote(t), flavorOf("nodes", []string{r.this()})
	}, settle, ""},
	{"PUT /v1/flavors/{id} to publish", at("/flavors/{id}", privateOne, "flavor", "public", true), drop, ""},
	{"PUT /v1/flavors/{id} to promote", at("/flavors/{id}", (*rightsWorld).published, "flavor", "promoted", true), drop, ""},
	{"DELETE /v1/flavors/{id}", func(r *rightsWorld, t *testing.T) (string, *document) {
		return "/flavors/" + r.installed(t) + "?node=" + r.this(), nil
	}, drop, ""},
	{"POST /v1/match", func(*rightsWorld, *testing.T) (string, *document) {
		return "/match", documentOf("match", []any{"host", map[string]any{"num_cpus": 2}})
	}, nil, "<match><host><num_cpus>2</num_cpus></host></match>"},
	{"GET /v1/operations", plainly("/operations"), nil, ""},
	{"GET /v1/operations/{id}", at("/operations/{id}", (*rightsWorld).operation), nil, ""},
	{"DELETE /v1/operations/{id}", at("/operations/{id}", (*rightsWorld).operation), nil, ""},
	{"GET /v1/audit", plainly("/audit"), nil, ""},
	{"GET /v1/status", plainly("/status"), nil, ""},
	{"GET /v1/events", plainly("/events"), nil, ""},
	{"GET /v1/whoami", plainly("/whoami"), nil, ""},
	{"GET /ucloud/{provider}/jobs/retrieveProducts", plainly("/ucloud/aau/jobs/retrieveProducts"), nil, ""},
	{"GET /ucloud/{provider}/integration/retrieveManifest", plainly("/ucloud/aau/integration/retrieveManifest"), nil, ""},
	{"POST /ucloud/{provider}/jobs", plainly("/ucloud/aau/jobs"), nil, ""},
	{"POST /ucloud/{provider}/jobs/{operation}", plainly("/ucloud/aau/jobs/terminate"), nil, ""},
	{"GET /healthz", plainly("/healthz"), nil, ""},
	{"GET /readyz", plainly("/readyz"), nil, ""},
	{"GET /openapi.yaml", plainly("/openapi.yaml"), nil, ""},
	{"GET /flavorsync.xsd", plainly("/flavorsync.xsd"), nil, ""},
}

// operation is one of a manager on this region, that has ended.
func (r *rightsWorld) operation(t *testing.T) string {
	t.Helper()
	r.installed(t)
	var list struct{ Operations []operationBody }
	r.manager.get(t, "/operations", query("limit", "1")).want(t, 200).decode(t, &list)
	r.dropped(t)
	return list.Operations[0].ID
}

// settled waits for what goes on without its caller, and removes it.
func (r *rightsWorld) settled(t *testing.T) {
	t.Helper()
	eventually(t, "nothing goes on", func() bool {
		return string(r.manager.get(t, "/operations", query("state", "running")).want(t, 200).body) == `{"operations": []}`
	})
	r.dropped(t)
}

func (r *rightsWorld) sold(t *testing.T) string {
	t.Helper()
	id := r.promote(t)
	r.manager.put(t, "/promotedflavors/"+id+"/product", productOf("price", "0.34", "currency", "DKK")).want(t, 200)
	return id
}

func (r *rightsWorld) published(t *testing.T) string {
	t.Helper()
	id := r.private(t)
	r.manager.put(t, "/flavors/"+id, flavorOf("public", true)).want(t, 200)
	return id
}

// installed is a promoted flavor with this region as its node.
func (r *rightsWorld) installed(t *testing.T) string {
	t.Helper()
	id := r.promote(t)
	r.manager.put(t, "/flavors/"+id, flavorOf("nodes", []string{r.this()})).want(t, 200)
	return id
}

// authorization walks every call that is described with every kind of caller, in
// both formats, and compares the statuses with the golden file.
func authorization(t *testing.T, s *setup) {
	if s.real || s.database != "sqlite" {
		return // who may depends on neither, and this makes some hundred flavors
	}
	c := extra(t, "this", "other", "free")
	r := &rightsWorld{provider: provide(t, s, nil), cloud: c, n: unique()}
	for _, region := range c.regions[:2] {
		r.manager.post(t, "/infrastructures", c.infrastructure(region).and("trusted", true)).want(t, 201)
	}
	r.sold(t) // so that Core has something to read
	r.manager.post(t, "/products/push", nil).wantOneOf(t, 200, 409)
	eventually(t, "Core is told of it", func() bool { return r.asCore(t).get(t, retrieveProducts, prefixed("")).status == 200 })
	callers := []struct {
		name string
		as   func() client
	}{
		{"nobody", func() client { return r.as(anonymous()) }},
		{"expired", func() client { return r.as(byToken("one whose token is expired", secret("expired"))) }},
		{"user", func() client { return r.as(s.user) }},
		{"owner", func() client { return r.as(s.owner(r.this(), r.free())) }},
		{"other", func() client { return r.as(s.owner(c.regions[1])) }},
		{"manager", func() client { return r.manager }},
		{"basic", func() client { return r.as(byBasic(accounts.nobody, accounts.passwords[accounts.nobody])) }},
		{"UCloud", func() client { return r.asCore(t) }},
	}
	token := c.token(t, "operator")
	table := fmt.Sprintf("%-60s", "")
	for _, who := range callers {
		table += fmt.Sprintf(" %-8s", who.name)
	}
	table = strings.TrimRight(table, " ") + "\n"
	for _, tr := range trials {
		line := fmt.Sprintf("%-60s", tr.call)
		method, described, _ := strings.Cut(tr.call, " ")
		for _, who := range callers {
			var statuses []string
			for _, f := range formats {
				path, d := tr.prepare(r, t)
				shapes := []shape{in(f), keystone(token)}
				if !strings.HasPrefix(described, "/v1/") {
					shapes = append(shapes, prefixed(""))
				}
				if strings.HasSuffix(tr.call, "without waiting") {
					shapes = append(shapes, async)
				}
				if tr.xml != "" && f.name == asXML.name {
					shapes = append(shapes, raw(f.mediaType, tr.xml))
				}
				a := who.as().do(t, method, path, d, shapes...)
				status := strconv.Itoa(a.status)
				if !slices.Contains(statuses, status) {
					statuses = append(statuses, status)
				}
				if a.status == http.StatusCreated && r.id != "" {
					if location := a.header.Get("Location"); strings.Contains(location, "flavors/") {
						r.id = location[strings.LastIndex(location, "/")+1:]
						r.dropped(t)
					}
				}
				if tr.after != nil {
					tr.after(r, t)
				}
			}
			line += fmt.Sprintf(" %-8s", strings.Join(statuses, "/"))
		}
		table += strings.TrimRight(line, " ") + "\n"
	}
	if *update {
		if err := os.WriteFile(goldenRights, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(goldenRights)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range missingLines(string(golden), table) {
		t.Errorf("it was: %s", line)
	}
	for _, line := range missingLines(table, string(golden)) {
		t.Errorf("it is:  %s", line)
	}
}

// missingLines are the lines of one that two lacks.
func missingLines(one, two string) (lines []string) {
	there := strings.Split(two, "\n")
	for line := range strings.SplitSeq(one, "\n") {
		if !slices.Contains(there, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// Every call that is described is tried, so that a new one must say who may.
func TestEveryCallIsTried(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	for _, tr := range trials {
		parts := strings.Fields(tr.call)
		tried[parts[0]+" "+parts[1]] = true
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if name := method + " " + path; !tried[name] {
				t.Errorf("%s: nobody says who may", name)
			}
			delete(tried, method+" "+path)
		}
	}
	if len(tried) > 0 {
		t.Errorf("tried and not described: %v", slices.Sorted(maps.Keys(tried)))
	}
}
