package wire

import (
	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// FencesTo converts fences.
func FencesTo(fences []wasmatrix.Fence) []*api.Fence {
	m := make([]*api.Fence, len(fences))
	for i, f := range fences {
		m[i] = &api.Fence{InstanceId: string(f.Instance), Incarnation: f.Incarnation, Epoch: f.Epoch}
	}
	return m
}

// FencesFrom converts back.
func FencesFrom(m []*api.Fence) []wasmatrix.Fence {
	fences := make([]wasmatrix.Fence, len(m))
	for i, f := range m {
		fences[i] = wasmatrix.Fence{Instance: wasmatrix.InstanceID(f.GetInstanceId()), Incarnation: f.GetIncarnation(), Epoch: f.GetEpoch()}
	}
	return fences
}
