// Package toxic is a network between two programs that fails on demand. For tests
// only.
package toxic

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// A Network leads from its Address to one server.
type Network struct {
	Address string // host:port

	t     testing.TB
	proxy *toxiproxy.Proxy
}

// Before is a network that leads to the server at address, host:port, until the test
// ends.
func Before(t testing.TB, address string) *Network {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &Network{t: t, proxy: toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", address)}
	n.Mend()
	n.Address = n.proxy.Listen
	t.Cleanup(n.Cut)
	return n
}

// A Toxic is what is wrong with a network.
type Toxic struct {
	Type       string         `json:"type"`
	Stream     string         `json:"stream"` // upstream: towards the server; downstream: towards the client
	Attributes map[string]int `json:"attributes"`
}

// Late delays what the server says by so many milliseconds.
func Late(ms int) Toxic { return Toxic{"latency", "downstream", map[string]int{"latency": ms}} }

// Narrow lets the server say so many kB in a second.
func Narrow(rate int) Toxic { return Toxic{"bandwidth", "downstream", map[string]int{"rate": rate}} }

// SlowClose tells the client only after so many milliseconds that the server has closed
// the connection.
func SlowClose(ms int) Toxic { return Toxic{"slow_close", "downstream", map[string]int{"delay": ms}} }

// Silent lets nothing of what the client says reach the server, and ends no connection,
// as a firewall does that has forgotten it.
func Silent() Toxic { return Toxic{"timeout", "upstream", map[string]int{"timeout": 0}} }

// Deaf lets nothing of what the server says reach the client, and ends the connection
// after so many milliseconds.
func Deaf(ms int) Toxic { return Toxic{"timeout", "downstream", map[string]int{"timeout": ms}} }

// Reset resets a connection as soon as the client says something.
func Reset() Toxic { return Toxic{"reset_peer", "upstream", map[string]int{"timeout": 0}} }

// Poison makes that wrong with the network, with its connections too, until Mend.
func (n *Network) Poison(toxic Toxic) {
	n.t.Helper()
	text, err := json.Marshal(toxic)
	if err == nil {
		_, err = n.proxy.Toxics.AddToxicJson(bytes.NewReader(text))
	}
	if err != nil {
		n.t.Errorf("poisoning the network with %+v: %v", toxic, err)
	}
}

// Cut ends all connections, and refuses new ones until Mend.
func (n *Network) Cut() { n.proxy.Stop() }

// Mend ends all connections, and is a network from then on in which nothing is wrong.
func (n *Network) Mend() {
	n.t.Helper()
	n.proxy.Stop()
	n.proxy.Toxics.ResetToxics(context.Background())
	if err := n.proxy.Start(); err != nil {
		n.t.Errorf("mending the network: %v", err)
	}
}
