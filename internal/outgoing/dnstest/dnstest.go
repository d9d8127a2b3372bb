// Package dnstest is a name server for tests, that says of a name one thing now
// and another next.
package dnstest

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Server is a name server on loopback. Its methods are safe for concurrent use.
type Server struct {
	conn net.PacketConn

	mu      sync.Mutex
	answers map[string][][]netip.Addr // of each name, one after the other; the last stays
	aliases map[string]string
	asked   map[question]int
}

// question is one of the two of a look-up, which come in any order.
type question struct {
	name string
	kind dnsmessage.Type
}

// Start starts a server that ends with the test. It knows no name.
func Start(t testing.TB) *Server {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{conn: conn, answers: make(map[string][][]netip.Addr), aliases: make(map[string]string), asked: make(map[question]int)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return s
}

// Says lets name have the addresses of the first text, separated by blanks; once
// it has been asked for, those of the second, and so on.
func (s *Server) Says(name string, texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all [][]netip.Addr
	for _, text := range texts {
		var addrs []netip.Addr
		for a := range strings.FieldsSeq(text) {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		all = append(all, addrs)
	}
	s.answers[name+"."] = all
	delete(s.asked, question{name + ".", dnsmessage.TypeA})
	delete(s.asked, question{name + ".", dnsmessage.TypeAAAA})
}

// Alias lets name be another name (CNAME).
func (s *Server) Alias(name, of string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aliases[name+"."] = of + "."
}

// Asked is how often name was looked up.
func (s *Server) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[question{name + ".", dnsmessage.TypeA}]
}

// Resolver asks this server, and no file of the machine's but /etc/hosts.
func (s *Server) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

func (s *Server) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		s.answer(&m)
		if packed, err := m.Pack(); err == nil {
			_, _ = s.conn.WriteTo(packed, from)
		}
	}
}

func (s *Server) answer(m *dnsmessage.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	q := m.Questions[0]
	name := strings.ToLower(q.Name.String())
	header := func(kind dnsmessage.Type) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}
	}
	if of, ok := s.aliases[name]; ok {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: header(dnsmessage.TypeCNAME), Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(of)}})
		name = of
	}
	all, ok := s.answers[name]
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
		return
	}
	turn := s.asked[question{name, q.Type}]
	s.asked[question{name, q.Type}]++
	for _, a := range all[min(turn, len(all)-1)] {
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header(q.Type), Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header(q.Type), Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
}
