package replica

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/module"
)

// Header announces a module that is pushed.
type Header struct {
	Request wasmatrix.Request
	Digest  wasmatrix.Digest // zero where the client did not say
	Size    int64            // bytes; 0 where the client did not say
	Name    string           // to point at the module; "" leaves names alone
}

// Push takes a module in, on the leader. When it returns nil a majority of the
// voters has the bytes on disk, synchronised, and the log names them; the other
// voters are still being sent them. Existed says that the state named the
// module before; then body is not read.
//
// Bytes that are not those of the header are E1, and so are those that are no
// module; see [module.Inspect] and [Config.Check] for more. Where no majority has
// stored them it fails with COMMUNICATION_FAILURE, or E5 if disks were all that
// failed, and nothing is proposed. Errors of the log are returned as they are.
func (r *Replicator) Push(ctx context.Context, h Header, body io.Reader) (m *wasmatrix.Module, existed bool, err error) {
	if err := r.checkHeader(h); err != nil {
		return nil, false, err
	}
	if !h.Digest.IsZero() {
		defer r.hold(h.Digest)()
		known, ok := r.cfg.State.Snapshot().Module(h.Digest)
		if ok && r.cfg.Store.Has(h.Digest) {
			m, err := r.record(ctx, h, known)
			return m, true, err
		}
	}
	m, err = r.take(ctx, h, body)
	if err != nil {
		return nil, false, err
	}
	if h.Digest.IsZero() {
		defer r.hold(m.Digest)()
	}
	// Known or not, this disk lacked it, and so may the others. Those that have it
	// verify theirs and take nothing.
	_, existed = r.cfg.State.Snapshot().Module(m.Digest)
	if err := r.spread(ctx, m); err != nil {
		return nil, false, err
	}
	m, err = r.record(ctx, h, m)
	return m, existed, err
}

func (r *Replicator) checkHeader(h Header) error {
	if h.Size < 0 {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a module cannot have %d bytes", h.Size).With(wasmatrix.DetailField, "size_bytes")
	}
	if h.Size > r.cfg.MaxModule {
		return errTooLarge(h.Size, r.cfg.MaxModule).With(wasmatrix.DetailField, "size_bytes")
	}
	if h.Name == "" {
		return nil
	}
	if err := wasmatrix.ValidateName("module name", h.Name); err != nil {
		return wasmatrix.AsError(err).With(wasmatrix.DetailField, "name")
	}
	return nil
}

// take inspects the bytes while it writes them to this server's disk.
func (r *Replicator) take(ctx context.Context, h Header, body io.Reader) (*wasmatrix.Module, error) {
	w, err := r.cfg.Store.Create(r.cfg.MaxModule)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	m, err := module.Inspect(io.TeeReader(&contextReader{ctx, body}, w), r.cfg.MaxModule)
	if err != nil {
		return nil, err
	}
	if r.cfg.Check != nil {
		if err := r.cfg.Check(m); err != nil {
			return nil, err
		}
	}
	digest, size := h.Digest, h.Size
	if digest.IsZero() {
		digest = m.Digest
	}
	if size == 0 {
		size = m.Size
	}
	// No fetch may have begun for a digest that was not known until now.
	defer r.hold(digest)()
	return m, w.Commit(digest, size)
}

// record has the log name the module.
func (r *Replicator) record(ctx context.Context, h Header, m *wasmatrix.Module) (*wasmatrix.Module, error) {
	// Longer than this and the copies that peers made could be garbage to them
	// before the log names the module.
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Grace/2)
	defer cancel()
	now := wasmatrix.TimeOf(time.Now())
	answer, err := r.cfg.Log.Propose(ctx, wasmatrix.AddModule{
		At: now, Request: h.Request, Name: h.Name,
		Module: &wasmatrix.Module{
			Digest: m.Digest, Size: m.Size, Kind: m.Kind, Imports: m.Imports, Exports: m.Exports,
			CreatedAt: now, UsedAt: now,
		},
	})
	if err != nil {
		return nil, err
	}
	recorded, ok := answer.(*wasmatrix.Module)
	if !ok {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "the state machine answered AddModule with %T", answer)
	}
	return recorded, nil
}

// spread copies a module from this disk to the other voters and returns when a
// majority has it. The rest of the copies goes on, unless it failed or ctx is
// done.
func (r *Replicator) spread(ctx context.Context, m *wasmatrix.Module) error { //nolint:contextcheck // copies outlive the push
	var others []Peer
	voters, have := 0, 0
	for _, p := range r.cfg.Cluster.Peers() {
		switch {
		case !p.Voter:
			continue // fetches it for itself
		case p.Self:
			have++
		default:
			others = append(others, p)
		}
		voters++
	}
	if voters == 0 {
		return wasmatrix.Errorf(wasmatrix.CodeNoLeader, "this server knows of no voters")
	}
	need := voters/2 + 1
	copying, cancel := context.WithCancel(r.life)
	attached := context.AfterFunc(ctx, cancel)
	results := make(chan copyResult, len(others))
	var left atomic.Int32
	left.Store(int32(len(others)))
	for _, p := range others {
		begun := r.begin(func() {
			err := r.copyTo(copying, p, m)
			if err != nil {
				r.log.Warn("cannot copy a module to a server", "module", m.Digest, "server", p.Name, "error", err)
			}
			results <- copyResult{p, err}
			if left.Add(-1) == 0 {
				cancel()
			}
		})
		if !begun {
			cancel()
			return wasmatrix.Errorf(wasmatrix.CodeCommunication, "this server is shutting down")
		}
	}
	var failed []copyResult
	for have < need {
		if voters-len(failed) < need {
			cancel()
			return noMajority(have, need, voters, failed)
		}
		select {
		case <-ctx.Done():
			return contextError(ctx)
		case res := <-results:
			if res.err == nil {
				have++
				continue
			}
			failed = append(failed, res)
		}
	}
	attached()
	if len(others) == 0 {
		cancel()
	}
	return nil
}

type copyResult struct {
	peer Peer
	err  error
}

func (r *Replicator) copyTo(ctx context.Context, p Peer, m *wasmatrix.Module) error {
	if p.Addr == "" {
		return errNoAddress(p)
	}
	f, err := r.cfg.Store.Open(m.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, watch := watchStall(ctx, r.cfg.Stall)
	defer watch.stop()
	err = r.cfg.Copier.Store(ctx, p.Addr, m.Digest, m.Size, watch.reader(f))
	return watch.explain(ctx, err)
}

// noMajority says that a push failed and on account of whom.
func noMajority(have, need, voters int, failed []copyResult) error {
	code := wasmatrix.CodeStorage
	why := make([]string, 0, len(failed))
	for _, f := range failed {
		if wasmatrix.CodeOf(f.err) != wasmatrix.CodeStorage {
			code = wasmatrix.CodeCommunication
		}
		why = append(why, fmt.Sprintf("%s: %v", f.peer.Name, f.err))
	}
	return wasmatrix.Errorf(code, "%d of %d servers stored the module and %d must: %s", have, voters, need, strings.Join(why, "; ")).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}
