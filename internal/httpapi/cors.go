package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// cors lets pages of other origins call us from a browser (the CORS protocol of
// the Fetch standard). Credentials are in headers that the page itself sets, so
// Access-Control-Allow-Credentials, which is for those a browser adds by itself,
// is never sent: no page can use what another one has logged in with.
//
// A library's middleware would answer a foreign origin's preflight with 204, and
// leave its developer without a reason.
type cors struct {
	any     bool                // *: every origin but null, that of a sandboxed page or a file
	origins map[string][]string // each with itself as a header's value
}

// Values of the answers to other origins; none is made anew for a request.
var (
	anyOrigin = []string{"*"}
	exposed   = []string{"ETag, Link, Location, Allow, Retry-After, WWW-Authenticate, X-Request-Id, X-Flavorsync-Unreachable, Preference-Applied"}
	maySend   = []string{"Accept, Content-Type, X-Auth-Token, X-Auth-Token-KeyStone, Authorization, user, password, " +
		"Prefer, If-Match, If-None-Match, Cache-Control, Last-Event-ID, X-Request-Id"}
	mayCall = []string{"GET, HEAD, POST, PUT, DELETE"}
	// Two hours: more than that no browser keeps it.
	preflightAge = []string{"7200"}
)

// newCORS is nil where no origin is allowed.
func newCORS(origins []string) *cors {
	if len(origins) == 0 {
		return nil
	}
	c := &cors{origins: make(map[string][]string, len(origins))}
	for _, origin := range origins {
		c.any = c.any || origin == "*"
		c.origins[origin] = []string{origin}
	}
	return c
}

// allowed is Access-Control-Allow-Origin for an origin; nil where it is foreign.
func (c *cors) allowed(origin string) []string {
	if c.any && origin != "null" {
		return anyOrigin
	}
	return c.origins[origin]
}

// open puts into h what lets the origin's page see the answer, whatever that
// will be, and says whether it may.
func (c *cors) open(h http.Header, origin string) bool {
	allowed := c.allowed(origin)
	if allowed == nil {
		return false
	}
	h["Access-Control-Allow-Origin"] = allowed
	h["Access-Control-Expose-Headers"] = exposed
	return true
}

// shared is the request's part in CORS. It has answered a preflight to a path
// that is not served, so that the page gets to read the 404 of its request; one
// to a path that is goes on as the OPTIONS that it is.
func (k *call) shared() (answered bool, err error) {
	r, h := k.Request(), k.Response().Header()
	origin, sent := r.Header["Origin"]
	if !sent || k.s.cors == nil {
		return false, nil
	}
	// A browser sends one Origin.
	open := len(origin) == 1 && k.s.cors.open(h, origin[0])
	if r.Method != http.MethodOptions || r.Header["Access-Control-Request-Method"] == nil {
		return false, nil
	}
	if !open {
		return false, flavor.Errorf(flavor.CodeForbidden, "pages of this origin may not call: cors.allow_origins of this service's configuration names those that may")
	}
	h["Access-Control-Allow-Headers"] = maySend
	h["Access-Control-Max-Age"] = preflightAge
	if methods, _ := k.Get(echo.ContextKeyHeaderAllow).(string); methods != "" {
		h["Access-Control-Allow-Methods"] = []string{methods}
		return false, nil
	}
	h["Access-Control-Allow-Methods"] = mayCall
	k.Response().WriteHeader(http.StatusNoContent)
	return true, nil
}

// varyOf is the Vary of every answer: where other origins are served, what a
// cache keeps for one of them is not for the next, nor for those without.
func varyOf(c *cors) []string {
	if c == nil {
		return []string{onCredentials}
	}
	return []string{onCredentials + ", Origin"}
}
