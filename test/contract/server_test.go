package contract_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// requestIDs are those that an error message tells.
var requestIDs = regexp.MustCompile(`req-[0-9a-f]+`)

// limits: how often one may call.
func limits(t *testing.T, s *setup) {
	t.Run("beyond requests_per_second a caller is told 429 with Retry-After, others are not", func(t *testing.T) {
		pr := s.serve(t, with("limits", map[string]any{"requests_per_second": 2, "failed_logins_per_minute": 0}))
		eager, other := pr.as(s.idm.user(t)), pr.as(s.idm.user(t))
		counts := crowd(t, 30, func() *answer { return eager.do(t, http.MethodGet, "/regions", nil) })
		if counts[429] < 10 || counts[200] < 1 || counts[200]+counts[429] != 30 {
			t.Errorf("the statuses are %v", counts)
		}
		other.get(t, "/regions").want(t, 200)
		eventually(t, "the eager caller may call again", func() bool { return eager.get(t, "/regions").status == 200 })
	})

	t.Run("the limit is for every call of the table", func(t *testing.T) {
		pr := s.serve(t, with("limits", map[string]any{"requests_per_second": 1, "failed_logins_per_minute": 0}))
		eager := pr.as(s.idm.user(t))
		for _, row := range rows {
			eventually(t, row.method+" "+row.path+" is 429", func() bool {
				return eager.do(t, row.method, row.path, row.body()).status == 429
			})
		}
	})

	t.Run("beyond failed_logins_per_minute an address is told 429, whoever it says it is", func(t *testing.T) {
		pr := s.serve(t, with("limits", map[string]any{"requests_per_second": 0, "failed_logins_per_minute": 3}))
		statuses := map[int]int{}
		for range 8 {
			statuses[pr.as(byBasic(accounts.manager, secret("guess"))).get(t, "/regions").wantOneOf(t, 401, 429).status]++
		}
		if statuses[401] < 1 || statuses[429] < 1 {
			t.Errorf("the statuses are %v", statuses)
		}
		pr.as(byPair(accounts.nobody, secret("guess"))).get(t, "/regions").want(t, 429)
		pr.as(s.user).get(t, "/regions").want(t, 200) // tokens are no guesses at passwords
	})

	t.Run("without a limit there is none", func(t *testing.T) {
		counts := crowd(t, 40, func() *answer { return s.product.as(s.user).do(t, http.MethodGet, "/promotedflavors", nil) })
		if counts[200] != 40 {
			t.Errorf("the statuses are %v", counts)
		}
	})
}

