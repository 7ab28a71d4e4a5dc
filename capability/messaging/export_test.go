package messaging

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
