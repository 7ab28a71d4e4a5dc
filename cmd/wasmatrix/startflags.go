package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// startFlags are the flags of run that make up the request.
type startFlags struct {
	id          string
	count       uint32
	restart     string
	maxRetries  uint32
	backoff     time.Duration
	memory, cpu string
	deadline    time.Duration
	fuel        uint64
	stdin       string
	env, labels []string
	constraints []string
	caps        []string
	exclusive   bool
	queue       bool
	strict      bool
}

func (s *startFlags) register(cmd *cobra.Command, c *cli) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&s.id, "id", "", "ID of the instance (default: drawn); with --count, instance n is ID-n")
	f.Uint32Var(&s.count, "count", 1, "how many to start")
	f.StringVar(&s.restart, "restart", "never", "when to start it again after it ended: never, on_failure or always")
	f.Uint32Var(&s.maxRetries, "max-retries", 0, "restarts in a row (0 is any number)")
	f.DurationVar(&s.backoff, "backoff", wasmatrix.DefaultBackoff.Initial, "delay before the first restart; it doubles with each in a row, up to 1m")
	f.StringVar(&s.memory, "memory", "", "memory limit, such as 64MiB, a multiple of 64KiB (default "+wasmatrix.FormatBytes(wasmatrix.DefaultLimits.Memory)+")")
	f.StringVar(&s.cpu, "cpu", "", "share of CPU, such as 500m or 2 (default 1)")
	f.DurationVar(&s.deadline, "deadline", 0, "longest time that one execution may take (0 is unlimited)")
	f.Uint64Var(&s.fuel, "fuel", 0, "units of about one instruction that one execution may use (0 is unlimited)")
	f.StringVar(&s.stdin, "stdin", "", "file that the program reads as its standard input, at most "+wasmatrix.FormatBytes(wasmatrix.MaxStdin)+`; "-" is that of this command`)
	f.StringArrayVar(&s.env, "env", nil, "environment variable NAME=VALUE; NAME alone takes its value from here; may be repeated")
	f.StringArrayVar(&s.labels, "label", nil, "label KEY=VALUE; may be repeated")
	f.StringArrayVar(&s.constraints, "constraint", nil, "condition on a node's labels; may be repeated, and all must hold")
	f.StringArrayVar(&s.caps, "cap", nil, "capability ID=TYPE:PERMISSION,PERMISSION... with options provider=NAME, namespace=NAME and stale among the permissions; may be repeated")
	f.BoolVar(&s.exclusive, "exclusive", false, "never let two executions have effects at a time, at the price of a slower move when a node is lost")
	f.BoolVar(&s.queue, "queue", false, "wait for capacity as pending, rather than fail")
	f.BoolVar(&s.strict, "strict", false, "refuse a module that needs a type of capability that no --cap gives it")
	for _, name := range []string{"id", "count", "max-retries", "backoff", "memory", "cpu", "deadline", "fuel", "env", "label", "cap"} {
		completeFlag(cmd, name, cobra.NoFileCompletions)
	}
	completeFlag(cmd, "restart", cobra.FixedCompletions([]string{"never", "on_failure", "always"}, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "constraint", func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		nodes, d := c.nodeIDs()(cmd, args, strings.TrimPrefix(typed, wasmatrix.LabelNode+"="))
		for i := range nodes {
			nodes[i] = wasmatrix.LabelNode + "=" + nodes[i]
		}
		return nodes, d
	})
}

// request checks the flags and makes a request without module, arguments and standard
// input.
func (s *startFlags) request() (*api.StartInstanceRequest, error) {
	req := &api.StartInstanceRequest{
		InstanceId: s.id, Count: s.count, Constraints: s.constraints, Exclusive: s.exclusive, Queue: s.queue, Strict: s.strict,
		Limits: &api.Limits{Fuel: s.fuel},
	}
	if s.id != "" {
		if err := wasmatrix.InstanceID(s.id).Validate(); err != nil {
			return nil, usagef("--id: %s", wasmatrix.AsError(err).Message)
		}
	}
	if s.count == 0 {
		return nil, usagef("--count: at least 1")
	}
	var err error
	if s.memory != "" {
		if req.Limits.MemoryBytes, err = wasmatrix.ParseBytes(s.memory); err != nil {
			return nil, usagef("--memory: %s", wasmatrix.AsError(err).Message)
		}
	}
	if s.cpu != "" {
		if req.Limits.CpuMillis, err = wasmatrix.ParseCPU(s.cpu); err != nil {
			return nil, usagef("--cpu: %s", wasmatrix.AsError(err).Message)
		}
	}
	if s.deadline < 0 {
		return nil, usagef("--deadline: %s is negative", s.deadline)
	}
	if s.deadline > 0 {
		req.Limits.Deadline = durationpb.New(s.deadline)
	}
	if req.Env, err = parseEnv(s.env); err != nil {
		return nil, err
	}
	if req.Labels, err = parsePairs("--label", s.labels); err != nil {
		return nil, err
	}
	if err := checkConstraints(s.constraints); err != nil {
		return nil, err
	}
	if req.Capabilities, err = parseCaps(s.caps); err != nil {
		return nil, err
	}
	req.Restart, err = s.policy()
	return req, err
}

func (s *startFlags) policy() (*api.RestartPolicy, error) {
	mode, err := wasmatrix.ParseRestartMode(s.restart)
	if err != nil {
		return nil, usagef("--restart: %s", wasmatrix.AsError(err).Message)
	}
	if s.backoff < 0 {
		return nil, usagef("--backoff: %s is negative", s.backoff)
	}
	modes := map[wasmatrix.RestartMode]api.RestartMode{
		wasmatrix.RestartNever:     api.RestartMode_RESTART_MODE_NEVER,
		wasmatrix.RestartOnFailure: api.RestartMode_RESTART_MODE_ON_FAILURE,
		wasmatrix.RestartAlways:    api.RestartMode_RESTART_MODE_ALWAYS,
	}
	b := wasmatrix.DefaultBackoff
	b.Initial = s.backoff
	b.Max = max(b.Max, b.Initial)
	return &api.RestartPolicy{
		Mode: modes[mode], MaxRetries: s.maxRetries,
		Backoff: &api.Backoff{
			Initial: durationpb.New(b.Initial), Multiplier: b.Multiplier, Max: durationpb.New(b.Max),
			Jitter: b.Jitter, Reset_: durationpb.New(b.Reset),
		},
	}, nil
}

// parsePairs reads KEY=VALUE. A later one of the same key wins.
func parsePairs(flag string, pairs []string) (map[string]string, error) {
	m := map[string]string{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, usagef("%s: %q is not of the form KEY=VALUE", flag, p)
		}
		m[k] = v
	}
	return m, nil
}
