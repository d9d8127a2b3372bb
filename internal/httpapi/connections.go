package httpapi

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// connections bounds how many are open, in all and for each address, so that who
// opens thousands and says nothing on them takes no place of others. What is too
// many is closed at once: waiting in a queue would be what they are after.
type connections struct {
	inAll, each int // 0 is no limit
	// free says whose are not bounded one by one.
	free func(netip.Addr) bool
	log  *slog.Logger
	now  func() time.Time

	mu      sync.Mutex
	open    map[net.Conn]string // with whose they are
	of      map[string]int
	refused int
	told    time.Time
}

// connections are those of one listener. Those from this machine and from trusted
// proxies are many callers', so they are bounded together with all others alone.
func (s *Server) connections() *connections {
	return &connections{
		inAll: s.cfg.Connections, each: s.cfg.ConnectionsPerAddress, log: s.cfg.Log, now: time.Now,
		free: func(a netip.Addr) bool { return a.IsLoopback() || s.proxies.trust(a) },
		open: map[net.Conn]string{}, of: map[string]int{},
	}
}

// changed is an http.Server's ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if !c.take(conn) {
			conn.Close() // the server finds it closed when it reads
		}
	case http.StateClosed, http.StateHijacked:
		c.leave(conn)
	}
}

func (c *connections) take(conn net.Conn) bool {
	whose := ""
	if a, ok := parseHop(conn.RemoteAddr().String()); ok && !c.free(a) {
		whose = network(a.String())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inAll > 0 && len(c.open) >= c.inAll || c.each > 0 && whose != "" && c.of[whose] >= c.each {
		c.refused++
		if now := c.now(); now.Sub(c.told) >= time.Minute {
			c.log.Warn("connections are refused: too many are open", "open", len(c.open), "refused", c.refused, "remote", conn.RemoteAddr().String(), "of_remote", c.of[whose])
			c.told, c.refused = now, 0
		}
		return false
	}
	c.open[conn] = whose
	if whose != "" {
		c.of[whose]++
	}
	return true
}

func (c *connections) leave(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	whose, taken := c.open[conn]
	if !taken {
		return
	}
	delete(c.open, conn)
	if whose == "" {
		return
	}
	if c.of[whose]--; c.of[whose] == 0 {
		delete(c.of, whose)
	}
}
