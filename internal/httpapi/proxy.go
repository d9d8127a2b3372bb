package httpapi

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the networks whose word about who called them is taken: that of
// the nearest peer, which is the connection's own address, and of each hop that
// is in one of them, from the nearest on.
//
// X-Forwarded-For and X-Forwarded-Proto are read, and nothing else. A proxy that
// writes these passes the Forwarded of RFC 7239, X-Real-IP and the like on as the
// caller sent them, so whoever reads several of them reads what a caller made up.
type proxies []netip.Prefix

func (p proxies) trust(a netip.Addr) bool {
	for _, network := range p {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

// client is the address that r comes from, without a port: that of the nearest
// hop that is no proxy of ours. Where a proxy wrote something that is no address,
// it is the proxy's own.
func (p proxies) client(r *http.Request) string {
	peer, ok := parseHop(r.RemoteAddr)
	if !ok {
		return r.RemoteAddr
	}
	if !p.trust(peer) {
		return peer.String()
	}
	for _, rest := range slices.Backward(r.Header["X-Forwarded-For"]) {
		more := true
		for more {
			hop := rest
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, hop = rest[:comma], rest[comma+1:]
			} else {
				more = false
			}
			before, ok := parseHop(strings.TrimSpace(hop))
			if !ok {
				return peer.String()
			}
			if peer = before; !p.trust(peer) {
				return peer.String()
			}
		}
	}
	return peer.String()
}

// https says whether r came in over TLS: to us, or to the proxy before us.
func (p proxies) https(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	said := r.Header["X-Forwarded-Proto"]
	if len(p) == 0 || len(said) == 0 {
		return false
	}
	if peer, ok := parseHop(r.RemoteAddr); !ok || !p.trust(peer) {
		return false
	}
	// Of several the last is the nearest proxy's.
	last := said[len(said)-1]
	return strings.EqualFold(strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]), "https")
}

// parseHop reads an address as the connection and as proxies write it: with a
// port or without, IPv6 in brackets or not.
func parseHop(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		if withPort, err := netip.ParseAddrPort(text); err == nil {
			a = withPort.Addr()
		} else if a, err = netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err != nil || !a.Is6() {
			return netip.Addr{}, false
		}
	}
	return a.Unmap().WithZone(""), true
}
