package engine

import "crypto/rand"

// random gives cryptographic randomness in pieces, so that a guest that asks
// for gigabytes can be interrupted.
type random struct{ x *execution }

const randomPiece = 64 << 10

// Read implements io.Reader. It may fill less than p.
func (r random) Read(p []byte) (int, error) {
	r.x.busy()
	return rand.Read(p[:min(len(p), randomPiece)])
}
