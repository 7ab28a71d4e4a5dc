package config

import (
	"fmt"
	"maps"
	"strconv"

	"github.com/wasmatrix/wasmatrix"
)

// source is where a value came from: a line of a file, or a variable or flag.
type source struct {
	file string
	line int
	name string // of a variable or flag, where file is ""
}

// Details of a configuration error, besides [wasmatrix.DetailField].
const (
	detailFile   = "file"
	detailLine   = "line"
	detailSource = "source" // the environment variable or flag
)

// errorf makes an E6 about a key, or about the whole where key is "".
func (s source) errorf(key, format string, args ...any) *wasmatrix.Error {
	text := fmt.Sprintf(format, args...)
	if key != "" {
		text = key + ": " + text
	}
	var e *wasmatrix.Error
	switch {
	case s.file != "" && s.line > 0:
		e = wasmatrix.Errorf(wasmatrix.CodeValidation, "%s:%d: %s", s.file, s.line, text).
			With(detailFile, s.file).With(detailLine, strconv.Itoa(s.line))
	case s.file != "":
		e = wasmatrix.Errorf(wasmatrix.CodeValidation, "%s: %s", s.file, text).With(detailFile, s.file)
	case s.name != "":
		e = wasmatrix.Errorf(wasmatrix.CodeValidation, "%s: %s", s.name, text).With(detailSource, s.name)
	default:
		e = wasmatrix.Errorf(wasmatrix.CodeValidation, "%s", text)
	}
	if key != "" {
		e = e.With(wasmatrix.DetailField, key)
	}
	return e
}

func (c *Config) setSource(key string, s source) {
	if c.sources == nil {
		c.sources = map[string]source{}
	}
	c.sources[key] = s
}

// Set overrides one key from text, as a flag has it: lists are separated by
// commas, maps are key=value separated by commas. The source, such as "-name",
// is named in errors about the value, which are E6. An unknown key panics.
func (c *Config) Set(key, text, from string) error {
	for f := range c.leaves() {
		if f.key != key {
			continue
		}
		s := source{name: from}
		if err := f.setText(text); err != nil {
			return s.errorf(key, "%s", err)
		}
		c.setSource(key, s)
		return nil
	}
	panic("config: no such key: " + key)
}

// Clone returns a copy that shares nothing with c.
func (c *Config) Clone() *Config {
	d := *c
	d.Node.Labels = maps.Clone(c.Node.Labels)
	d.Gossip.RetryJoin = append([]string(nil), c.Gossip.RetryJoin...)
	d.sources = maps.Clone(c.sources)
	return &d
}
