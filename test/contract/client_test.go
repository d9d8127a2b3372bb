package contract_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/api/apitest"
)

// A caller is somebody with a credential, in the way this client sends it.
type caller struct {
	name   string // for messages
	header http.Header
	query  url.Values
}

func anonymous() caller { return caller{name: "nobody"} }

// byToken, byBearer, byQuery, byBasic and byPair are the ways to send a credential.
func byToken(name, token string) caller {
	return caller{name: name, header: http.Header{"X-Auth-Token": {token}}}
}

func byBearer(name, token string) caller {
	return caller{name: name, header: http.Header{"Authorization": {"Bearer " + token}}}
}

func byQuery(name, token string) caller {
	return caller{name: name, query: url.Values{"access_token": {token}}}
}

func byBasic(user, password string) caller {
	encoded := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	secrets.add(encoded)
	return caller{name: user, header: http.Header{"Authorization": {"Basic " + encoded}}}
}

// byPair is the two plain headers that widget-compareflavors sends.
func byPair(user, password string) caller {
	return caller{name: user, header: http.Header{"user": {user}, "password": {password}}}
}

// client is a caller at a server.
type client struct {
	pr     *product
	caller caller
}

func (pr *product) as(c caller) client { return client{pr, c} }

// request is what a call sends; shapes change it before it goes.
type request struct {
	prefix      string // "/v1" unless the test says otherwise
	format      format
	body        []byte
	document    *document
	bare        bool // without the envelope
	contentType string
	chunked     bool
	header      http.Header
	query       url.Values
	limit       time.Duration // 0: as long as the client waits for anything
}

type shape func(*request)

// prefixed sends the request to the same path under another prefix, or none.
func prefixed(prefix string) shape { return func(r *request) { r.prefix = prefix } }

// in sends the document in that format, and asks for it.
func in(f format) shape {
	return func(r *request) {
		r.format = f
		r.header.Set("Accept", f.mediaType)
	}
}

// without sends the document without its envelope.
func withoutEnvelope(r *request) { r.bare = true }

// raw sends those bytes; with an empty content type, without the header.
func raw(contentType, body string) shape {
	return func(r *request) { r.contentType, r.body = contentType, []byte(body) }
}

// chunked sends the body without saying its length.
func chunked(r *request) { r.chunked = true }

// header sets a header of the request.
func header(name, value string) shape { return func(r *request) { r.header[name] = []string{value} } }

// query adds a parameter.
func query(name, value string) shape { return func(r *request) { r.query.Add(name, value) } }

// limited gives the request up after that time.
func limited(limit time.Duration) shape { return func(r *request) { r.limit = limit } }

// keystone sends the caller's Keystone token.
func keystone(token string) shape { return header("X-Auth-Token-KeyStone", token) }

// fresh has the regions asked now.
var fresh = header("Cache-Control", "no-cache")

func (c client) get(t *testing.T, path string, shapes ...shape) *answer {
	t.Helper()
	return c.do(t, http.MethodGet, path, nil, shapes...)
}

func (c client) post(t *testing.T, path string, d *document, shapes ...shape) *answer {
	t.Helper()
	return c.do(t, http.MethodPost, path, d, shapes...)
}

func (c client) put(t *testing.T, path string, d *document, shapes ...shape) *answer {
	t.Helper()
	return c.do(t, http.MethodPut, path, d, shapes...)
}

func (c client) delete(t *testing.T, path string, shapes ...shape) *answer {
	t.Helper()
	return c.do(t, http.MethodDelete, path, nil, shapes...)
}

// do sends one request and checks what every answer promises. The path comes
// without prefix and is sent as it is, escapes included.
func (c client) do(t *testing.T, method, path string, d *document, shapes ...shape) *answer {
	t.Helper()
	a, err := c.try(t, method, path, d, shapes...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, c.pr.log.tail(5))
	}
	return a
}

