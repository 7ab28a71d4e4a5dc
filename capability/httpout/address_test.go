package httpout

import (
	"net/netip"
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	// Each is judged without and with addresses that are allowed.
	for _, c := range []struct {
		allow     string
		permitted string
		forbidden string
	}{
		{
			allow:     "",
			permitted: "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 2606:4700::1111 2001:4860:4860::8888 2a00:1450::1 ::ffff:8.8.8.8 ::8.8.8.8",
			forbidden: "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254 169.254.0.1 169.254.169.254 172.16.0.0 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16 " +
				":: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0.0.0.0 ::127.0.0.1 ::10.1.2.3 ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8 " +
				"fe80::1 febf::1 fe80::1%eth0 fec0::1 fc00::1 fd00:ec2::254 fdff::1 ff02::1 ff0e::1 100::1 100:0:0:1::1 " +
				"64:ff9b::127.0.0.1 64:ff9b::8.8.8.8 64:ff9b::a9fe:a9fe 64:ff9b:1::1 64:ff9b:1:a00:1:: 2001:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:808:808::1 2002:a9fe:a9fe:: 3fff::1 3ffe::1 4000::1 5f00::1 e000::1 " +
				"2606:4700::5efe:127.0.0.1 2606:4700::200:5efe:10.0.0.1",
		},
		{
			allow:     "127.0.0.0/8,::1",
			permitted: "127.0.0.1 127.1.2.3 ::1 ::ffff:127.0.0.1 ::127.0.0.1 8.8.8.8",
			forbidden: "10.0.0.1 :: 0.0.0.0 ::2 ::ffff:10.0.0.1 ::10.0.0.1 64:ff9b::127.0.0.1 2002:7f00:1:: ::ffff:0:127.0.0.1",
		},
		{
			allow:     "10.1.0.0/16,fd00:1::/32,::ffff:192.168.1.0/120,fe80::/64",
			permitted: "10.1.255.255 ::ffff:10.1.0.1 fd00:1::5 192.168.1.255 fe80::1%eth0",
			forbidden: "10.2.0.0 fd00:2::1 192.168.2.0 127.0.0.1 fe80:0:0:1::1",
		},
		{
			// What is carried is judged as well.
			allow:     "64:ff9b::/96,2002::/16,2001::/32,::ffff:0:0:0/96,10.1.0.0/16",
			permitted: "64:ff9b::8.8.8.8 64:ff9b::10.1.2.3 2002:808:808::1 2002:a01:1:: ::ffff:0:8.8.8.8 2001:0:808:808:0:0:f7f7:f7f7",
			forbidden: "64:ff9b::10.2.0.1 64:ff9b::127.0.0.1 64:ff9b::169.254.169.254 2002:7f00:1:: 2002:a9fe:a9fe:: 2002:c0a8:1:: ::ffff:0:127.0.0.1 2001:0:808:808:0:0:80ff:fffe 2001:0:7f00:1:0:0:f7f7:f7f7 64:ff9b:1::8.8.8.8 127.0.0.1",
		},
		{
			allow:     "::/0",
			permitted: "::1 fd00::1 2001:db8::1 fe80::1 64:ff9b::8.8.8.8",
			forbidden: "127.0.0.1 ::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::127.0.0.1 64:ff9b:1::8.8.8.8 2002:7f00:1::",
		},
		{
			// RFC 6052, table 1, within the prefix for local use.
			allow:     "64:ff9b:1::/48",
			permitted: "64:ff9b:1:808:8:800::",
			forbidden: "64:ff9b:1:7f00:0:100:: 64:ff9b:1:a00:0:100:: 64:ff9b:2:808:8:800::",
		},
		{
			allow:     "64:ff9b:1:2::/64",
			permitted: "64:ff9b:1:2:8:808:800:0",
			forbidden: "64:ff9b:1:2:7f:0:100:0 64:ff9b:1:3:8:808:800:0",
		},
		{
			allow:     "64:ff9b:1:2:3:4::/96",
			permitted: "64:ff9b:1:2:3:4:8.8.8.8",
			forbidden: "64:ff9b:1:2:3:4:127.0.0.1 64:ff9b:1:2:3:5:8.8.8.8",
		},
		{allow: "64:ff9b::/32", permitted: "8.8.8.8", forbidden: "64:ff9b:1::8.8.8.8 64:ff9b:1:808:8:800::"},
	} {
		keys := map[string]string{"allow_addresses": c.allow}
		a := newAddresses(configured(t, keys).AllowAddresses)
		for list, want := range map[string]bool{c.permitted: true, c.forbidden: false} {
			for s := range strings.FieldsSeq(list) {
				if a.permits(netip.MustParseAddr(s)) != want {
					t.Errorf("with %q allowed, permits(%s) is %t", c.allow, s, !want)
				}
			}
		}
	}
	if newAddresses(nil).permits(netip.Addr{}) {
		t.Error("no address is permitted")
	}
}

// FuzzAddress holds what is permitted to what the standard library says of
// addresses, by other means than tables.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"127.0.0.1", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "8.8.8.8", "2606:4700::1"} {
		a := netip.MustParseAddr(s).As16()
		f.Add(a[:])
	}
	permits := newAddresses(nil).permits
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok || !permits(a) {
			return
		}
		u := a.Unmap()
		if u.Is6() && compatible.Contains(u) {
			u = inner(u, 12)
		}
		if !u.IsGlobalUnicast() || u.IsPrivate() || u.IsLoopback() || u.IsLinkLocalUnicast() || u.IsMulticast() || u.IsUnspecified() {
			t.Errorf("%s is permitted", a)
		}
	})
}
