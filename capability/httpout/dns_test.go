package httpout

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer is a DNS server on loopback, with answers that change from one
// question to the next.
type nameServer struct {
	conn net.PacketConn

	mu    sync.Mutex
	names map[string][][]netip.Addr // answers in turn, the last one for good
	asked map[question]int          // how often
}

type question struct {
	name string
	typ  dnsmessage.Type // each type has its own turns
}

// serveDNS starts a server and returns it with a resolver that asks it alone.
func serveDNS(t *testing.T) (*nameServer, *net.Resolver) {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn, names: make(map[string][][]netip.Addr), asked: make(map[question]int)}
	var wg sync.WaitGroup
	wg.Go(s.run)
	t.Cleanup(func() {
		_ = conn.Close()
		wg.Wait()
	})
	return s, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// answer gives a name addresses, "a b" by commas for one answer each.
func (s *nameServer) answer(name, answers string) {
	var all [][]netip.Addr
	for one := range strings.SplitSeq(answers, ",") {
		var addrs []netip.Addr
		for a := range strings.FieldsSeq(one) {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		all = append(all, addrs)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name+"."] = all
}

func (s *nameServer) times(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[question{name + ".", dnsmessage.TypeA}]
}

func (s *nameServer) run() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply := s.reply(buf[:n]); reply != nil {
			_, _ = s.conn.WriteTo(reply, from)
		}
	}
}

func (s *nameServer) reply(packet []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(packet) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.Authoritative, m.RecursionAvailable, m.Additionals = true, true, true, nil
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.ToLower(q.Name.String())
	all, known := s.names[name]
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	} else {
		turn := s.asked[question{name, q.Type}]
		s.asked[question{name, q.Type}]++
		for _, a := range all[min(turn, len(all)-1)] {
			h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET}
			switch {
			case q.Type == dnsmessage.TypeA && a.Is4():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
			case q.Type == dnsmessage.TypeAAAA && a.Is6():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}
