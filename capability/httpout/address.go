package httpout

import (
	"net/netip"
	"slices"
)

// addresses decides which addresses may be dialled. It is immutable.
type addresses struct {
	allow []netip.Prefix
}

func newAddresses(allow []netip.Prefix) *addresses {
	a := &addresses{}
	for _, p := range allow {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		a.allow = append(a.allow, p.Masked())
	}
	return a
}

func prefixes(all ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(all))
	for i, s := range all {
		list[i] = netip.MustParsePrefix(s)
	}
	return list
}

// What is not public, by the registries of special-purpose addresses of IANA
// (RFC 6890 and those that followed). For IPv6 only 2000::/3 is public at all,
// which leaves out loopback, unspecified, unique-local, link-local, site-local,
// multicast, discard-only and NAT64 (64:ff9b::/96, 64:ff9b:1::/48).
var (
	special4 = prefixes(
		"0.0.0.0/8",       // this network; 0.0.0.0 is this host
		"10.0.0.0/8",      // private
		"100.64.0.0/10",   // shared by carriers
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local, with the metadata services of clouds
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // relays of 6to4
		"192.168.0.0/16",  // private
		"198.18.0.0/15",   // benchmarks
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, and broadcast
		// Not of IANA: looks public, and is the agent of Azure on every machine there.
		"168.63.129.16/32",
	)
	public6  = netip.MustParsePrefix("2000::/3")
	special6 = prefixes(
		"2001::/23",     // protocol assignments, with Teredo, benchmarks and ORCHID
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4
		"3fff::/20",     // documentation
		"3ffe::/16",     // 6bone, given back
	)
)

// Forms of IPv6 that stand for an address of IPv4.
var (
	compatible = netip.MustParsePrefix("::/96")
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")
	teredo     = netip.MustParsePrefix("2001::/32")
	sixToFour  = netip.MustParsePrefix("2002::/16")
)

// permits reports whether a may be dialled. An address that carries one of IPv4
// to a translator or the end of a tunnel is forbidden like other special ones;
// where it is allowed, the address it carries must be permitted as well, or
// allowing NAT64 would open the private networks behind it.
func (s *addresses) permits(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	switch {
	case !a.IsValid():
		return false
	case a.Is4():
		return s.allowed(a) || !within(special4, a)
	case compatible.Contains(a) && !a.IsLoopback() && !a.IsUnspecified():
		return s.permits(inner(a, 12))
	case nat64Local.Contains(a):
		return slices.ContainsFunc(s.allow, func(p netip.Prefix) bool { return p.Contains(a) && s.permitsTranslated(a, p) })
	case !s.allowed(a) && (!public6.Contains(a) || within(special6, a)):
		return false
	case nat64.Contains(a), translated.Contains(a):
		return s.permits(inner(a, 12))
	case sixToFour.Contains(a):
		return s.permits(inner(a, 2))
	case teredo.Contains(a):
		return s.permits(inner(a, 4)) && s.permits(flipped(inner(a, 12)))
	case isatap(a):
		return s.permits(inner(a, 12))
	}
	return true
}

func (s *addresses) allowed(a netip.Addr) bool { return within(s.allow, a) }

// permitsTranslated judges an address of a NAT64 prefix that a network chose for
// itself by the address it carries, whose place depends on the length of the
// prefix (RFC 6052, 2.2). Where the length cannot be told, nothing is permitted.
func (s *addresses) permitsTranslated(a netip.Addr, allowed netip.Prefix) bool {
	switch bits := allowed.Bits(); {
	case bits == 48, bits == 56, bits == 64:
		return s.permits(inner(a, bits/8))
	case bits >= 96:
		return s.permits(inner(a, 12))
	}
	return false
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// inner returns the four bytes of a from index at as an address, without the
// ninth, which no form uses (RFC 6052).
func inner(a netip.Addr, at int) netip.Addr {
	b := a.As16()
	var v4 [4]byte
	for i := range v4 {
		if at == 8 {
			at++
		}
		v4[i] = b[at]
		at++
	}
	return netip.AddrFrom4(v4)
}

// flipped undoes how Teredo writes the client's address.
func flipped(a netip.Addr) netip.Addr {
	b := a.As4()
	for i := range b {
		b[i] ^= 0xff
	}
	return netip.AddrFrom4(b)
}

// isatap reports whether a's interface is named by an address of IPv4 (RFC 5214).
func isatap(a netip.Addr) bool {
	b := a.As16()
	return b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}
