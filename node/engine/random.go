package engine

import (
	"context"
	"crypto/rand"
)

// random gives cryptographic randomness in pieces, so that a guest that asks
// for gigabytes can be interrupted.
type random struct{ ctx context.Context }

const randomPiece = 64 << 10

// Read implements io.Reader. It may fill less than p.
func (r random) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return rand.Read(p[:min(len(p), randomPiece)])
}
