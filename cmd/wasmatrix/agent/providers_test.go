package agent

import (
	"context"
	"errors"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// made is a provider that a test's maker has made.
type made struct {
	capability.KV
	id     wasmatrix.ProviderID
	conf   wasmatrix.KVConfig
	closed chan struct{}
}

type maker struct {
	all    []*made
	broken error
}

func (m *maker) KV(id wasmatrix.ProviderID, c wasmatrix.KVConfig) (capability.KV, func(), error) {
	if m.broken != nil {
		return nil, nil, m.broken
	}
	one := &made{id: id, conf: c, closed: make(chan struct{})}
	m.all = append(m.all, one)
	return one, func() { close(one.closed) }, nil
}

func (*maker) HTTP(wasmatrix.ProviderID, wasmatrix.HTTPConfig) (capability.HTTP, func(), error) {
	return nil, func() {}, nil
}

func (*maker) Messaging(wasmatrix.ProviderID, wasmatrix.MessagingConfig) (capability.Messaging, func(), error) {
	return nil, func() {}, nil
}

// far is a node that hosts providers.
type far struct {
	capability.KV
	addr string
}

func (f far) HTTP() capability.HTTP           { return nil }
func (f far) Messaging() capability.Messaging { return nil }

type farNode struct{ far }

func (f farNode) KV() capability.KV { return f.far }

func newTestProviders(m *maker) *providers {
	return newProviders("n1", m, func(addr string) carrier { return farNode{far{addr: addr}} }, hclog.NewNullLogger())
}

func provider(id wasmatrix.ProviderID, change ...func(*wasmatrix.PlacedProvider)) wasmatrix.PlacedProvider {
	p := wasmatrix.PlacedProvider{
		Provider:   &wasmatrix.Provider{ID: id, Type: wasmatrix.ProviderKV, Revision: 1, CreateIndex: 5},
		Everywhere: true,
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

func on(nodes ...wasmatrix.NodeID) func(*wasmatrix.PlacedProvider) {
	return func(p *wasmatrix.PlacedProvider) {
		p.Everywhere = false
		for _, n := range nodes {
			p.Hosts = append(p.Hosts, wasmatrix.ProviderHost{Node: n, Addr: string(n) + ":1"})
		}
	}
}

func revision(n uint64, key, value string) func(*wasmatrix.PlacedProvider) {
	return func(p *wasmatrix.PlacedProvider) { p.Revision, p.Config = n, map[string]string{key: value} }
}

func scope(id wasmatrix.ProviderID) *capability.Scope { return &capability.Scope{Provider: id} }

func wantCode(t *testing.T, err error, code wasmatrix.Code) {
	t.Helper()
	if wasmatrix.CodeOf(err) != code {
		t.Fatalf("the error is %v, want %q", err, code)
	}
}

func TestProvidersRunWhereTheyArePlaced(t *testing.T) {
	m := &maker{}
	p := newTestProviders(m)
	defer p.Close()
	p.Update([]wasmatrix.PlacedProvider{
		provider("here"), provider("hosted", on("n2", "n1")), provider("away", on("n2")), provider("nowhere", on()),
		provider("stopped", func(p *wasmatrix.PlacedProvider) { p.Stopped = true }),
		provider("web", func(p *wasmatrix.PlacedProvider) { p.Type = wasmatrix.ProviderHTTP }),
	})
	for _, id := range []wasmatrix.ProviderID{"here", "hosted"} {
		for _, of := range []capability.Providers{p, hosted{p}} {
			kv, err := of.KV(t.Context(), scope(id))
			if one, ok := kv.(*made); err != nil || !ok || one.id != id {
				t.Fatalf("%s is %v, %v", id, kv, err)
			}
		}
	}
	if len(m.all) != 2 {
		t.Fatalf("%d providers were made", len(m.all))
	}
	kv, err := p.KV(t.Context(), scope("away"))
	if f, ok := kv.(far); err != nil || !ok || f.addr != "n2:1" {
		t.Fatalf("what another node hosts is %v, %v", kv, err)
	}
	// A node that is asked for it by mistake does not pass it on.
	_, err = hosted{p}.KV(t.Context(), scope("away"))
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
	_, err = p.KV(t.Context(), scope("nowhere"))
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
	_, err = p.KV(t.Context(), scope("stopped"))
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
	_, err = p.KV(t.Context(), scope("unknown"))
	wantCode(t, err, wasmatrix.CodeCapabilityNotFound)
	_, err = p.KV(t.Context(), scope("web"))
	wantCode(t, err, wasmatrix.CodePermissionDenied)
}

func TestAProviderIsMadeAnewWhenItChanges(t *testing.T) {
	m := &maker{}
	p := newTestProviders(m)
	get := func() *made {
		t.Helper()
		kv, err := p.KV(t.Context(), scope("a"))
		if err != nil {
			t.Fatal(err)
		}
		return kv.(*made)
	}
	p.Update([]wasmatrix.PlacedProvider{provider("a")})
	first := get()
	p.Update([]wasmatrix.PlacedProvider{provider("a"), provider("b")})
	if get() != first {
		t.Fatal("a provider that did not change was made anew")
	}
	p.Update([]wasmatrix.PlacedProvider{provider("a", revision(2, "max_keys", "7"))})
	<-first.closed
	second := get()
	if second == first || second.conf.MaxKeys != 7 {
		t.Fatalf("after the change it is %+v", second)
	}
	p.Update([]wasmatrix.PlacedProvider{provider("a", revision(2, "max_keys", "7"), on("n2"))})
	<-second.closed
	p.Update([]wasmatrix.PlacedProvider{provider("a", revision(2, "max_keys", "7"))})
	third := get()
	p.Close()
	<-third.closed
	_, err := p.KV(t.Context(), scope("a"))
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
}

func TestCallsWaitUntilProvidersAreKnown(t *testing.T) {
	p := newTestProviders(&maker{})
	defer p.Close()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.KV(gone, scope("a"))
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
	done := make(chan error)
	go func() {
		_, err := p.KV(t.Context(), scope("a"))
		done <- err
	}()
	p.Update([]wasmatrix.PlacedProvider{provider("a")})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAProviderThatDoesNotStart(t *testing.T) {
	m := &maker{broken: errors.New("no such host")}
	p := newTestProviders(m)
	defer p.Close()
	p.Update([]wasmatrix.PlacedProvider{provider("a")})
	_, err := p.KV(t.Context(), scope("a"))
	wantCode(t, err, wasmatrix.CodeProviderUnavailable)
	m.broken = nil
	if _, err := p.KV(t.Context(), scope("a")); err != nil {
		t.Fatal(err)
	}
}
