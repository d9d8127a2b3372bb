package httpapi

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// raw sends these bytes on a connection of its own, and is the answers until the
// server closes it, or says no more.
func raw(t *testing.T, address, text string) (statuses []int, last string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { // the server may close before it has read it all
		_, _ = io.WriteString(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	for r := bufio.NewReader(c); ; {
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection is still open after %v", statuses)
			}
			return statuses, last
		}
		body, _ := io.ReadAll(response.Body)
		statuses, last = append(statuses, response.StatusCode), string(body)
	}
}

// What two servers in a row may read each in its own way is read here in one, or
// not at all: nothing that hides in a request is answered as the next one.
func TestRequestsThatMeanTwoThings(t *testing.T) {
	const (
		hidden = "GET /v1/regions HTTP/1.1\r\nHost: x\r\nX-Auth-Token: good\r\n\r\n"
		post   = "POST /v1/promotedflavors HTTP/1.1\r\nHost: x\r\nX-Auth-Token: good\r\nContent-Type: application/json\r\n"
		get    = "GET /v1/promotedflavors HTTP/1.1\r\nHost: x\r\nX-Auth-Token: good\r\n"
	)
	length := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }
	for _, row := range []struct {
		name, text string
		want       string // statuses
		hidden     bool   // the second request was one, and not hidden
	}{
		{"two requests", get + "\r\n" + hidden, "[200 200]", true},
		{"a body of the length told", post + length(2) + "\r\n{}" + hidden, "[201 200]", true},
		{"two lengths", post + length(2) + length(2+len(hidden)) + "\r\n{}" + hidden, "[400]", false},
		{"two lengths in one", post + "Content-Length: 2, 3\r\n\r\n{}" + hidden, "[400]", false},
		{"a length with a sign", post + "Content-Length: +2\r\n\r\n{}" + hidden, "[400]", false},
		{"a length in hex", post + "Content-Length: 0x2\r\n\r\n{}" + hidden, "[400]", false},
		{"a length below 0", post + "Content-Length: -2\r\n\r\n{}" + hidden, "[400]", false},
		{"a blank before the colon", post + "Content-Length : 2\r\n\r\n{}" + hidden, "[400]", false},
		{"length and chunks", post + length(2+5+len(hidden)) + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + hidden, "[201]", false},
		{"chunks and a shorter length", post + "Transfer-Encoding: chunked\r\n" + length(4) + "\r\n2\r\n{}\r\n0\r\n\r\n" + hidden, "[201]", false},
		{"chunks that are called otherwise", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden, "[501]", false},
		{"chunks and more", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + hidden, "[501]", false},
		{"chunks after a control character", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + hidden, "[400]", false},
		{"chunks twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, "[501]", false},
		{"a chunk of no size", post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n" + hidden, "[400]", false},
		{"a chunk longer than told", post + "Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n" + hidden, "[400]", false},
		{"a chunk's line ended by LF", post + "Transfer-Encoding: chunked\r\n\r\n2;x\n{}\r\n0\r\n\r\n" + hidden, "[400]", false},
		{"a chunk's extension without end", post + "Transfer-Encoding: chunked\r\n\r\n2;" + strings.Repeat("x", 1<<20) + "\r\n{}\r\n0\r\n\r\n" + hidden, "[400]", false},
		{"many small extensions", post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("x", 1000)+"\r\n{\r\n", 200) + "0\r\n\r\n" + hidden, "[400]", false},
		{"two hosts", "GET /v1/promotedflavors HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + hidden, "[400]", false},
		{"no host", "GET /v1/promotedflavors HTTP/1.1\r\n\r\n" + hidden, "[400]", false},
		{"a host of two lines", "GET /v1/promotedflavors HTTP/1.1\r\nHost: x/\x01\r\n\r\n" + hidden, "[400]", false},
		{"a folded first header", "GET /v1/promotedflavors HTTP/1.1\r\n Host: x\r\n\r\n" + hidden, "[400]", false},
		{"a header without a colon", get + "X\r\n\r\n" + hidden, "[400]", false},
		{"a header with NUL", get + "X: a\x00b\r\n\r\n" + hidden, "[400]", false},
		{"a header with CR alone", get + "X: a\rContent-Length: 9\r\n\r\n" + hidden, "[400]", false},
		// RFC 9112, 2.2 and 5.2: may be taken as a line's end, and as a blank.
		{"lines ended by LF", strings.ReplaceAll(get+"\r\n"+hidden, "\r\n", "\n"), "[200 200]", true},
		{"a folded token is no good one", "GET /v1/promotedflavors HTTP/1.1\r\nHost: x\r\nX-Auth-Token: go\r\n od\r\n\r\n", "[401]", false},
		{"a length in a folded header", post + "Content-Length:\r\n 2\r\n\r\n{}" + hidden, "[201 200]", true},
		{"a body of GET", get + length(len(hidden)) + "\r\n" + hidden, "[200]", false},
		{"HTTP/0.9", "GET /v1/promotedflavors\r\n\r\n" + hidden, "[400]", false},
		{"HTTP/1.0", "GET /healthz HTTP/1.0\r\n\r\n" + hidden, "[200]", false},
		{"HTTP/3.0", "GET /healthz HTTP/3.0\r\nHost: x\r\n\r\n" + hidden, "[505]", false},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden, "[404]", false},
		{"an upgrade that is not there", get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "[200]", false},
		{"a whole URL", "GET http://elsewhere/v1/promotedflavors HTTP/1.1\r\nHost: x\r\nX-Auth-Token: good\r\n\r\n", "[200]", false},
		{"CONNECT", "CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\nX-Auth-Token: good\r\n\r\n", "[404]", false},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "[404]", false},
		{"a head of 100 KiB", get + "X: " + strings.Repeat("x", 100<<10) + "\r\n\r\n" + hidden, "[431]", false},
		{"a request line of 100 KiB", "GET /" + strings.Repeat("x", 100<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n" + hidden, "[431]", false},
		{"9,000 headers", get + strings.Repeat("a: b\r\n", 9_000) + "\r\n", "[200]", false},
		{"100,000 headers", get + strings.Repeat("a: b\r\n", 100_000) + "\r\n" + hidden, "[431]", false},
	} {
		s := newSetup(t)
		address, _ := listen(t, s)
		statuses, _ := raw(t, address, row.text)
		if got := fmt.Sprint(statuses); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
		if got := strings.Contains(s.market.called(), "Regions"); got != row.hidden {
			t.Errorf("%s: was the second request answered? %v", row.name, got)
		}
	}
	// TRACE would repeat a token that a script may not read.
	s := newSetup(t)
	address, _ := listen(t, s)
	if statuses, body := raw(t, address, strings.Replace(get, "GET", "TRACE", 1)+"\r\n"); fmt.Sprint(statuses) != "[405]" || strings.Contains(body, "good") {
		t.Errorf("TRACE: %v %s", statuses, body)
	}
}

// Hundreds that send their head, or their body, a byte now and then take nobody
// else's place, and are sent away when their time is over.
func TestSlowClients(t *testing.T) {
	s := newSetup(t)
	s.readHeaderTimeout, s.bodyTimeout = 2*time.Second, 2*time.Second
	address, _ := listen(t, s)
	var slow []net.Conn
	begun := time.Now()
	for i := range 400 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		head := "POST /v1/flavors HTTP/1.1\r\nHost: x\r\nX-Auth-Token: good\r\nContent-Type: application/json\r\n"
		if i%2 == 0 {
			head += "Content-Length: 100\r\n\r\n{"
		}
		fmt.Fprint(c, head)
		slow = append(slow, c)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 50 {
		r, err := client.Get("http://" + address + "/healthz")
		if err != nil {
			t.Fatalf("among slow clients: %v", err)
		}
		r.Body.Close()
	}
	t.Logf("50 connections among 400 slow ones: %s", time.Since(begun).Round(time.Millisecond))
	for i, c := range slow {
		_ = c.SetReadDeadline(begun.Add(30 * time.Second))
		if _, err := io.ReadAll(c); err != nil {
			t.Fatalf("slow client %d is still there: %v", i, err)
		}
	}
	if s.market.called() != "" {
		t.Errorf("done for one that never sent it all: %s", s.market.called())
	}
}

// Who asks for a long answer and does not read it is not waited for.
func TestSlowReader(t *testing.T) {
	s := newSetup(t)
	s.writeTimeout = 200 * time.Millisecond
	s.market.list = make([]flavor.Flavor, 100_000)
	for i := range s.market.list {
		s.market.list[i] = insane
	}
	address, _ := listen(t, s)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /v1/flavors HTTP/1.1\r\nHost: x\r\nX-Auth-Token: good\r\n\r\n")
	await(t, "the request has ended", func() bool { return len(s.log.lines(t, "request")) == 1 })
}

// One address has a bound of its own, and all together have one; what is over it
// is closed at once, what is closed makes room, and the log tells once.
func TestConnectionsAreBounded(t *testing.T) {
	s := newSetup(t, func(c *Config) { c.Connections, c.ConnectionsPerAddress = 6, 2 })
	c := s.connections()
	now := time.Now()
	c.now = func() time.Time { return now }
	free := c.free
	c.free = func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.1") }
	open := func(address string) *peer {
		p := &peer{address: address}
		c.changed(p, http.StateNew)
		return p
	}
	a1, a2, a3 := open("203.0.113.1:1"), open("203.0.113.1:2"), open("203.0.113.1:3")
	b1, b2, b3 := open("[2001:db8::1]:1"), open("[2001:db8::2]:1"), open("[2001:db8::3]:1")
	if a1.closed || a2.closed || !a3.closed || b1.closed || b2.closed || !b3.closed {
		t.Errorf("closed: %v %v %v, %v %v %v", a1.closed, a2.closed, a3.closed, b1.closed, b2.closed, b3.closed)
	}
	c.changed(a3, http.StateClosed) // what the server says of one it never had
	if !open("203.0.113.1:4").closed {
		t.Error("one that was refused made room for another")
	}
	c.changed(a1, http.StateActive)
	c.changed(a1, http.StateIdle)
	c.changed(a1, http.StateClosed)
	if a := open("203.0.113.1:5"); a.closed {
		t.Error("one that was closed made no room")
	}
	p1, p2, p3 := open("10.0.0.1:1"), open("10.0.0.1:2"), open("10.0.0.1:3")
	if p1.closed || p2.closed || !p3.closed {
		t.Errorf("of a proxy, bounded with all: %v %v %v", p1.closed, p2.closed, p3.closed)
	}
	if lines := s.log.lines(t, "connections are refused: too many are open"); len(lines) != 1 {
		t.Errorf("%d lines: %v", len(lines), lines)
	}
	now = now.Add(time.Minute)
	open("10.0.0.1:4")
	if lines := s.log.lines(t, "connections are refused: too many are open"); len(lines) != 2 || lines[1]["refused"] != 4. {
		t.Errorf("a minute later: %v", lines)
	}
	for address, want := range map[string]bool{"127.0.0.1": true, "::1": true, "203.0.113.1": false} {
		if free(netip.MustParseAddr(address)) != want {
			t.Errorf("%s is bounded one by one: %v", address, want)
		}
	}
}

type peer struct {
	net.Conn
	address string
	closed  bool
}

func (p *peer) RemoteAddr() net.Addr { return p }
func (p *peer) Network() string      { return "tcp" }
func (p *peer) String() string       { return p.address }
func (p *peer) Close() error         { p.closed = true; return nil }

// The bound is in force on a real listener: who comes when all places are taken
// is sent away at once, and let in when one is free.
func TestConnectionsOverTheWire(t *testing.T) {
	s := newSetup(t, func(c *Config) { c.Connections = 5 })
	address, _ := listen(t, s)
	come := func() (net.Conn, error) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			r.Body.Close()
		}
		return c, err
	}
	var first net.Conn
	for range 5 {
		c, err := come()
		if err != nil {
			t.Fatal(err)
		}
		first = c
	}
	if _, err := come(); err == nil {
		t.Error("a sixth connection was answered")
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a sixth connection was left to wait")
	}
	first.Close()
	await(t, "there is room again", func() bool { _, err := come(); return err == nil })
}
