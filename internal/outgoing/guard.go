// Package outgoing is the one way this service calls others. Whoever registers a
// region, and whatever a catalog, a discovery document, a redirect or a name
// server answers, may name any address: Guard decides which may be called, and
// every connection is a Transport's, which has it.
package outgoing

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// BlockedError is the refusal to call an address.
type BlockedError struct{ Addr netip.Addr }

func (e *BlockedError) Error() string { return fmt.Sprintf("the address %s is not allowed", e.Addr) }

// Refusal is why err, of a call, says that nobody was called, with what to do, as
// the end of a sentence about who was meant; "" where it does not say that.
func Refusal(err error) string {
	if errors.Is(err, ErrPlainHTTP) {
		return "has a URL of plain http, and is not called; use an https URL, or an operator of this service can allow http with outgoing.allow_http"
	}
	switch blocked, ok := errors.AsType[*BlockedError](err); {
	case !ok:
		return ""
	case metadata[blocked.Addr]:
		return "has an address where clouds hand out credentials, and is never called"
	}
	return "has a loopback, link-local, private or other address that is not public, and is not called; " +
		"an operator of this service can allow its network with outgoing.allow_networks"
}

// Guard is a net.Dialer's ControlContext: it refuses a connection to an address
// that is not public and in none of the allowed networks, with a *BlockedError.
// It runs after names are resolved, on the very address that is dialed, so no
// answer of a DNS server gets around it, nor another way to write an address.
func Guard(allowed []netip.Prefix) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("dialing an address that cannot be checked: %w", err)
		}
		if addr := called(to.Addr()); !mayCall(addr, allowed) {
			return &BlockedError{addr}
		}
		return nil
	}
}

// nat64 leads to the IPv4 address in its last 32 bits (RFC 6052), wherever a
// network without IPv4 makes up such addresses (DNS64).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// called is who answers at addr.
func called(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if nat64.Contains(addr) {
		b := addr.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return addr
}

func mayCall(addr netip.Addr, allowed []netip.Prefix) bool {
	if metadata[addr] {
		return false
	}
	for _, network := range allowed {
		if network.Contains(addr) {
			return true
		}
		// An allowed network may be written as IPv4 mapped to IPv6.
		if network.Addr().Is4In6() && network.Bits() >= 96 &&
			netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96).Contains(addr) {
			return true
		}
	}
	if addr.IsLoopback() || addr.IsPrivate() || addr.IsUnspecified() || addr.IsMulticast() ||
		addr.IsLinkLocalUnicast() || !addr.IsGlobalUnicast() {
		return false
	}
	if addr.Is6() && !global6.Contains(addr) {
		return false
	}
	for _, network := range special {
		if network.Contains(addr) {
			return false
		}
	}
	return true
}

// metadata is where clouds give a machine its own credentials, unasked. No
// allowed network opens these: fd00::/8 is written for a private network.
var metadata = func() map[netip.Addr]bool {
	known := make(map[netip.Addr]bool)
	for _, a := range []string{
		"169.254.169.254", "fe80::a9fe:a9fe", // most clouds, OpenStack's among them
		"fd00:ec2::254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23", // AWS: machines, ECS, EKS
		"fd20:ce::254",                 // Google
		"168.63.129.16",                // Azure; a public address everywhere else
		"100.100.100.200",              // Alibaba
		"192.0.0.192",                  // Oracle
		"169.254.0.23",                 // Tencent
		"169.254.42.42", "fd00:42::42", // Scaleway
	} {
		known[netip.MustParseAddr(a)] = true
	}
	return known
}()

// global6 is all that IANA has given out as IPv6 unicast. Beyond it lie
// IPv4-translated and IPv4-compatible addresses and NAT64 of one's own
// (64:ff9b:1::/48), which lead to any IPv4 one, and what nobody has yet.
var global6 = netip.MustParsePrefix("2000::/3")

// special is what the IANA registries of special-purpose addresses keep from
// the public Internet, beyond what netip tells. 6to4 and
// Teredo carry an IPv4 address and lead to any.
var special = func() []netip.Prefix {
	var ps []netip.Prefix
	for _, p := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		ps = append(ps, netip.MustParsePrefix(p))
	}
	return ps
}()
