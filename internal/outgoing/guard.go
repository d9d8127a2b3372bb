// Package outgoing decides which addresses may be called: whoever registers a
// region, and whatever a catalog or a name server answers, may name any.
package outgoing

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
)

// BlockedError is the refusal to call an address.
type BlockedError struct{ Addr netip.Addr }

func (e *BlockedError) Error() string { return fmt.Sprintf("the address %s is not allowed", e.Addr) }

// Guard is a net.Dialer's ControlContext: it refuses a connection to an address
// that is not public and in none of the allowed networks, with a *BlockedError.
// It runs after names are resolved, on the very address that is dialed, so no
// answer of a DNS server gets around it.
func Guard(allowed []netip.Prefix) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("dialing an address that cannot be checked: %w", err)
		}
		if addr := to.Addr().Unmap().WithZone(""); !mayCall(addr, allowed) {
			return &BlockedError{addr}
		}
		return nil
	}
}

func mayCall(addr netip.Addr, allowed []netip.Prefix) bool {
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

// global6 is all that IANA has given out as IPv6 unicast. Beyond it lie NAT64,
// IPv4-translated and IPv4-compatible addresses, which lead to any IPv4 one,
// and what nobody has yet.
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
