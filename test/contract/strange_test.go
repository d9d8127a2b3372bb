package contract_test

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// strangeAnswers: what a Keystone, a Nova or a KeyRock answers that is none of
// theirs is nobody's business. Each of these answers holds a word that, like a
// password, may be in no answer and no log of ours: every client of the suite and
// the end of every server look for it.
func strangeAnswers(t *testing.T, s *setup) {
	foreign := secret("foreign")
	strange := map[string]string{
		"a status text, a header and a body of their own": "HTTP/1.1 500 ~\r\nA: ~\r\nX-Openstack-Request-Id: ~ ~\r\nX-Subject-Token: ~\r\nContent-Type: ~\r\nConnection: close\r\n\r\n~",
		"HTML":                         "HTTP/1.1 200 ~\r\nContent-Type: text/html; ~\r\nConnection: close\r\n\r\n<html>~</html>",
		"another JSON":                 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"~\": [\"~\"]}",
		"JSON that is cut":             "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"flavors\": [{\"id\": \"~",
		"a redirect":                   "HTTP/1.1 302 ~\r\nLocation: http://127.0.0.1:1/~\r\nConnection: close\r\n\r\n",
		"a redirect nobody can follow": "HTTP/1.1 307 ~\r\nLocation: http://[~\r\nConnection: close\r\n\r\n",
		"a status nobody knows":        "HTTP/1.1 799 ~\r\nConnection: close\r\n\r\n~",
		"no HTTP":                      "~\r\n\r\n",
		"a malformed status":           "HTTP/1.1 2~ OK\r\n\r\n",
		"a malformed header":           "HTTP/1.1 200 OK\r\n~\r\n\r\n",
		"malformed chunks":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n~\r\n",
		"another encoding":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: ~\r\n\r\n",
	}
	var answer atomic.Value
	url := answering(t, func() string { return strings.ReplaceAll(answer.Load().(string), "~", foreign) })
	manager, user := s.product.as(s.manager), s.product.as(s.user)
	pr := s.serve(t, with("identity", []any{map[string]any{"type": "keyrock", "url": url + "/user"}}))
	for what, text := range strange {
		t.Run(what+" is told by nobody", func(t *testing.T) {
			answer.Store(text)
			pr.as(byToken("anybody", secret("token"))).get(t, "/whoami").want(t, 503)
			for party, change := range map[string]func(c *cloud, d *document) *document{
				"Keystone": func(_ *cloud, d *document) *document { return d.and("keystone_url", url+"/v3") },
				"Nova": func(c *cloud, d *document) *document {
					c.stack.SetEndpoint(c.regions[0], url+"/v2.1")
					return d
				},
			} {
				c := extra(t, "strange")
				region := c.regions[0]
				manager.post(t, "/infrastructures", change(c, c.infrastructure(region).and("trusted", true))).want(t, 201)
				owner := s.product.as(s.owner(region))
				user.get(t, "/regions/"+region+"/flavors", keystone(c.token(t, "operator"))).want(t, 502).says(t, region)
				owner.post(t, "/flavors", sized(unique()("x"))).want(t, 502).says(t, region)
				owner.get(t, "/flavors", fresh).want(t, 200)
				status := owner.get(t, "/infrastructures/"+region).want(t, 200).infrastructure(t).Status
				if status == nil || !strings.Contains(status.LastError, party) {
					t.Errorf("the status does not say that it is %s: %+v", party, status)
				}
				manager.delete(t, "/infrastructures/"+region, query("force", "true")).want(t, 204)
			}
		})
	}
}

// answering is a server that answers every request with those bytes.
func answering(t *testing.T, answer func() string) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if n, _ := conn.Read(make([]byte, 64<<10)); n > 0 {
					io.WriteString(conn, answer())
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}
