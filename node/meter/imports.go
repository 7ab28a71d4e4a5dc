package meter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wasmatrix/wasmatrix"
)

// maxRefused is how many imports an error lists.
const maxRefused = 32

// checkImports refuses what may not be imported, all in one error.
func (m *module) checkImports(allow func(module, name string) bool) error {
	var refused []string
	for _, i := range m.imports {
		ok := allow == nil
		if i.kind == kindFunction {
			ok = i.module != HostModule && (allow == nil || allow(i.module, i.name))
		}
		if !ok {
			kinds := [...]string{kindTable: " (table)", kindMemory: " (memory)", kindGlobal: " (global)"}
			refused = append(refused, i.module+"."+i.name+kinds[i.kind])
		}
	}
	if len(refused) == 0 {
		return nil
	}
	more := ""
	if n := len(refused) - maxRefused; n > 0 {
		refused, more = refused[:maxRefused], fmt.Sprintf(" and %d more", n)
	}
	return wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "module imports what the host does not have: %s%s",
		strings.Join(refused, ", "), more)
}

// importNames lists the functions that are imported, sorted, each once.
func (m *module) importNames() []string {
	var names []string
	for _, i := range m.imports {
		if i.kind == kindFunction {
			names = append(names, i.module+"."+i.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
