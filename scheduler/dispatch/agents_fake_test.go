package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// agents is the servers' way to the nodes.
type agents struct{ w *world }

func (a agents) find(node *wasmatrix.Node) (*process, error) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if p := a.w.processes[node.Addr]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("dial %s: %w", node.Addr, syscall.ECONNREFUSED)
}

func (a agents) Execute(ctx context.Context, node *wasmatrix.Node, term, index uint64, orders []wasmatrix.Order) error {
	p, err := a.find(node)
	if err != nil {
		return err
	}
	if err := p.reach(ctx); err != nil {
		return err
	}
	if !pause(ctx, time.Millisecond) {
		return ctx.Err()
	}
	if p.delayed(ctx, func() { _ = p.execute(node, term, index, orders) }) { // what comes of it, nobody hears
		return ctx.Err()
	}
	err = p.execute(node, term, index, orders)
	for _, o := range orders { // takes the locks of other processes
		a.w.checkExclusive(p, o)
	}
	return err
}

func (p *process) execute(node *wasmatrix.Node, term, index uint64, orders []wasmatrix.Order) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.executes++
	switch {
	case p.boot != node.Boot:
		return errors.New("another boot")
	case term < p.term:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "term %d is over, this is %d", term, p.term)
	case index < p.floor:
		p.refused++
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "orders of index %d, after grants of index %d", index, p.floor)
	case p.failing != nil:
		return p.failing
	case p.ignore > 0:
		p.ignore--
		return nil
	}
	p.term = term
	p.orders += len(orders)
	for _, o := range orders {
		p.obey(o)
	}
	if p.deaf > 0 {
		p.deaf--
		return errors.New("the answer was lost")
	}
	return nil
}

func (a agents) Ping(ctx context.Context, node *wasmatrix.Node) (wasmatrix.BootID, error) {
	a.w.mu.Lock()
	reset := a.w.resets > 0
	if reset {
		a.w.resets--
	}
	a.w.mu.Unlock()
	if reset {
		return "", errDead
	}
	p, err := a.find(node)
	if err != nil {
		return "", err
	}
	if err := p.reach(ctx); err != nil {
		return "", err
	}
	return p.boot, nil
}

func (a agents) Attach(ctx context.Context, node *wasmatrix.Node, _ uint64) error {
	p, err := a.find(node)
	if err != nil {
		return err
	}
	select {
	case <-p.dead:
		return errDead
	case <-ctx.Done():
		return ctx.Err()
	}
}
