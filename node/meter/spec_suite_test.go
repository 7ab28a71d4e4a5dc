package meter_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// specSuite is a directory of the specification's tests, as they come with the engine.
type specSuite struct {
	name string
	// features are those of the version that the tests are for. With later ones,
	// some of what the scripts expect to fail is valid.
	features api.CoreFeatures
	// disabled suites are of features that a node does not enable: what the
	// scripts expect does not hold.
	disabled bool
}

var specSuites = []specSuite{
	{name: "v1", features: api.CoreFeaturesV1},
	{name: "v2", features: api.CoreFeaturesV2},
	{name: "tail-call", features: api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall},
	{name: "extended-const", features: api.CoreFeaturesV2 | experimental.CoreFeaturesExtendedConst},
	{name: "threads", disabled: true},
	{name: "exception-handling", disabled: true},
	{name: "typed-function-references", disabled: true},
}

// specCommand is one line of a test, as wast2json writes it.
type specCommand struct {
	Type       string      `json:"type"`
	Line       int         `json:"line"`
	Name       string      `json:"name"`
	Filename   string      `json:"filename"`
	As         string      `json:"as"`
	ModuleType string      `json:"module_type"`
	Text       string      `json:"text"`
	Action     specAction  `json:"action"`
	Expected   []specValue `json:"expected"`
}

// specAction calls an exported function, or reads an exported global.
type specAction struct {
	Type   string      `json:"type"`
	Module string      `json:"module"`
	Field  string      `json:"field"`
	Args   []specValue `json:"args"`
}

// specDir finds the tests within the engine's module, whose copy they are not.
func specDir(t testing.TB) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "internal", "integration_test", "spectest")
}

// specScripts lists the scripts of a suite.
func specScripts(t testing.TB, dir string, suite specSuite) []string {
	t.Helper()
	scripts, err := filepath.Glob(filepath.Join(dir, suite.name, "testdata", "*.json"))
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts of ", suite.name, err)
	}
	return scripts
}

func readScript(t testing.TB, path string) []specCommand {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var script struct {
		Commands []specCommand `json:"commands"`
	}
	if err := json.Unmarshal(b, &script); err != nil {
		t.Fatal(path, err)
	}
	return script.Commands
}
