package messaging

import "github.com/nats-io/nats.go"

// Held returns how many subscriptions a client keeps, at its session too.
func Held(c *Client) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	if s := c.session.Load(); s != nil {
		s.routes.Range(func(any, any) bool { n++; return true })
	}
	return max(n, len(c.subs))
}

// Connected returns the server that a client is connected with, or "".
func Connected(c *Client) string {
	if s := c.session.Load(); s != nil && !s.ended() {
		return s.addr
	}
	return ""
}

// Overflowed returns how many messages NATS has dropped that the queues of
// subscriptions have not seen.
func Overflowed(c *Client) (n int) {
	c.session.Load().routes.Range(func(ns, _ any) bool {
		d, err := ns.(*nats.Subscription).Dropped()
		if err != nil {
			panic(err)
		}
		n += d
		return true
	})
	return n
}
