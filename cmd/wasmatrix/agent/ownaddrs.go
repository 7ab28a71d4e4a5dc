package agent

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/wasmatrix/wasmatrix/cluster/gossip"
)

// ownAddrs knows where the agents of the cluster listen. Guests are kept from there
// also by a provider that may reach the network that the agents are in.
type ownAddrs struct {
	members func() []gossip.Member
	machine func() ([]net.Addr, error) // of this machine
}

// has reports whether an agent listens at an address, or did within a day. Of agents on
// this machine that is any address of the machine with one of their ports: what they
// bind may be all of them.
func (o ownAddrs) has(a netip.AddrPort) bool {
	ip := a.Addr().Unmap().WithZone("")
	for _, m := range o.members() {
		ports, ips := listening(m)
		if slices.Contains(ports, a.Port()) && (slices.Contains(ips, ip) || o.here(ip) && slices.ContainsFunc(ips, o.here)) {
			return true
		}
	}
	return false
}

// listening is where a member can be reached.
func listening(m gossip.Member) (ports []uint16, ips []netip.Addr) {
	for _, addr := range []string{m.Addr, m.APIAddr, m.RaftAddr, m.AgentAddr, m.MessagingAddr(), m.RouteAddr()} {
		host, service, err := net.SplitHostPort(addr)
		if err != nil {
			continue // it has none
		}
		if port, err := strconv.ParseUint(service, 10, 16); err == nil {
			ports = append(ports, uint16(port))
		}
		// Where an agent advertises a name, gossip has the address for it.
		if ip, err := netip.ParseAddr(host); err == nil {
			ips = append(ips, ip.Unmap().WithZone(""))
		}
	}
	return ports, ips
}

// here reports whether an address is one of this machine.
func (o ownAddrs) here(ip netip.Addr) bool {
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	all, err := o.machine()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap().WithZone("") == ip
	})
}
