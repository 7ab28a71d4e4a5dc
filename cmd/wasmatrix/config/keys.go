package config

import (
	"iter"
	"reflect"
	"strings"
)

// field is one key of the configuration and where its value is kept.
type field struct {
	key   string // "server.raft.heartbeat"
	name  string // "heartbeat"
	block bool   // it holds further keys
	size  bool   // a number of bytes
	value reflect.Value
}

// children yields the keys directly inside a block, in the order of the struct.
func children(prefix string, block reflect.Value) iter.Seq[field] {
	return func(yield func(field) bool) {
		for i := range block.NumField() {
			tag, ok := block.Type().Field(i).Tag.Lookup("hcl")
			if !ok {
				continue
			}
			name, option, _ := strings.Cut(tag, ",")
			f := field{key: name, name: name, block: option == "block", size: option == "size", value: block.Field(i)}
			if prefix != "" {
				f.key = prefix + "." + name
			}
			if !yield(f) {
				return
			}
		}
	}
}

// leaves yields every key that holds a value, in the order of the structs.
func leaves(prefix string, block reflect.Value) iter.Seq[field] {
	return func(yield func(field) bool) {
		for f := range children(prefix, block) {
			if !f.block {
				if !yield(f) {
					return
				}
				continue
			}
			for leaf := range leaves(f.key, f.value) {
				if !yield(leaf) {
					return
				}
			}
		}
	}
}

func (c *Config) leaves() iter.Seq[field] { return leaves("", reflect.ValueOf(c).Elem()) }

// Keys returns every key that holds a value, such as "server.raft.heartbeat".
func Keys() []string {
	var keys []string
	for f := range new(Config).leaves() {
		keys = append(keys, f.key)
	}
	return keys
}

// EnvVar returns the environment variable that overrides a key:
// WASMATRIX_SERVER_RAFT_HEARTBEAT for "server.raft.heartbeat".
func EnvVar(key string) string {
	return "WASMATRIX_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}
