package api_test

import (
	"context"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/flavorsync/flavorsync/api"
)

func load(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatalf("nobody can load openapi.yaml: %v", err)
	}
	return doc
}

// operations calls do for each operation of doc.
func operations(doc *openapi3.T, do func(name string, o *openapi3.Operation)) {
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			do(method+" "+path, o)
		}
	}
}

// An integrator's generator refuses a document that is not OpenAPI 3.1, and
// somebody who copies an example wants it to be right.
func TestOpenAPIIsValidWithItsExamples(t *testing.T) {
	doc := load(t)
	if err := doc.Validate(context.Background(), openapi3.EnableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	if !doc.IsOpenAPI31OrLater() {
		t.Errorf("openapi is %s, wanted 3.1", doc.OpenAPI)
	}
}

// The contract's table, so that no row of it is forgotten.
func TestEveryCallOfTheContractIsDescribed(t *testing.T) {
	wanted := []string{
		"GET /flavorsync.xsd", "GET /healthz", "GET /openapi.yaml", "GET /readyz",
		"GET /v1/flavors", "POST /v1/flavors",
		"GET /v1/flavors/{id}", "PUT /v1/flavors/{id}", "DELETE /v1/flavors/{id}",
		"GET /v1/infrastructures", "POST /v1/infrastructures",
		"GET /v1/infrastructures/{id}", "PUT /v1/infrastructures/{id}", "DELETE /v1/infrastructures/{id}",
		"POST /v1/match",
		"GET /v1/products", "GET /v1/products/push", "POST /v1/products/push",
		"GET /v1/promotedflavors", "POST /v1/promotedflavors",
		"GET /v1/promotedflavors/{id}", "PUT /v1/promotedflavors/{id}", "DELETE /v1/promotedflavors/{id}",
		"GET /v1/promotedflavors/{id}/product", "PUT /v1/promotedflavors/{id}/product", "DELETE /v1/promotedflavors/{id}/product",
		"GET /v1/regions", "GET /v1/regions/{region}/glue2", "GET /v1/regions/{region}/flavors", "POST /v1/regions/{region}/flavors",
		"GET /v1/regions/{region}/flavors/{id}", "PUT /v1/regions/{region}/flavors/{id}",
		"DELETE /v1/regions/{region}/flavors/{id}",
		"GET /v1/audit", "GET /v1/events", "GET /v1/status", "GET /v1/whoami",
		"GET /v1/promotedflavors/{id}/coverage", "GET /v1/regions/{region}/compliance",
		"GET /v1/operations", "GET /v1/operations/{id}", "DELETE /v1/operations/{id}",
		"GET /ucloud/{provider}/integration/retrieveManifest", "GET /ucloud/{provider}/jobs/retrieveProducts",
		"POST /ucloud/{provider}/jobs", "POST /ucloud/{provider}/jobs/{operation}",
	}
	var described []string
	operations(load(t), func(name string, _ *openapi3.Operation) { described = append(described, name) })
	slices.Sort(wanted)
	slices.Sort(described)
	if !slices.Equal(wanted, described) {
		t.Errorf("described are\n%s\nwanted\n%s", strings.Join(described, "\n"), strings.Join(wanted, "\n"))
	}
}

// What every call has in common must be said of each: a client that is told of
// a 401 or 429 on one call only will not handle it on the next.
func TestEveryOperationIsDescribedInFull(t *testing.T) {
	operations(load(t), func(name string, o *openapi3.Operation) {
		complain := func(format string, args ...any) { t.Helper(); t.Errorf(name+": "+format, args...) }
		if o.OperationID == "" || o.Summary == "" || len(o.Tags) != 1 {
			complain("lacks an operationId, a summary or its tag")
		}
		if o.Responses.Default() != nil {
			complain("has a default response, which describes everything and so nothing")
		}
		method, path, _ := strings.Cut(name, " ")
		var statuses []string
		ofCore := strings.HasPrefix(path, "/ucloud/")
		switch {
		case ofCore:
			statuses = []string{"401", "404", "500"}
		case strings.HasPrefix(path, "/v1/"):
			statuses = []string{"401", "429", "500", "503"}
			switch method {
			case http.MethodGet:
				statuses = append(statuses, "200", "304")
			case http.MethodPost:
				statuses = append(statuses, "400")
				if o.RequestBody != nil {
					statuses = append(statuses, "413", "415")
				}
				if (o.Responses.Value("200") == nil) == (o.Responses.Value("201") == nil) {
					complain("does not say one of 200 and 201")
				}
			case http.MethodPut:
				statuses = append(statuses, "200", "400", "404", "412", "413", "415")
			case http.MethodDelete:
				statuses = append(statuses, "204", "404", "412")
			}
		}
		for _, status := range statuses {
			if o.Responses.Value(status) == nil {
				complain("does not say %s", status)
			}
		}
		for status, r := range o.Responses.Map() {
			if r.Value.Description == nil || *r.Value.Description == "" {
				complain("does not describe %s", status)
			}
			wanted := []string{"X-Request-Id"}
			switch status {
			case "201", "202":
				wanted = append(wanted, "Location")
			case "401":
				wanted = append(wanted, "WWW-Authenticate")
			case "405":
				wanted = append(wanted, "Allow")
			case "429":
				wanted = append(wanted, "Retry-After")
			case "503":
				if strings.HasPrefix(path, "/v1/") {
					wanted = append(wanted, "Retry-After")
				}
			case "200":
				if method == http.MethodGet && (ofCore || strings.HasPrefix(path, "/v1/")) {
					wanted = append(wanted, "ETag", "Vary", "Cache-Control")
				}
			}
			for _, header := range wanted {
				if h := r.Value.Headers[header]; h == nil || !h.Value.Required {
					complain("%s lacks the header %s", status, header)
				}
			}
			_, inJSON := r.Value.Content["application/json"]
			_, inXML := r.Value.Content["application/xml"]
			_, inText := r.Value.Content["text/xml"]
			switch readersOfJSON := ofCore || name+" "+status == "GET /v1/regions/{region}/glue2 200"; {
			case readersOfJSON:
				if inXML || inText {
					complain("%s is in XML, which its readers do not know", status)
				}
			case strings.HasPrefix(path, "/v1/") && (inJSON != inXML || inJSON != inText):
				complain("%s is in one of JSON and XML only", status)
			}
		}
		if o.RequestBody != nil {
			for _, media := range []string{"application/json", "application/xml", "text/xml"} {
				if o.RequestBody.Value.Content[media] == nil {
					complain("does not describe a request in %s", media)
				}
			}
		}
	})
}

// A schema that leaves an object open lets everything through.
func TestEveryObjectIsClosed(t *testing.T) {
	for name, schema := range load(t).Components.Schemas {
		err := schema.WalkSubtree(func(at string, s *openapi3.SchemaRef) error {
			if s.Value.Type.Is("object") && len(s.Value.Properties) > 0 && (s.Value.AdditionalProperties.Has == nil || *s.Value.AdditionalProperties.Has) {
				t.Errorf("%s%s is an open object", name, at)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// Everything of the document is used: what is not is out of date before long.
func TestEveryComponentIsUsed(t *testing.T) {
	for _, match := range regexp.MustCompile(`(?m)^    (\w+):$`).FindAllSubmatch(api.OpenAPI, -1) {
		name := string(match[1])
		if slices.Contains([]string{"get", "put", "post", "delete", "parameters", "servers"}, name) {
			continue
		}
		if !regexp.MustCompile(`\$ref: '?#/components/\w+/`+name+`'?\b|- (\{?)`+name+`: \[\]|^    `+name+`: \[\]|\{`+name+`: \[\]`).Match(api.OpenAPI) &&
			!regexp.MustCompile(`(?m)[ {]`+name+`: \[\]`).Match(api.OpenAPI) {
			t.Errorf("nothing uses the component %s", name)
		}
	}
}

// libxml2 is what most people check documents with.
func TestXMLSchemaIsValidForXMLLint(t *testing.T) {
	xmllint, err := exec.LookPath("xmllint")
	if err != nil {
		t.Skip("xmllint (libxml2-utils) is not installed")
	}
	for document, valid := range map[string]bool{
		`<flavors/>`:                          true,
		`<error><message>m</message></error>`: true,
		`<error><message/></error>`:           false,
		`<nonsense/>`:                         false,
	} {
		cmd := exec.Command(xmllint, "--noout", "--schema", "flavorsync.xsd", "-")
		cmd.Stdin = strings.NewReader(document)
		if out, err := cmd.CombinedOutput(); (err == nil) != valid {
			t.Errorf("%s: valid is %t, wanted %t: %s", document, err == nil, valid, out)
		}
	}
}
