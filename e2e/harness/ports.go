package harness

import (
	"fmt"
	"net"
	"sync"
)

var (
	portsMu sync.Mutex
	given   = map[int]bool{}
)

// FreePorts returns n ports that are free on loopback for TCP and UDP, none of
// which this process has been given before. Another process may still take one
// before it is used; an agent then fails to start and says so.
func FreePorts(tb TB, n int) []int {
	tb.Helper()
	portsMu.Lock()
	defer portsMu.Unlock()
	ports := make([]int, 0, n)
	for tries := 0; len(ports) < n; tries++ {
		if tries > 100*n {
			tb.Fatalf("no free ports on loopback")
		}
		if p, err := freePort(); err == nil && !given[p] {
			given[p] = true
			ports = append(ports, p)
		}
	}
	return ports
}

// freePort asks for a port outside the range from which the kernel gives ports
// to outgoing connections where it can, so that no client takes it meanwhile.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0") //nolint:noctx // binding loopback does not block
	if err != nil {
		return 0, err
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	u, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port)) //nolint:noctx // as above
	if err != nil {
		return 0, err
	}
	return port, u.Close()
}