// try is do for requests that may find no server.
func (c client) try(t *testing.T, method, path string, d *document, shapes ...shape) (*answer, error) {
	t.Helper()
	r := request{prefix: "/v1", format: asJSON, document: d, header: make(http.Header), query: make(url.Values)}
	for _, s := range shapes {
		s(&r)
	}
	if r.document != nil && r.body == nil {
		r.body, r.contentType = r.format.encode(r.document, r.bare), r.format.mediaType
	}
	for name, values := range c.caller.query {
		r.query[name] = append(r.query[name], values...)
	}
	target := c.pr.url + r.prefix + path
	if encoded := r.query.Encode(); encoded != "" {
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		target += separator + encoded
	}
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
		if r.chunked {
			body = struct{ io.Reader }{body}
		}
	}
	// Not the test's context: that is over when its cleanup begins.
	ctx := context.Background()
	if r.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.limit)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, c.caller.header)
	maps.Copy(req.Header, r.header)
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answered, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	a := &answer{failing: c.pr.failing, caller: c.caller, request: req, sent: r.body, status: resp.StatusCode, header: resp.Header, body: answered}
	if c.pr.watched {
		c.pr.requests.Store(resp.Header.Get("X-Request-Id"), method+" "+path)
	}
	described := req.Clone(req.Context())
	described.Header = make(http.Header)
	for name, values := range req.Header { // some are not sent in the spelling that Go looks them up by
		described.Header[http.CanonicalHeaderKey(name)] = values
	}
	apitest.Validate(t, described, r.body, resp, answered)
	a.keepsPromises(t)
	return a, nil
}

// httpClient follows no redirect: the API gives none.
var httpClient = &http.Client{
	Timeout:       patience,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 32, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// answer is what came back.
type answer struct {
	failing bool // a 500 is what the test expects
	caller  caller
	request *http.Request
	sent    []byte
	status  int
	header  http.Header
	body    []byte
}

func (a *answer) String() string {
	text := string(a.body)
	if len(text) > 600 {
		text = text[:600] + "..."
	}
	sent := string(a.sent)
	if len(sent) > 300 {
		sent = sent[:300] + "..."
	}
	return fmt.Sprintf("%s %s as %s %s\n  -> %d %s", a.request.Method, a.request.URL.RequestURI(), a.caller.name, sent, a.status, text)
}

// want ends the test where the status is another.
func (a *answer) want(t *testing.T, status int) *answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, not %d: %s", a.status, status, a)
	}
	return a
}

// wantOneOf is want where the contract leaves a choice.
func (a *answer) wantOneOf(t *testing.T, statuses ...int) *answer {
	t.Helper()
	if !slices.Contains(statuses, a.status) {
		t.Fatalf("status %d, not one of %v: %s", a.status, statuses, a)
	}
	return a
}

// says expects every word in the message of an error.
func (a *answer) says(t *testing.T, words ...string) *answer {
	t.Helper()
	message := a.failure(t).Message
	for _, word := range words {
		if !strings.Contains(message, word) {
			t.Errorf("the message should tell of %q: %s", word, a)
		}
	}
	return a
}

