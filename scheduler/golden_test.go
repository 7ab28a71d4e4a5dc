package scheduler_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler"
)

var update = flag.Bool("update", false, "write what the golden scripts give")

// TestGolden runs the scripts in testdata. A script is a list of blocks: input
// lines, "----", expected output, an empty line. Input lines are
//
//	node ID [memory=2GiB] [instances=10] [used=512MiB/3] [label=KEY:VALUE]... [down] [draining]
//	request NAME [count=1] [memory=64MiB] [constraint=EXPR]... [avoid=ID]... [partial] [hold=DURATION]
//	plan [spread|binpack] [avoid=ID]...
//
// where plan decides about the requests of its block and prints what it
// decided. Nodes stay, with what plans have put on them. In an expression "_"
// stands for a space.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, cluster: newCluster()}
			got := s.run(string(raw))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(raw) {
				t.Errorf("%s: got\n%s\nwant\n%s", file, got, raw)
			}
		})
	}
}

type script struct {
	t        *testing.T
	cluster  *cluster
	names    []string
	requests []scheduler.Request
	planned  strings.Builder
}

var planTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (s *script) run(text string) string {
	var out strings.Builder
	skipping := false // the expected output of the block
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case skipping:
			skipping = line != ""
			if !skipping {
				out.WriteString("\n")
			}
		case line == "----":
			fmt.Fprintln(&out, line)
			out.WriteString(s.flush())
			skipping = true
		default:
			fmt.Fprintln(&out, line)
			if line != "" && !strings.HasPrefix(line, "#") {
				s.input(line)
			}
		}
	}
	return out.String()
}

func (s *script) flush() string {
	text := s.planned.String()
	s.planned.Reset()
	return text
}

func (s *script) input(line string) {
	words := strings.Fields(line)
	switch words[0] {
	case "node":
		s.node(words[1], words[2:])
	case "request":
		s.request(words[1], words[2:])
	case "plan":
		s.plan(words[1:])
	default:
		s.t.Fatalf("unknown line %q", line)
	}
}

func (s *script) node(id string, args []string) {
	n := &wasmatrix.Node{
		ID: wasmatrix.NodeID(id), Status: wasmatrix.NodeUp,
		Labels:   map[string]string{wasmatrix.LabelNode: id},
		Capacity: wasmatrix.Capacity{Memory: 1 << 30, Instances: 100},
	}
	var used wasmatrix.Capacity
	for _, a := range args {
		key, v, _ := strings.Cut(a, "=")
		switch key {
		case "memory":
			n.Capacity.Memory = s.bytes(v)
		case "instances":
			n.Capacity.Instances = uint32(s.number(v))
		case "used":
			m, i, _ := strings.Cut(v, "/")
			used = wasmatrix.Capacity{Memory: s.bytes(m), Instances: uint32(s.number(i))}
		case "label":
			k, v, _ := strings.Cut(v, ":")
			n.Labels[k] = v
		case "down":
			n.Status = wasmatrix.NodeDown
		case "draining":
			n.Draining = true
		default:
			s.t.Fatalf("unknown argument %q", a)
		}
	}
	s.cluster.add(n, used)
}

func (s *script) request(name string, args []string) {
	spec := wasmatrix.Spec{Limits: wasmatrix.DefaultLimits}
	r := scheduler.Request{Spec: &spec}
	count := 1
	for _, a := range args {
		key, v, _ := strings.Cut(a, "=")
		switch key {
		case "count":
			count = s.number(v)
		case "memory":
			spec.Limits.Memory = s.bytes(v)
		case "constraint":
			c, err := wasmatrix.ParseConstraint(strings.ReplaceAll(v, "_", " "))
			if err != nil {
				s.t.Fatal(err)
			}
			spec.Constraints = append(spec.Constraints, c)
		case "avoid":
			r.Avoid = append(r.Avoid, wasmatrix.NodeID(v))
		case "partial":
			r.Partial = true
		case "hold":
			d, err := time.ParseDuration(v)
			if err != nil {
				s.t.Fatal(err)
			}
			r.NotBefore = planTime.Add(d)
		default:
			s.t.Fatalf("unknown argument %q", a)
		}
	}
	for i := range count {
		r.Instances = append(r.Instances, wasmatrix.InstanceID(name+"-"+strconv.Itoa(i)))
	}
	s.names = append(s.names, name)
	s.requests = append(s.requests, r)
}

func (s *script) plan(args []string) {
	var policy scheduler.Policy
	for _, a := range args {
		if id, ok := strings.CutPrefix(a, "avoid="); ok {
			policy.Avoid = append(policy.Avoid, wasmatrix.NodeID(id))
			continue
		}
		strategy, err := scheduler.ParseStrategy(a)
		if err != nil {
			s.t.Fatal(err)
		}
		policy.Strategy = strategy
	}
	for n, d := range scheduler.Plan(s.cluster, s.requests, planTime, policy) {
		nodes := make([]string, len(d.Nodes))
		for i, id := range d.Nodes {
			nodes[i] = string(id)
			if id == "" {
				nodes[i] = "-"
				continue
			}
			s.cluster.usage[id] = s.cluster.usage[id].Plus(s.requests[n].Spec.Demand())
		}
		fmt.Fprintf(&s.planned, "%s: %s\n", s.names[n], strings.Join(nodes, " "))
		if d.Failure != nil {
			fmt.Fprintf(&s.planned, "  %s\n", d.Failure)
		}
	}
	s.names, s.requests = nil, nil
}

func (s *script) bytes(v string) uint64 {
	n, err := wasmatrix.ParseBytes(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *script) number(v string) int {
	n, err := strconv.Atoi(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
