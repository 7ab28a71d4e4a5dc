package main

import (
	"encoding/json"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
)

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of this program",
		Example: "  wasmatrix version -o json",
		Args:    wants(),
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
				Commit  string `json:"commit,omitempty"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
			}{wasmatrix.Version, commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
			if c.json() {
				b, err := json.Marshal(v)
				if err != nil {
					return err
				}
				return c.writeIndented(b)
			}
			f := &fields{}
			f.add("Version", v.Version)
			f.add("Commit", v.Commit)
			f.add("Go", v.Go)
			f.add("Platform", v.OS+"/"+v.Arch)
			return f.write(c.out)
		},
	}
}

// commit is what this program was built from, as far as the go command knew.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	rev, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	if rev == "" {
		return ""
	}
	return rev + changed
}
