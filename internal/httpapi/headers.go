package httpapi

import "net/http"

// Values that answers share; net/http does not modify them, and none is made
// anew for a request.
var (
	private    = []string{"private"}
	noStore    = []string{"no-store"}
	closing    = []string{"close"}
	nosniff    = []string{"nosniff"}
	noPage     = []string{"default-src 'none'; frame-ancestors 'none'"}
	noReferrer = []string{"no-referrer"}
	sameOrigin = []string{"same-origin"}
	// For a year, this host alone: others below its name are not ours to speak for.
	onlyTLS = []string{"max-age=31536000"}
)

// onCredentials is the request headers that an answer depends on.
const onCredentials = "Accept, X-Auth-Token, Authorization, X-Auth-Token-KeyStone, user, password" //nolint:gosec // their names are no credentials

// common puts into h what every answer has: those that fail, those of UCloud and
// the descriptions too. What is public, or to be kept by nobody, says so later.
//
// An answer is no page: should a browser be led to one it runs nothing of it,
// shows it in no frame and tells nobody its address, which may hold an
// access_token. What another site embeds by its address is refused by
// Cross-Origin-Resource-Policy, which says nothing about what a script there
// fetches: that is CORS's, in cors.go.
func (s *Server) common(h http.Header, r *http.Request) {
	h["X-Content-Type-Options"] = nosniff
	h["Content-Security-Policy"] = noPage
	h["Referrer-Policy"] = noReferrer
	h["Cross-Origin-Resource-Policy"] = sameOrigin
	h["Vary"] = s.vary
	h["Cache-Control"] = private
	if s.proxies.https(r) {
		h["Strict-Transport-Security"] = onlyTLS
	}
}
