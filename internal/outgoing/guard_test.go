package outgoing_test

import (
	"net/netip"
	"testing"

	"github.com/flavorsync/flavorsync/internal/outgoing"
)

// What an owner registers must not lead into the operator's own network.
func TestGuard(t *testing.T) {
	allowed := []netip.Prefix{
		netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32"), netip.MustParsePrefix("::ffff:192.168.7.0/120"),
		netip.MustParsePrefix("169.254.169.0/24"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fd00:ec2::/32"), netip.MustParsePrefix("64:ff9b::/96"),
	}
	for address, want := range map[string][2]bool{ // may be called: by default, with these networks allowed
		"127.0.0.1:80": {}, "127.9.9.9:80": {}, "[::1]:80": {}, "[::ffff:127.0.0.1]:80": {},
		"169.254.169.254:80": {}, "169.254.1.1:80": {}, "[fe80::1]:80": {}, "[fe80::1%1]:80": {}, "[::ffff:169.254.169.254]:80": {},
		"10.0.0.1:80": {}, "172.16.0.1:80": {}, "172.31.255.255:80": {}, "192.168.0.1:80": {},
		"[fc00::1]:80": {}, "[fd12::1]:80": {}, "[fec0::1]:80": {},
		"0.0.0.0:80": {}, "0.1.2.3:80": {}, "[::]:80": {}, "[::ffff:0.0.0.0]:80": {}, "[::127.0.0.1]:80": {},
		"100.64.0.1:80": {false, true}, "192.0.0.1:80": {}, "198.18.0.1:80": {}, "224.0.0.1:80": {}, "240.0.0.1:80": {}, "255.255.255.255:80": {},
		"[ff02::1]:80": {}, "[2002:7f00:1::]:80": {}, "[2001::1]:80": {},
		// NAT64 is who is behind it; what only one network knows may lead anywhere.
		"[64:ff9b::7f00:1]:80": {}, "[64:ff9b::a9fe:a9fe]:80": {}, "[64:ff9b::a02:1]:80": {}, "[64:ff9b::a01:203]:80": {false, true},
		"[64:ff9b::808:808]:80": {true, true}, "[64:ff9b:1::808:808]:80": {},
		// Where clouds hand out credentials, even inside networks that are allowed.
		"169.254.0.23:80": {}, "169.254.169.253:80": {false, true}, "[fd00:ec2::254]:80": {}, "[fd00:ec2::1]:80": {false, true},
		"[fd20:ce::254]:80": {}, "100.100.100.200:80": {}, "100.100.100.201:80": {false, true}, "192.0.0.192:80": {},
		"168.63.129.16:80": {}, "168.63.129.17:80": {true, true}, "[fe80::a9fe:a9fe%1]:80": {}, "[64:ff9b::a83f:8110]:80": {},
		"10.1.2.3:80": {false, true}, "[::ffff:10.1.2.3]:80": {false, true}, "10.2.0.1:80": {},
		"[fd00:1::5]:80": {false, true}, "192.168.7.9:80": {false, true}, "192.168.8.9:80": {},
		"93.184.215.14:80": {true, true}, "172.32.0.1:80": {true, true}, "[2606:2800:21f::1]:80": {true, true}, "[::ffff:8.8.8.8]:80": {true, true},
		"nonsense": {},
	} {
		for i, networks := range [][]netip.Prefix{nil, allowed} {
			if err := outgoing.Guard(networks)(t.Context(), "tcp", address, nil); (err == nil) != want[i] {
				t.Errorf("%s with %v: %v", address, networks, err)
			}
		}
	}
}
