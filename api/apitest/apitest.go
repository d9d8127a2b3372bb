// Package apitest holds the HTTP API to its descriptions: tests hand it every
// exchange they make, and it checks request and response against
// api/openapi.yaml and api/flavorsync.xsd. What both leave unsaid fails the
// test, so that the descriptions stay complete as well as true.
package apitest

import (
	"net/http"
	"sync"
	"testing"

	"github.com/flavorsync/flavorsync/api"
)

var described = sync.OnceValues(func() (*description, error) { return compile(api.OpenAPI, api.XSD) })

// Validate fails t where the exchange is not as the descriptions say:
//
//   - the path (under either prefix, by an alias, with a trailing slash), the
//     method, the status and the media type must be described; what is not
//     described must be refused, as an error that is;
//   - in an exchange that succeeded (2xx, 304) the credentials, the parameters
//     and the body of the request must be as described. Requests that were
//     refused may be as wrong as they like, and query parameters that are not
//     described are ignored, as the description promises;
//   - the headers and the body of the response must be as described, and there
//     must be no undescribed header of ours.
//
// req is the request as the client sent it: a server that is called in the same
// process may change the one it gets, so pass a clone of that. The bodies are passed apart because they have been read; respBody is empty in
// the answer to a HEAD. Messages quote no header, no query and no request body,
// so no secret gets into the log of a test. Validate may be called
// concurrently; it also records what it saw for Uncovered.
func Validate(t testing.TB, req *http.Request, reqBody []byte, resp *http.Response, respBody []byte) {
	t.Helper()
	d, err := described()
	if err != nil {
		t.Fatalf("the descriptions of the API do not compile: %v", err)
	}
	for _, problem := range d.check(req, reqBody, resp, respBody) {
		t.Errorf("%s %s answered %d, against its description: %s", req.Method, req.URL.EscapedPath(), resp.StatusCode, problem)
	}
}

// Uncovered tells, sorted, what is described and has not been seen by Validate
// in this process yet:
//
//	GET /v1/flavors 200 application/xml            a success in that format
//	POST /v1/flavors request application/json      a request body that succeeded
//	GET /v1/flavors 404                            any other status, in any format
//
// application/xml stands for text/xml too, and application/x-yaml for all of YAML.
func Uncovered() []string {
	d, err := described()
	if err != nil {
		return []string{err.Error()}
	}
	return d.uncovered()
}
