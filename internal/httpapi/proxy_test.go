package httpapi

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func networks(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// Whoever guesses passwords must not choose the address that is held to account:
// only what a proxy of ours wrote counts, and of that the nearest stranger.
func TestClientBehindProxies(t *testing.T) {
	trusted := proxies(networks("10.0.0.0/8", "fd00::/8", "192.0.2.7/32"))
	for _, row := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"nobody in between", "203.0.113.5:4711", nil, "203.0.113.5"},
		{"a stranger says who called him", "203.0.113.5:4711", []string{"198.51.100.1"}, "203.0.113.5"},
		{"a stranger says it was our proxy", "203.0.113.5:4711", []string{"10.0.0.1"}, "203.0.113.5"},
		{"one proxy", "10.0.0.1:80", []string{"203.0.113.5"}, "203.0.113.5"},
		{"one proxy, and what the caller made up", "10.0.0.1:80", []string{"198.51.100.1, 203.0.113.5"}, "203.0.113.5"},
		{"the same in headers of their own", "10.0.0.1:80", []string{"198.51.100.1", "203.0.113.5"}, "203.0.113.5"},
		{"two proxies", "10.0.0.1:80", []string{"198.51.100.1, 203.0.113.5, 10.0.0.2"}, "203.0.113.5"},
		{"three proxies, in two headers", "10.0.0.1:80", []string{"203.0.113.5,192.0.2.7", " 10.9.9.9 "}, "203.0.113.5"},
		{"the caller says our proxy called him", "10.0.0.1:80", []string{"10.0.0.3, 203.0.113.5"}, "203.0.113.5"},
		{"a caller inside our own networks", "10.0.0.1:80", []string{"10.0.0.77"}, "10.0.0.77"},
		{"a proxy that says nothing", "10.0.0.1:80", nil, "10.0.0.1"},
		{"a proxy that says nothing of an empty header", "10.0.0.1:80", []string{""}, "10.0.0.1"},
		{"no address", "10.0.0.1:80", []string{"unknown"}, "10.0.0.1"},
		{"no address behind the second proxy", "10.0.0.1:80", []string{"203.0.113.5, _hidden, 10.0.0.2"}, "10.0.0.2"},
		{"an empty hop", "10.0.0.1:80", []string{"203.0.113.5,,10.0.0.2"}, "10.0.0.2"},
		{"a hop of a whole request", "10.0.0.1:80", []string{"203.0.113.5\r\nX: y"}, "10.0.0.1"},
		{"with a port", "10.0.0.1:80", []string{"203.0.113.5:60001"}, "203.0.113.5"},
		{"IPv6", "[fd00::1]:80", []string{"2001:db8::5"}, "2001:db8::5"},
		{"IPv6 in brackets", "[fd00::1]:80", []string{"[2001:db8::5]"}, "2001:db8::5"},
		{"IPv6 with a port", "[fd00::1]:80", []string{"[2001:db8::5]:443"}, "2001:db8::5"},
		{"IPv6 with a zone", "[fd00::1%eth0]:80", []string{"fe80::1%eth0"}, "fe80::1"},
		{"IPv4 in IPv6, the peer", "[::ffff:10.0.0.1]:80", []string{"203.0.113.5"}, "203.0.113.5"},
		{"IPv4 in IPv6, the caller", "10.0.0.1:80", []string{"::ffff:203.0.113.5"}, "203.0.113.5"},
		{"IPv4 in IPv6, a proxy", "10.0.0.1:80", []string{"203.0.113.5, ::ffff:10.0.0.2"}, "203.0.113.5"},
		{"IPv4 in brackets is none", "10.0.0.1:80", []string{"[203.0.113.5]"}, "10.0.0.1"},
		{"a peer that is no address", "@", []string{"203.0.113.5"}, "@"},
	} {
		r := &http.Request{RemoteAddr: row.peer, Header: http.Header{"X-Forwarded-For": row.forwarded}}
		if got := trusted.client(r); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
		if got := (proxies)(nil).client(r); strings.Contains(row.peer, "10.0.0.1:") && got != "10.0.0.1" {
			t.Errorf("%s, with no proxy trusted: %s", row.name, got)
		}
	}
}

func TestHTTPSBehindProxies(t *testing.T) {
	for _, row := range []struct {
		name, peer string
		said       []string
		tls        bool
		want       bool
	}{
		{"our own TLS", "203.0.113.5:1", nil, true, true},
		{"plain", "203.0.113.5:1", nil, false, false},
		{"a stranger's word", "203.0.113.5:1", []string{"https"}, false, false},
		{"a proxy's", "10.0.0.1:1", []string{"https"}, false, true},
		{"a proxy's, in capitals", "10.0.0.1:1", []string{"HTTPS"}, false, true},
		{"a proxy's, of http", "10.0.0.1:1", []string{"http"}, false, false},
		{"the nearest proxy's", "10.0.0.1:1", []string{"https, http"}, false, false},
		{"the nearest proxy's, of two headers", "10.0.0.1:1", []string{"http", "https"}, false, true},
		{"nobody's", "@", []string{"https"}, false, false},
	} {
		r := &http.Request{RemoteAddr: row.peer, Header: http.Header{"X-Forwarded-Proto": row.said}}
		if row.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if got := proxies(networks("10.0.0.0/8")).https(r); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

// Behind a proxy of ours each caller has failed logins of their own, and a line
// in the log that names them; what only a caller says changes neither.
func TestLimitsAndLogBehindProxy(t *testing.T) {
	s := newSetup(t, func(c *Config) {
		c.FailedLoginsPerMinute = 1
		c.TrustedProxies = networks("192.0.2.0/24") // where the tests come from
	})
	wrong := basic("ann", "wrong")
	wantStatus(t, s.do(t, "GET /v1/whoami", "", wrong, "X-Forwarded-For: 203.0.113.1"), 401)
	wantStatus(t, s.do(t, "GET /v1/whoami", "", wrong, "X-Forwarded-For: 203.0.113.1"), 429)
	wantStatus(t, s.do(t, "GET /v1/whoami", "", wrong, "X-Forwarded-For: 198.51.100.9, 203.0.113.1"), 429)
	wantStatus(t, s.do(t, "GET /v1/whoami", "", wrong, "X-Forwarded-For: 203.0.113.2"), 401)
	// RFC 7239's header, X-Real-IP and so on are the caller's own.
	for _, header := range []string{"Forwarded: for=198.51.100.1", "X-Real-IP: 198.51.100.1", "X-Client-IP: 198.51.100.1", "True-Client-IP: 198.51.100.1"} {
		wantStatus(t, s.do(t, "GET /v1/whoami", "", wrong, "X-Forwarded-For: 203.0.113.1", header), 429)
	}
	lines := s.log.lines(t, "request")
	if first := lines[0]; first["remote"] != "203.0.113.1" || first["proxy"] != "192.0.2.1:4711" {
		t.Errorf("remote %v, proxy %v", first["remote"], first["proxy"])
	}
	s.do(t, "GET /v1/whoami", "")
	lines = s.log.lines(t, "request")
	if last := lines[len(lines)-1]; last["remote"] != "192.0.2.1:4711" || last["proxy"] != nil {
		t.Errorf("without the header: remote %v, proxy %v", last["remote"], last["proxy"])
	}
}
