package agent

import (
	"fmt"
	"strings"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
)

// maxNamed bounds the imports that an error names, in bytes.
const maxNamed = 4 << 10

// checkImports refuses with E7 a module that no node could link, and names all
// that nobody provides.
func checkImports(m *wasmatrix.Module) error {
	named, missing, length := []string(nil), 0, 0
	for _, imp := range m.Imports {
		if from, _, _ := strings.Cut(imp, "."); abi.Provides(from) {
			continue
		}
		missing++
		if length += len(imp); length <= maxNamed {
			named = append(named, imp)
		}
	}
	if missing == 0 {
		return nil
	}
	list := strings.Join(named, ", ")
	if more := missing - len(named); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "the module imports what no host provides: %s; %s and %s are provided", list, abi.WASI, abi.Module).
		With(wasmatrix.DetailField, "module").With("imports", strings.Join(named, " "))
}