// keepsPromises checks what the contract says of every answer.
func (a *answer) keepsPromises(t *testing.T) {
	t.Helper()
	id := a.header.Get("X-Request-Id")
	if id == "" {
		t.Errorf("no X-Request-Id: %s", a)
	}
	if leaked := secrets.in(a.body); leaked != "" {
		t.Errorf("the answer holds the token or password %s: %s", leaked, a)
	}
	for name, values := range a.header {
		if leaked := secrets.in([]byte(strings.Join(values, " "))); leaked != "" {
			t.Errorf("the header %s holds the token or password %s: %s", name, leaked, a)
		}
	}
	switch a.status {
	case http.StatusUnauthorized:
		challenges := strings.Join(a.header.Values("WWW-Authenticate"), ", ")
		if challenges == "" {
			t.Errorf("a 401 without WWW-Authenticate: %s", a)
		}
		sentBasic := strings.HasPrefix(a.request.Header.Get("Authorization"), "Basic ")
		if offered := strings.Contains(challenges, "Basic"); offered && !sentBasic {
			t.Errorf("WWW-Authenticate: %s to one who did not send Basic: %s", challenges, a)
		}
	case http.StatusMethodNotAllowed:
		if a.header.Get("Allow") == "" {
			t.Errorf("a 405 without Allow: %s", a)
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if a.header.Get("Retry-After") == "" {
			t.Errorf("a %d without Retry-After: %s", a.status, a)
		}
	case http.StatusNoContent, http.StatusNotModified:
		if len(a.body) > 0 {
			t.Errorf("a %d with a body: %s", a.status, a)
		}
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin", "Server": "", "Strict-Transport-Security": "",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, not %q: %s", name, got, want, a)
		}
	}
	underV1 := strings.HasPrefix(a.request.URL.Path, "/v1/") || strings.HasPrefix(a.request.URL.Path, "/api/v1/")
	if a.status == http.StatusInternalServerError && !a.failing {
		t.Errorf("a 500: %s", a)
	}
	if a.status >= 500 && !bytes.Contains(a.body, []byte(id)) {
		t.Errorf("a %d does not tell its request id %s: %s", a.status, id, a)
	}
	if underV1 && a.status >= 400 && a.request.Method != http.MethodHead && !a.isPlain() {
		if a.failure(t).Message == "" {
			t.Errorf("an error without a message: %s", a)
		}
	}
	if want := map[bool]string{true: "private", false: "no-store"}[a.status < 400]; underV1 && a.header.Get("Cache-Control") != want {
		t.Errorf("Cache-Control is %q, not %q: %s", a.header.Get("Cache-Control"), want, a)
	}
	if underV1 && a.request.Method == http.MethodGet && a.status == http.StatusOK {
		if tag := a.header.Get("ETag"); len(tag) < 3 || tag[0] != '"' || tag[len(tag)-1] != '"' {
			t.Errorf("ETag %q is not a strong one: %s", tag, a)
		}
		vary := strings.ToLower(strings.Join(a.header.Values("Vary"), ","))
		for _, name := range []string{"Accept", "X-Auth-Token", "Authorization", "user", "password", "X-Auth-Token-KeyStone"} {
			if !listed(vary, strings.ToLower(name)) {
				t.Errorf("Vary %q does not name %s: %s", vary, name, a)
			}
		}
	}
}

// listed says whether the comma-separated list holds the item.
func listed(list, item string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(part) == item {
			return true
		}
	}
	return false
}

// The two bodies that are plain text.
const (
	plain401 = "Could not verify your access level for that URL. You have to login with proper token"
	plain405 = "The method specified in the Request-Line is not allowed for the resource identified by the Request-URI."
)

func (a *answer) isPlain() bool {
	mediaType, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	return mediaType == "text/plain"
}

// wantPlain expects one of the two documented texts, as it is documented.
func (a *answer) wantPlain(t *testing.T, status int, text string) *answer {
	t.Helper()
	a.want(t, status)
	if got := strings.TrimSuffix(string(a.body), "\n"); got != text || !a.isPlain() {
		t.Errorf("the body should be the plain text %q, not (%s) %q: %s", text, a.header.Get("Content-Type"), got, a)
	}
	return a
}

// wantNoCredential is the 401 for a missing or bad credential.
func (a *answer) wantNoCredential(t *testing.T) *answer {
	t.Helper()
	return a.wantPlain(t, http.StatusUnauthorized, plain401)
}

// wantManagersOnly is the 405 for a manager's call by one who is not.
func (a *answer) wantManagersOnly(t *testing.T) *answer {
	t.Helper()
	return a.wantPlain(t, http.StatusMethodNotAllowed, plain405)
}

// isXML tells the two formats apart, and fails on a third.
func (a *answer) isXML(t *testing.T) bool {
	t.Helper()
	mediaType, parameters, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		t.Fatalf("Content-Type %q: %v: %s", a.header.Get("Content-Type"), err, a)
	}
	if charset := parameters["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		t.Errorf("the charset is %s, not UTF-8: %s", charset, a)
	}
	switch mediaType {
	case "application/json":
		return false
	case "application/xml", "text/xml":
		return true
	}
	t.Fatalf("Content-Type is neither JSON nor XML: %q: %s", mediaType, a)
	return false
}

