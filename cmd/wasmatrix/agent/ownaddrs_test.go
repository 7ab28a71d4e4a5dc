package agent

import (
	"net"
	"net/netip"
	"testing"

	"github.com/wasmatrix/wasmatrix/cluster/gossip"
)

func TestOwnAddrs(t *testing.T) {
	_, here, err := net.ParseCIDR("10.0.0.1/24")
	if err != nil {
		t.Fatal(err)
	}
	here.IP = net.ParseIP("10.0.0.1")
	o := ownAddrs{
		members: func() []gossip.Member {
			return []gossip.Member{
				{Addr: "10.0.0.1:7484", Tags: gossip.Tags{Role: gossip.RoleNode, AgentAddr: "10.0.0.1:7483"}},
				{Addr: "10.0.0.2:7482", Tags: gossip.Tags{
					Role: gossip.RoleServer, APIAddr: "b.example:7480", RaftAddr: "b.example:7481", MessagingPort: 7485, RoutePort: 7486,
				}},
				{Addr: "[2001:db8::3]:7482", Tags: gossip.Tags{Role: gossip.RoleServer, APIAddr: "[2001:db8::3]:7480"}},
			}
		},
		machine: func() ([]net.Addr, error) { return []net.Addr{here}, nil },
	}
	for addr, want := range map[string]bool{
		"10.0.0.1:7483": true, "10.0.0.1:7484": true, "127.0.0.1:7483": true, "[::1]:7483": true, "0.0.0.0:7484": true, "[::ffff:10.0.0.1]:7483": true,
		"10.0.0.2:7480": true, "10.0.0.2:7481": true, "10.0.0.2:7482": true, "10.0.0.2:7485": true, "10.0.0.2:7486": true,
		"[2001:db8::3]:7480": true, "[2001:db8::3]:7482": true,
		// Other services on those machines, and the same ports elsewhere.
		"10.0.0.1:80": false, "127.0.0.1:80": false, "10.0.0.2:80": false, "10.0.0.2:7483": false, "127.0.0.1:7480": false, "10.0.0.1:7480": false,
		"10.0.0.9:7480": false, "[2001:db8::4]:7480": false, "[2001:db8::3]:7483": false,
	} {
		if got := o.has(netip.MustParseAddrPort(addr)); got != want {
			t.Errorf("%s is the cluster's: %t", addr, got)
		}
	}
}
