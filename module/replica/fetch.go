package replica

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/module"
)

// Open returns a module's bytes and their number. Unless local, a module that
// this disk lacks is first copied to it from a peer. The caller closes the
// reader, whose last Read fails with E5 where the file turns out damaged. The
// error is MODULE_NOT_FOUND, COMMUNICATION_FAILURE or E5.
func (r *Replicator) Open(ctx context.Context, d wasmatrix.Digest, local bool) (io.ReadCloser, int64, error) {
	f, err := r.cfg.Store.Open(d)
	if !local && wasmatrix.CodeOf(err) == wasmatrix.CodeModuleNotFound {
		if err := r.fetch(ctx, d); err != nil {
			return nil, 0, err
		}
		f, err = r.cfg.Store.Open(d)
	}
	if err != nil {
		return nil, 0, err
	}
	return &openModule{f, r}, f.Size(), nil
}

// openModule has Run fetch the module anew when its file is found damaged.
type openModule struct {
	*module.File
	owner *Replicator
}

func (o *openModule) Read(p []byte) (int, error) {
	n, err := o.File.Read(p)
	if wasmatrix.CodeOf(err) == wasmatrix.CodeStorage {
		o.owner.poke()
	}
	return n, err
}

// fetch copies a module from any peer that has it, once at a time.
func (r *Replicator) fetch(ctx context.Context, d wasmatrix.Digest) error {
	return r.flights.Do(ctx, d, func() error {
		if r.cfg.Store.Has(d) {
			return nil
		}
		return r.fetchFromAny(ctx, d)
	})
}

func (r *Replicator) fetchFromAny(ctx context.Context, d wasmatrix.Digest) error {
	limit := r.cfg.MaxModule
	if m, ok := r.cfg.State.Snapshot().Module(d); ok {
		limit = m.Size // it was admitted under a limit that may have been another
	}
	peers := r.cfg.Cluster.Peers()
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	code := wasmatrix.CodeModuleNotFound
	var why []string
	for _, p := range peers {
		if p.Self {
			continue
		}
		own, err := r.fetchFrom(ctx, p, d, limit)
		if err == nil {
			r.log.Debug("fetched a module", "module", d, "server", p.Name)
			return nil
		}
		if own {
			return err
		}
		if ctx.Err() != nil {
			return contextError(ctx)
		}
		if wasmatrix.CodeOf(err) != wasmatrix.CodeModuleNotFound {
			code = wasmatrix.CodeCommunication
		}
		why = append(why, fmt.Sprintf("%s: %v", p.Name, err))
	}
	if code == wasmatrix.CodeModuleNotFound {
		return wasmatrix.Errorf(code, "no server has module %s", d)
	}
	return wasmatrix.Errorf(code, "cannot fetch module %s: %s", d, strings.Join(why, "; "))
}

// fetchFrom copies a module from one peer. Own says that the failure is this
// server's, so that no other peer will do better.
func (r *Replicator) fetchFrom(ctx context.Context, p Peer, d wasmatrix.Digest, limit int64) (own bool, err error) {
	if p.Addr == "" {
		return false, errNoAddress(p)
	}
	w, err := r.cfg.Store.Create(limit)
	if err != nil {
		return true, err
	}
	defer w.Close()
	ctx, watch := watchStall(ctx, r.cfg.Stall)
	defer watch.stop()
	err = watch.explain(ctx, r.cfg.Copier.Fetch(ctx, p.Addr, d, watch.writer(w)))
	if err == nil {
		err = module.AsTransfer(w.Commit(d, -1))
	}
	return wasmatrix.CodeOf(w.Err()) == wasmatrix.CodeStorage, err
}