// server: the process and its surroundings.
func server(t *testing.T, s *setup) {
	t.Run("/healthz and /readyz need no credential", func(t *testing.T) {
		for _, path := range []string{"/healthz", "/readyz"} {
			s.product.as(anonymous()).get(t, path, prefixed("")).want(t, 200)
		}
	})

	t.Run("/metrics is not on the address of the API", func(t *testing.T) {
		s.product.as(s.manager).get(t, "/metrics", prefixed("")).want(t, 404)
	})

	t.Run("the descriptions are served to everybody", func(t *testing.T) {
		for path, word := range map[string]string{"/openapi.yaml": "openapi: 3.1", "/flavorsync.xsd": "XMLSchema"} {
			if a := s.product.as(anonymous()).get(t, path, prefixed("")).want(t, 200); !strings.Contains(string(a.body), word) {
				t.Errorf("%s does not hold %q: %s", path, word, a)
			}
		}
	})

	t.Run("every answer has an X-Request-Id of its own", func(t *testing.T) {
		seen := map[string]bool{}
		for range 20 {
			id := s.product.as(s.user).get(t, "/regions").header.Get("X-Request-Id")
			if seen[id] {
				t.Errorf("%s twice", id)
			}
			seen[id] = true
		}
	})

	t.Run("Nova's request id is logged beside ours", func(t *testing.T) {
		a := s.product.as(s.user).get(t, "/regions/Spain2/flavors", keystone(s.cloud.token(t, "operator"))).want(t, 200)
		id := a.header.Get("X-Request-Id")
		eventually(t, "the line of the request is in the log", func() bool {
			return strings.Contains(s.product.log.text(), id)
		})
		for _, entry := range s.product.log.entries(t) {
			if entry["request_id"] == id && entry["route"] != nil {
				if text, _ := json.Marshal(entry); !strings.Contains(string(text), "req-") {
					t.Errorf("the line holds no request id of Nova: %s", text)
				}
			}
		}
	})

	t.Run("the log tells the cause of a 5xx under its request id", func(t *testing.T) {
		c := extra(t, "cause")
		region := c.regions[0]
		manager := s.product.as(s.manager)
		manager.post(t, "/infrastructures", c.infrastructure(region).and("keystone_url", closedPort(t)+"/v3")).want(t, 201)
		id := s.product.as(s.owner(region)).post(t, "/flavors", sized(unique()("x"))).want(t, 502).header.Get("X-Request-Id")
		eventually(t, "the cause is in the log", func() bool {
			for _, entry := range s.product.log.entries(t) {
				if text, _ := json.Marshal(entry); entry["request_id"] == id && strings.Contains(string(text), "connection refused") {
					return true
				}
			}
			return false
		})
		manager.delete(t, "/infrastructures/"+region, query("force", "true")).want(t, 204)
	})

	t.Run("SIGTERM lets a running request finish, and the process ends with 0", func(t *testing.T) {
		pr := s.serve(t)
		c := extra(t, "slow")
		c.register(t, s, pr)
		g := startGate(t, c, c.regions[0])
		arrived, release := make(chan struct{}), make(chan struct{})
		token := c.token(t, "operator")
		g.set(func(r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/flavors") && r.Header.Get("X-Auth-Token") == token { // not the engine's look
				arrived <- struct{}{}
				<-release
			}
			return true
		}, nil)
		finished := make(chan *answer, 1)
		go func() {
			a, err := pr.as(s.user).try(t, http.MethodGet, "/regions/"+c.regions[0]+"/flavors", nil, keystone(token))
			if err != nil {
				t.Errorf("the running request: %v", err)
			}
			finished <- a
		}()
		<-arrived
		if err := pr.process.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, "no new connection is accepted", func() bool {
			conn, err := net.Dial("tcp", strings.TrimPrefix(pr.url, "http://"))
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
		close(release)
		if a := <-finished; a != nil {
			a.want(t, 200)
		}
		pr.awaitExit(t)
		if pr.process.err != nil {
			t.Errorf("the process ended with %v", pr.process.err)
		}
	})

	t.Run("what was acknowledged is there after a restart, and after a kill", func(t *testing.T) {
		pr := s.serve(t)
		c := extra(t, "kept")
		pr.as(s.manager).post(t, "/infrastructures", c.infrastructure(c.regions[0])).want(t, 201)
		made := pr.as(s.manager).post(t, "/promotedflavors", sized(unique()("x")).and("extra_specs", map[string]string{"a": "b"})).want(t, 201)
		pr.as(s.manager).put(t, "/flavors/"+made.flavor(t).ID, flavorOf("node", c.regions[0])).want(t, 200)
		before := pr.as(s.user).get(t, "/flavors/"+made.flavor(t).ID).want(t, 200)
		pr.terminate(t)
		pr.run(t)
		if after := pr.as(s.user).get(t, "/flavors/"+made.flavor(t).ID).want(t, 200); !bytes.Equal(after.body, before.body) {
			t.Errorf("after a restart it is %s", after)
		}
		pr.kill(t)
		pr.run(t)
		if after := pr.as(s.user).get(t, "/flavors/"+made.flavor(t).ID).want(t, 200); !bytes.Equal(after.body, before.body) {
			t.Errorf("after a kill it is %s", after)
		}
		// the stored password still works
		pr.as(s.manager).post(t, "/flavors", sized(unique()("y")).and("nodes", c.regions)).want(t, 201)
	})

	if s.database == "mysql" {
		t.Run("without its database it lives but is not ready, and a 500 tells the client a request id and nothing else", func(t *testing.T) {
			pr := s.serve(t)
			pr.as(anonymous()).get(t, "/readyz", prefixed("")).want(t, 200)
			pr.failing = true
			executeSQL(t, "DROP DATABASE "+pr.database)
			defer executeSQL(t, "CREATE DATABASE "+pr.database) // to be dropped at the end
			pr.as(anonymous()).get(t, "/healthz", prefixed("")).want(t, 200)
			eventually(t, "it is not ready", func() bool { return pr.as(anonymous()).get(t, "/readyz", prefixed("")).status == 503 })
			for _, row := range rows {
				if row.managersOnly || row.fromMemory() {
					continue
				}
				a := pr.as(s.manager).do(t, row.method, row.path, row.body(), keystone(s.cloud.token(t, "operator"))).wantOneOf(t, 400, 500)
				told := requestIDs.ReplaceAllString(string(a.body), "") // of random digits
				for _, word := range []string{"SQL", "sql", "database", pr.database, "1046", "1049"} {
					if strings.Contains(told, word) {
						t.Errorf("it tells of %s: %s", word, a)
					}
				}
			}
		})
	}

	t.Run("an idle or slow client is not waited for", func(t *testing.T) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.product.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /v1/regions HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("half a request head is waited for longer than %s: %v", patience, err)
		}
	})

	t.Run("a head that is too large is refused", func(t *testing.T) {
		req, err := http.NewRequest(http.MethodGet, s.product.url+"/v1/regions", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Large", strings.Repeat("x", 2<<20))
		resp, err := httpClient.Do(req)
		if err != nil {
			return // the connection was closed while we wrote
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d", resp.StatusCode)
		}
	})

	t.Run("a configuration with mistakes is refused, all of them at once", func(t *testing.T) {
		pr := s.serve(t) // for its directory and its configuration
		text, err := os.ReadFile(pr.config)
		if err != nil {
			t.Fatal(err)
		}
		var config map[string]any
		if err := json.Unmarshal(text, &config); err != nil {
			t.Fatal(err)
		}
		config["lisen"] = "127.0.0.1:0"
		config["engine"] = map[string]any{"region_timeout": 2}
		bad, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(pr.config+".bad", bad, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(pr.command, "serve", "--config", pr.config+".bad")
		cmd.Env = environment()
		output, err := cmd.CombinedOutput()
		if err == nil {
			t.Error("it was accepted")
		}
		for _, word := range []string{"lisen", "region_timeout"} {
			if !strings.Contains(string(output), word) {
				t.Errorf("it does not tell of %s: %s", word, output)
			}
		}
	})
}
