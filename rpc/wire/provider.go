package wire

import (
	"maps"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// ProviderTo converts a provider with the secrets of its configuration: it is
// for processes of the cluster. Users are shown [PublicProviderTo].
func ProviderTo(p *wasmatrix.Provider) *api.Provider {
	return &api.Provider{
		ProviderId: string(p.ID), Type: string(p.Type), Config: maps.Clone(p.Config), Constraints: constraintsTo(p.Constraints),
		Stopped: p.Stopped, Revision: p.Revision, ChangedAt: timeTo(p.ChangedAt), CreateIndex: p.CreateIndex,
	}
}

// PublicProviderTo converts a provider for people.
func PublicProviderTo(p *wasmatrix.Provider) *api.Provider {
	m := ProviderTo(p)
	m.Config = wasmatrix.PublicProviderConfig(p.Config)
	return m
}

// ProviderFrom converts back, without the index of the last change. It fails with E6 for
// constraints that cannot be read; a node must not refuse all providers because
// one has a key of a later release.
func ProviderFrom(m *api.Provider) (*wasmatrix.Provider, error) {
	p := &wasmatrix.Provider{
		ID: wasmatrix.ProviderID(m.GetProviderId()), Type: wasmatrix.ProviderType(m.GetType()), Config: maps.Clone(m.GetConfig()),
		Stopped: m.GetStopped(), Revision: m.GetRevision(), ChangedAt: timeFrom(m.GetChangedAt()), CreateIndex: m.GetCreateIndex(),
	}
	var err error
	if p.Constraints, err = ConstraintsFrom(m.GetConstraints(), "constraints"); err != nil {
		return nil, err
	}
	return p, nil
}

// PlacedProvidersTo converts providers with where they are.
func PlacedProvidersTo(placed []wasmatrix.PlacedProvider) []*api.PlacedProvider {
	out := make([]*api.PlacedProvider, len(placed))
	for i, p := range placed {
		m := &api.PlacedProvider{Provider: ProviderTo(p.Provider), Everywhere: p.Everywhere}
		for _, h := range p.Hosts {
			m.Hosts = append(m.Hosts, &api.ProviderHost{NodeId: string(h.Node), Address: h.Addr})
		}
		out[i] = m
	}
	return out
}

// PlacedProvidersFrom converts back.
func PlacedProvidersFrom(ms []*api.PlacedProvider) ([]wasmatrix.PlacedProvider, error) {
	out := make([]wasmatrix.PlacedProvider, len(ms))
	for i, m := range ms {
		p, err := ProviderFrom(m.GetProvider())
		if err != nil {
			return nil, err
		}
		out[i] = wasmatrix.PlacedProvider{Provider: p, Everywhere: m.GetEverywhere()}
		for _, h := range m.GetHosts() {
			out[i].Hosts = append(out[i].Hosts, wasmatrix.ProviderHost{Node: wasmatrix.NodeID(h.GetNodeId()), Addr: h.GetAddress()})
		}
	}
	return out, nil
}
