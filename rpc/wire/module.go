package wire

import (
	"slices"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// ModuleTo converts a module with what the snapshot knows of it.
func ModuleTo(m *wasmatrix.Module, names []string, users int) *api.Module {
	return &api.Module{
		Digest:    m.Digest.String(),
		Names:     slices.Clone(names),
		SizeBytes: m.Size,
		Kind:      m.Kind.String(),
		Imports:   slices.Clone(m.Imports),
		Exports:   slices.Clone(m.Exports),
		CreatedAt: timeTo(m.CreatedAt),
		UsedAt:    timeTo(m.UsedAt),
		Users:     uint32(users),
	}
}

// ModuleFrom converts back.
func ModuleFrom(m *api.Module) (*wasmatrix.Module, error) {
	digest, err := wasmatrix.ParseDigest(m.GetDigest())
	if err != nil {
		return nil, err
	}
	out := &wasmatrix.Module{
		Digest:    digest,
		Size:      m.GetSizeBytes(),
		Imports:   slices.Clone(m.GetImports()),
		Exports:   slices.Clone(m.GetExports()),
		CreatedAt: timeFrom(m.GetCreatedAt()),
		UsedAt:    timeFrom(m.GetUsedAt()),
	}
	switch m.GetKind() {
	case wasmatrix.ModuleCommand.String():
		out.Kind = wasmatrix.ModuleCommand
	case wasmatrix.ModuleReactor.String():
		out.Kind = wasmatrix.ModuleReactor
	}
	return out, nil
}