// A failure is the body of an error.
type failure struct {
	Message string        `json:"message" xml:"message"`
	Nodes   []nodeFailure `json:"nodes" xml:"nodes>node"`
}

type nodeFailure struct {
	Node    string `json:"node" xml:"name"`
	Status  int    `json:"status" xml:"status"`
	Message string `json:"message" xml:"message"`
}

func (a *answer) failure(t *testing.T) failure {
	t.Helper()
	if a.isXML(t) {
		var body struct {
			XMLName xml.Name
			failure
		}
		if err := xml.Unmarshal(a.body, &body); err != nil || body.XMLName.Local != "error" {
			t.Errorf("not an <error>: %v: %s", err, a)
		}
		return body.failure
	}
	var body struct{ Error *failure }
	if err := json.Unmarshal(a.body, &body); err != nil || body.Error == nil {
		t.Errorf("not an {\"error\": ...}: %v: %s", err, a)
		return failure{}
	}
	return *body.Error
}

// flavor is the one flavor an answer holds, in whichever format.
func (a *answer) flavor(t *testing.T) flavorBody {
	t.Helper()
	f, err := decodeFlavor(a.body, a.isXML(t))
	if err != nil {
		t.Fatalf("not a flavor: %v: %s", err, a)
	}
	return f
}

// flavors is the list of flavors an answer holds.
func (a *answer) flavors(t *testing.T) []flavorBody {
	t.Helper()
	fs, err := decodeFlavors(a.body, a.isXML(t))
	if err != nil {
		t.Fatalf("not a list of flavors: %v: %s", err, a)
	}
	return fs
}

// find is the flavor of that id in a list, or of that name where the id is "".
func find(fs []flavorBody, id, name string) (flavorBody, bool) {
	for _, f := range fs {
		if id != "" && f.ID == id || id == "" && f.Name == name {
			return f, true
		}
	}
	return flavorBody{}, false
}

// infrastructure is the one infrastructure a GET answers.
func (a *answer) infrastructure(t *testing.T) infrastructureBody {
	t.Helper()
	var (
		body infrastructureBody
		err  error
	)
	if a.isXML(t) {
		err = xml.Unmarshal(a.body, &body)
	} else {
		envelope := struct{ Infrastructure *infrastructureBody }{&body}
		err = json.Unmarshal(a.body, &envelope)
	}
	if err == nil && body.Name == "" {
		err = errors.New("it has no name")
	}
	if err != nil {
		t.Fatalf("not an infrastructure: %v: %s", err, a)
	}
	return body
}

// infrastructures is the list a GET answers.
func (a *answer) infrastructures(t *testing.T) []infrastructureBody {
	t.Helper()
	if a.isXML(t) {
		var body struct {
			XMLName         xml.Name             `xml:"infrastructures"`
			Infrastructures []infrastructureBody `xml:"infrastructure"`
		}
		if err := xml.Unmarshal(a.body, &body); err != nil {
			t.Fatalf("not a list of infrastructures: %v: %s", err, a)
		}
		return body.Infrastructures
	}
	var body struct{ Infrastructures *[]infrastructureBody }
	if err := json.Unmarshal(a.body, &body); err != nil || body.Infrastructures == nil {
		t.Fatalf("not a list of infrastructures: %v: %s", err, a)
	}
	return *body.Infrastructures
}

// nextPath is the target of Link rel="next", "" where there is none.
func (a *answer) nextPath(t *testing.T) string {
	t.Helper()
	link := a.header.Get("Link")
	if link == "" {
		return ""
	}
	target, parameters, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.Contains(parameters, `rel="next"`) {
		t.Fatalf("Link is %q: %s", link, a)
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatalf("Link is %q: %v", link, err)
	}
	return u.RequestURI()
}

// within fails the test where the call takes longer.
func within(t *testing.T, limit time.Duration, what string, call func()) {
	t.Helper()
	begun := time.Now()
	call()
	if took := time.Since(begun); took > limit {
		t.Errorf("%s took %s, more than %s", what, took.Round(time.Millisecond), limit)
	}
}
