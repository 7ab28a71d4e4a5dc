package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wasmatrix/wasmatrix"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Load returns the defaults, overridden by the files, in order, and then by the
// environment. A path is a file, or a directory whose *.hcl are read by name.
// A list or map replaces the earlier one.
//
// Each value is checked by itself; [Config.Validate] also checks them together,
// once flags have had their say. The error is the first of what [Problems] finds.
func Load(paths ...string) (*Config, error) {
	c, problems := load(paths)
	if len(problems) == 0 {
		problems = c.checkValues()
	}
	if len(problems) > 0 {
		return nil, first(problems)
	}
	return c, nil
}

// Problems returns all that is wrong with the configuration that [Load] would
// read and [Config.Validate] would check, as E6 in the order of the sources.
func Problems(paths ...string) []*wasmatrix.Error {
	c, problems := load(paths)
	if len(problems) > 0 {
		return problems
	}
	return append(c.checkValues(), c.checkTogether()...)
}

// first returns the first problem and says how many more there are.
func first(problems []*wasmatrix.Error) error {
	switch len(problems) {
	case 0:
		return nil
	case 1:
		return problems[0]
	}
	e := *problems[0]
	e.Message += fmt.Sprintf(" (and %d more)", len(problems)-1)
	return &e
}

func load(paths []string) (*Config, []*wasmatrix.Error) {
	c := Default()
	files, problems := list(paths)
	for _, file := range files {
		problems = append(problems, c.readFile(file)...)
	}
	return c, append(problems, c.readEnv(os.LookupEnv)...)
}

// list resolves directories to the files in them.
func list(paths []string) (files []string, problems []*wasmatrix.Error) {
	for _, path := range paths {
		found, err := filesOf(path)
		if err != nil {
			problems = append(problems, source{file: path}.errorf("", "%s", reason(err)))
			continue
		}
		files = append(files, found...)
	}
	return files, problems
}

func filesOf(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		// Editors leave hidden files beside the ones they edit.
		if !e.IsDir() && filepath.Ext(e.Name()) == ".hcl" && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, errors.New("the directory has no *.hcl file")
	}
	return files, nil
}

func (c *Config) readFile(path string) []*wasmatrix.Error {
	src, err := read(path)
	if err != nil {
		return []*wasmatrix.Error{source{file: path}.errorf("", "%s", reason(err))}
	}
	return c.decode(path, src)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(src) > maxFile {
		err = errors.New("larger than " + wasmatrix.FormatBytes(maxFile))
	}
	return src, err
}

// reason drops the path that the message names already.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// readEnv takes over the variable of each key, where it is set and not empty.
func (c *Config) readEnv(lookup func(string) (string, bool)) []*wasmatrix.Error {
	var problems []*wasmatrix.Error
	for f := range c.leaves() {
		name := EnvVar(f.key)
		text, ok := lookup(name)
		if !ok || text == "" {
			continue
		}
		s := source{name: name}
		if err := f.setText(text); err != nil {
			problems = append(problems, s.errorf(f.key, "%s", err))
			continue
		}
		c.setSource(f.key, s)
	}
	return slices.Clip(problems)
}
