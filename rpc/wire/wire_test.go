package wire_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"reflect"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// Generators of root values, as broad as the types allow where the API keeps
// everything, and valid where it checks.
var (
	name   = rapid.StringMatching(`[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}`)
	text   = rapid.String()
	moment = rapid.Custom(func(t *rapid.T) wasmatrix.Time { return wasmatrix.Time(rapid.Int64().Draw(t, "time")) })
	digest = rapid.Custom(func(t *rapid.T) (d wasmatrix.Digest) {
		copy(d[:], rapid.SliceOfN(rapid.Byte(), len(d), len(d)).Draw(t, "digest"))
		return d
	})
	span   = rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.Int64().Draw(t, "span")) })
	status = rapid.SampledFrom([]wasmatrix.Status{
		wasmatrix.StatusPending, wasmatrix.StatusStarting, wasmatrix.StatusRunning, wasmatrix.StatusBackoff,
		wasmatrix.StatusLost, wasmatrix.StatusStopped, wasmatrix.StatusCrashed,
	})
	exit       = rapid.Ptr(rapid.Int32(), true)
	constraint = rapid.Custom(func(t *rapid.T) wasmatrix.Constraint {
		c := wasmatrix.Constraint{Key: name.Draw(t, "key"), Op: wasmatrix.ConstraintOp(rapid.IntRange(0, 5).Draw(t, "op"))}
		switch c.Op {
		case wasmatrix.ConstraintEquals, wasmatrix.ConstraintNotEquals:
			c.Values = []string{name.Draw(t, "value")}
		case wasmatrix.ConstraintIn, wasmatrix.ConstraintNotIn:
			c.Values = rapid.SliceOfN(name, 1, 4).Draw(t, "values")
		case wasmatrix.ConstraintExists, wasmatrix.ConstraintAbsent:
		}
		return c
	})
	spec = rapid.Custom(func(t *rapid.T) *wasmatrix.Spec {
		s := &wasmatrix.Spec{
			Module: digest.Draw(t, "module"), ModuleName: text.Draw(t, "name"),
			Args: rapid.SliceOf(text).Draw(t, "args"), Env: rapid.MapOf(text, text).Draw(t, "env"),
			Labels: rapid.MapOf(name, text).Draw(t, "labels"), Constraints: rapid.SliceOfN(constraint, 0, 5).Draw(t, "constraints"),
			Restart: wasmatrix.RestartPolicy{
				Mode: wasmatrix.RestartMode(rapid.IntRange(0, 2).Draw(t, "mode")), MaxRetries: rapid.Uint32().Draw(t, "retries"),
			},
			Limits:    wasmatrix.Limits{Memory: rapid.Uint64().Draw(t, "memory"), CPU: rapid.Uint32().Draw(t, "cpu"), Deadline: span.Draw(t, "deadline"), Fuel: rapid.Uint64().Draw(t, "fuel")},
			Exclusive: rapid.Bool().Draw(t, "exclusive"), Queue: rapid.Bool().Draw(t, "queue"), Stdin: rapid.SliceOf(rapid.Byte()).Draw(t, "stdin"),
		}
		if rapid.Bool().Draw(t, "backoff") {
			s.Restart.Backoff = wasmatrix.Backoff{
				Initial: span.Draw(t, "initial"), Multiplier: rapid.Float64Range(1, 100).Draw(t, "multiplier"), Max: span.Draw(t, "max"),
				Jitter: rapid.Float64Range(0, 1).Draw(t, "jitter"), Reset: span.Draw(t, "reset"),
			}
		}
		return s
	})
	crash = rapid.Custom(func(t *rapid.T) *wasmatrix.Crash {
		return &wasmatrix.Crash{
			Kind: wasmatrix.CrashKind(text.Draw(t, "kind")), Message: text.Draw(t, "message"), ExitCode: exit.Draw(t, "exit"),
			Stack: rapid.SliceOf(text).Draw(t, "stack"), Node: wasmatrix.NodeID(name.Draw(t, "node")), Epoch: rapid.Uint64().Draw(t, "epoch"),
			Attempt: rapid.Uint32().Draw(t, "attempt"), Uptime: rapid.Int64().Draw(t, "uptime"), At: moment.Draw(t, "at"),
			Fuel: rapid.Uint64().Draw(t, "fuel"), MemoryPeak: rapid.Uint64().Draw(t, "peak"),
		}
	})
	instance = rapid.Custom(func(t *rapid.T) *wasmatrix.Instance {
		return &wasmatrix.Instance{
			ID: wasmatrix.InstanceID(name.Draw(t, "id")), Spec: spec.Draw(t, "spec"), Status: status.Draw(t, "status"),
			Node: wasmatrix.NodeID(name.Draw(t, "node")), Epoch: rapid.Uint64().Draw(t, "epoch"), Attempt: rapid.Uint32().Draw(t, "attempt"),
			StopRequested: rapid.Bool().Draw(t, "stop"), Reason: text.Draw(t, "reason"), LastError: wasmatrix.Code(text.Draw(t, "error")),
			ExitCode: exit.Draw(t, "exit"), Restarts: rapid.Uint32().Draw(t, "restarts"), Crashes: rapid.Uint32().Draw(t, "crashes"),
			CreatedAt: moment.Draw(t, "created"), StartedAt: moment.Draw(t, "started"), ChangedAt: moment.Draw(t, "changed"),
			CreateIndex: rapid.Uint64().Draw(t, "create"), ModifyIndex: rapid.Uint64().Draw(t, "modify"),
		}
	})
	grantSet = rapid.Custom(func(t *rapid.T) *wasmatrix.GrantSet {
		s := &wasmatrix.GrantSet{
			Instance: wasmatrix.InstanceID(name.Draw(t, "instance")), Epoch: rapid.Uint64().Draw(t, "epoch"), Index: rapid.Uint64().Draw(t, "index"),
			Incarnation: rapid.Uint64().Draw(t, "incarnation"), Exclusive: rapid.Bool().Draw(t, "exclusive"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "assignments") {
			s.Assignments = append(s.Assignments, assignmentOf(t, s.Instance))
		}
		return s
	})
	provider = rapid.Custom(func(t *rapid.T) *wasmatrix.Provider {
		return &wasmatrix.Provider{
			ID: wasmatrix.ProviderID(name.Draw(t, "id")), Type: rapid.SampledFrom(wasmatrix.ProviderTypes).Draw(t, "type"),
			Config: rapid.MapOf(text, text).Draw(t, "config"), Constraints: rapid.SliceOfN(constraint, 0, 3).Draw(t, "constraints"),
			Stopped: rapid.Bool().Draw(t, "stopped"), Revision: rapid.Uint64().Draw(t, "revision"), ChangedAt: moment.Draw(t, "changed"),
			CreateIndex: rapid.Uint64().Draw(t, "create"),
		}
	})
	capacity = rapid.Custom(func(t *rapid.T) wasmatrix.Capacity {
		return wasmatrix.Capacity{Memory: rapid.Uint64().Draw(t, "memory"), Instances: rapid.Uint32().Draw(t, "instances")}
	})
)

// assignmentOf draws what an instance may have been given.
func assignmentOf(t *rapid.T, id wasmatrix.InstanceID) *wasmatrix.Assignment {
	a := must[*wasmatrix.Assignment](t)(wasmatrix.NewAssignment(id, wasmatrix.CapabilityID(name.Draw(t, "capability")), wasmatrix.Grant{
		Type:        wasmatrix.ProviderKV,
		Permissions: rapid.SliceOfN(rapid.SampledFrom([]wasmatrix.Permission{"kv:read", "kv:write", "kv:delete:a/", "kv:read:é"}), 1, 5).Draw(t, "permissions"),
		Provider:    wasmatrix.ProviderID(rapid.SampledFrom([]string{"", "redis"}).Draw(t, "provider")),
		Namespace:   rapid.SampledFrom([]string{"", "visits"}).Draw(t, "namespace"),
		Stale:       rapid.Bool().Draw(t, "stale"),
	}))
	a.CreatedAt, a.CreateIndex = moment.Draw(t, "created"), rapid.Uint64().Draw(t, "granted at")
	return a
}

// through sends a message in binary and in JSON, as the API does.
func through[M any, P interface {
	*M
	proto.Message
}](t *rapid.T, m P) P {
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	binary := P(new(M))
	if err := proto.Unmarshal(b, binary); err != nil {
		t.Fatal(err)
	}
	if b, err = protojson.Marshal(binary); err != nil {
		t.Fatal(err)
	}
	out := P(new(M))
	if err := protojson.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// same compares, taking empty for absent.
func same(t *rapid.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", flat(got)), fmt.Sprintf("%+v", flat(want)); g != w {
		t.Fatalf("%s\ngot  %s\nwant %s", what, g, w)
	}
}

// flat makes a comparable copy of a value: pointers followed, empty slices and
// maps nil, maps sorted by fmt.
func flat(v any) any { return flatten(reflect.ValueOf(v)) }

func flatten(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return flatten(v.Elem())
	case reflect.Struct:
		out := make(map[string]any)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				out[v.Type().Field(i).Name] = flatten(v.Field(i))
			}
		}
		return out
	case reflect.Slice:
		var out []any
		for i := range v.Len() {
			out = append(out, flatten(v.Index(i)))
		}
		return fmt.Sprintf("%#v", out)
	case reflect.Map:
		out := make(map[string]string)
		for _, k := range v.MapKeys() {
			out[k.String()] = v.MapIndex(k).String()
		}
		return fmt.Sprintf("%#v", out)
	case reflect.String:
		return fmt.Sprintf("%q", v.String())
	default:
		return v.Interface()
	}
}

func must[T any](t *rapid.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestP16_ProtocolRoundTrips(t *testing.T) {
	t.Run("instance", rapid.MakeCheck(func(t *rapid.T) {
		want := instance.Draw(t, "instance")
		same(t, "instance", must[*wasmatrix.Instance](t)(wire.InstanceFrom(through(t, wire.InstanceTo(want)))), want)
	}))
	t.Run("crash", rapid.MakeCheck(func(t *rapid.T) {
		want := crash.Draw(t, "crash")
		same(t, "crash", must[*wasmatrix.Crash](t)(wire.CrashFrom(through(t, wire.CrashTo(want)))), want)
	}))
	t.Run("report", rapid.MakeCheck(func(t *rapid.T) {
		want := wasmatrix.Report{
			Instance: wasmatrix.InstanceID(name.Draw(t, "id")), Epoch: rapid.Uint64().Draw(t, "epoch"), Attempt: rapid.Uint32().Draw(t, "attempt"),
			Seq: rapid.Uint64().Draw(t, "seq"), Status: status.Draw(t, "status"), Reason: text.Draw(t, "reason"),
			Error: wasmatrix.Code(text.Draw(t, "error")), ExitCode: exit.Draw(t, "exit"), At: moment.Draw(t, "at"),
		}
		if rapid.Bool().Draw(t, "crashed") {
			want.Crash = crash.Draw(t, "crash")
		}
		same(t, "report", must[wasmatrix.Report](t)(wire.ReportFrom(through(t, wire.ReportTo(want)))), want)
	}))
	t.Run("orders", rapid.MakeCheck(func(t *rapid.T) {
		specs := rapid.SliceOfN(spec, 1, 3).Draw(t, "specs")
		used := make(map[*wasmatrix.Spec]bool)
		want := make([]wasmatrix.Order, rapid.IntRange(0, 10).Draw(t, "orders"))
		for i := range want {
			o := wasmatrix.Order{Instance: wasmatrix.InstanceID(name.Draw(t, "id")), Epoch: rapid.Uint64().Draw(t, "epoch")}
			if o.Kind = wasmatrix.OrderStop; rapid.Bool().Draw(t, "start") {
				o.Kind, o.Spec = wasmatrix.OrderStart, rapid.SampledFrom(specs).Draw(t, "spec")
				used[o.Spec] = true
				if rapid.Bool().Draw(t, "granted") {
					o.Grants = grantSet.Draw(t, "grants")
				}
			} else {
				o.Forget = rapid.Bool().Draw(t, "forget")
			}
			want[i] = o
		}
		m := through(t, wire.OrdersTo(3, "boot", 9, want))
		if len(m.Specs) != len(used) || m.Term != 3 || m.BootId != "boot" || m.Index != 9 {
			t.Fatalf("%d specs were sent for %d, term %d, boot %s", len(m.Specs), len(used), m.Term, m.BootId)
		}
		got := must[[]wasmatrix.Order](t)(wire.OrdersFrom(m))
		for i := range want {
			same(t, "order", got[i], want[i])
			for j := range want {
				if want[i].Spec == want[j].Spec && got[i].Spec != got[j].Spec {
					t.Fatalf("orders %d and %d no longer share their spec", i, j)
				}
			}
		}
	}))
	t.Run("registration", rapid.MakeCheck(func(t *rapid.T) {
		want := wasmatrix.Registration{
			ID: wasmatrix.NodeID(name.Draw(t, "id")), Boot: wasmatrix.BootID(name.Draw(t, "boot")), Addr: text.Draw(t, "addr"),
			Version: text.Draw(t, "version"), Labels: rapid.MapOf(name, text).Draw(t, "labels"), Capacity: capacity.Draw(t, "capacity"),
		}
		for range rapid.IntRange(0, 4).Draw(t, "holding") {
			want.Holding = append(want.Holding, wasmatrix.Holding{
				Instance: wasmatrix.InstanceID(name.Draw(t, "instance")), Epoch: rapid.Uint64().Draw(t, "epoch"), Status: status.Draw(t, "status"),
				GrantsIndex: rapid.Uint64().Draw(t, "grants"),
			})
		}
		m := through(t, wire.RegistrationTo(want, "cluster"))
		if m.ClusterId != "cluster" {
			t.Fatal(m)
		}
		same(t, "registration", must[wasmatrix.Registration](t)(wire.RegistrationFrom(m)), want)
	}))
	t.Run("lease", rapid.MakeCheck(func(t *rapid.T) {
		want := wasmatrix.Lease{TTL: rapid.Int64().Draw(t, "ttl"), Term: rapid.Uint64().Draw(t, "term"), Resync: rapid.Bool().Draw(t, "resync")}
		same(t, "lease", must[wasmatrix.Lease](t)(wire.LeaseFrom(through(t, wire.LeaseTo(want)))), want)
	}))
	t.Run("node", rapid.MakeCheck(func(t *rapid.T) {
		want := &wasmatrix.Node{
			ID: wasmatrix.NodeID(name.Draw(t, "id")), Addr: text.Draw(t, "addr"), Version: text.Draw(t, "version"),
			Labels: rapid.MapOf(name, text).Draw(t, "labels"), Capacity: capacity.Draw(t, "capacity"),
			Status: rapid.SampledFrom([]wasmatrix.NodeStatus{wasmatrix.NodeUp, wasmatrix.NodeDown}).Draw(t, "status"), Draining: rapid.Bool().Draw(t, "draining"),
			Reason: text.Draw(t, "reason"), RegisteredAt: moment.Draw(t, "registered"), ChangedAt: moment.Draw(t, "changed"),
		}
		used := capacity.Draw(t, "used")
		got, gotUsed := wire.NodeFrom(through(t, wire.NodeTo(want, used)))
		same(t, "node", got, want)
		same(t, "used", gotUsed, used)
	}))
	t.Run("module", rapid.MakeCheck(func(t *rapid.T) {
		want := &wasmatrix.Module{
			Digest: digest.Draw(t, "digest"), Size: rapid.Int64().Draw(t, "size"),
			Kind:    rapid.SampledFrom([]wasmatrix.ModuleKind{wasmatrix.ModuleCommand, wasmatrix.ModuleReactor}).Draw(t, "kind"),
			Imports: rapid.SliceOf(text).Draw(t, "imports"), Exports: rapid.SliceOf(text).Draw(t, "exports"),
			CreatedAt: moment.Draw(t, "created"), UsedAt: moment.Draw(t, "used"),
		}
		m := through(t, wire.ModuleTo(want, []string{"a", "b"}, 3))
		if !slices.Equal(m.Names, []string{"a", "b"}) || m.Users != 3 {
			t.Fatal(m)
		}
		same(t, "module", must[*wasmatrix.Module](t)(wire.ModuleFrom(m)), want)
	}))
	t.Run("event", rapid.MakeCheck(func(t *rapid.T) {
		want := &wasmatrix.Fact{
			Index: rapid.Uint64().Draw(t, "index"), At: moment.Draw(t, "at"), Kind: wasmatrix.FactKind(text.Draw(t, "kind")),
			Instance: wasmatrix.InstanceID(text.Draw(t, "instance")), Node: wasmatrix.NodeID(text.Draw(t, "node")),
			Epoch: rapid.Uint64().Draw(t, "epoch"), Attempt: rapid.Uint32().Draw(t, "attempt"), Reason: text.Draw(t, "reason"),
		}
		same(t, "event", wire.EventFrom(through(t, wire.EventTo(want))), want)
	}))
	t.Run("capability", rapid.MakeCheck(func(t *rapid.T) {
		want := assignmentOf(t, wasmatrix.InstanceID(name.Draw(t, "instance")))
		same(t, "capability", must[*wasmatrix.Assignment](t)(wire.CapabilityFrom(through(t, wire.CapabilityTo(want)))), want)
	}))
	t.Run("grants", rapid.MakeCheck(func(t *rapid.T) {
		want := rapid.SliceOfN(grantSet, 0, 3).Draw(t, "sets")
		m := through(t, &api.SetGrantsRequest{Sets: wire.GrantSetsTo(want)})
		same(t, "grants", must[[]*wasmatrix.GrantSet](t)(wire.GrantSetsFrom(m.Sets)), want)
	}))
	t.Run("denial", rapid.MakeCheck(func(t *rapid.T) {
		want := wasmatrix.Denial{
			Instance: wasmatrix.InstanceID(name.Draw(t, "instance")), Epoch: rapid.Uint64().Draw(t, "epoch"),
			Capability: wasmatrix.CapabilityID(text.Draw(t, "capability")), Operation: text.Draw(t, "operation"), Reason: text.Draw(t, "reason"),
			At: moment.Draw(t, "at"), Count: rapid.Uint64().Draw(t, "count"),
		}
		same(t, "denial", must[wasmatrix.Denial](t)(wire.DenialFrom(through(t, wire.DenialTo(want)))), want)
	}))
	t.Run("provider", rapid.MakeCheck(func(t *rapid.T) {
		want := provider.Draw(t, "provider")
		same(t, "provider", must[*wasmatrix.Provider](t)(wire.ProviderFrom(through(t, wire.ProviderTo(want)))), want)
	}))
	t.Run("placed providers", rapid.MakeCheck(func(t *rapid.T) {
		want := make([]wasmatrix.PlacedProvider, rapid.IntRange(0, 4).Draw(t, "providers"))
		for i := range want {
			want[i] = wasmatrix.PlacedProvider{Provider: provider.Draw(t, "provider"), Everywhere: rapid.Bool().Draw(t, "everywhere")}
			for range rapid.IntRange(0, 3).Draw(t, "hosts") {
				want[i].Hosts = append(want[i].Hosts, wasmatrix.ProviderHost{Node: wasmatrix.NodeID(name.Draw(t, "node")), Addr: text.Draw(t, "addr")})
			}
		}
		m := through(t, &api.SetProvidersRequest{Providers: wire.PlacedProvidersTo(want)})
		same(t, "placed providers", must[[]wasmatrix.PlacedProvider](t)(wire.PlacedProvidersFrom(m.Providers)), want)
	}))
	t.Run("scope", rapid.MakeCheck(func(t *rapid.T) {
		want := capability.Scope{
			Instance: wasmatrix.InstanceID(name.Draw(t, "instance")), Incarnation: rapid.Uint64().Draw(t, "incarnation"),
			Epoch: rapid.Uint64().Draw(t, "epoch"), Exclusive: rapid.Bool().Draw(t, "exclusive"),
			Capability: wasmatrix.CapabilityID(name.Draw(t, "capability")), Granted: rapid.Uint64().Draw(t, "granted"),
			Provider: wasmatrix.ProviderID(name.Draw(t, "provider")), Namespace: text.Draw(t, "namespace"), Stale: rapid.Bool().Draw(t, "stale"),
		}
		carried := want
		carried.Rules, carried.Alive = new(wasmatrix.Rules), func() bool { return true }
		got := must[*capability.Scope](t)(wire.ScopeFrom(through(t, wire.ScopeTo(&carried))))
		if got.Rules != nil || got.Alive != nil {
			t.Fatal("rules were carried")
		}
		same(t, "scope", *got, want)
	}))
	t.Run("usage", rapid.MakeCheck(func(t *rapid.T) {
		want := wasmatrix.NodeUsage{
			Instances: rapid.Uint32().Draw(t, "instances"), Reserved: rapid.Uint64().Draw(t, "reserved"), GuestMemory: rapid.Uint64().Draw(t, "memory"),
			Heap: rapid.Uint64().Draw(t, "heap"), Goroutines: rapid.Uint32().Draw(t, "goroutines"), Threads: rapid.Uint32().Draw(t, "threads"),
			Descriptors: rapid.Uint32().Draw(t, "descriptors"), Compiling: rapid.Uint32().Draw(t, "compiling"),
			Runnable: rapid.Uint32().Draw(t, "runnable"), Cores: rapid.Uint32().Draw(t, "cores"), CPU: span.Draw(t, "cpu"),
			Calls: rapid.Uint64().Draw(t, "calls"), Denials: rapid.Uint64().Draw(t, "denials"), CallsOpen: rapid.Uint32().Draw(t, "open"),
		}
		same(t, "usage", must[wasmatrix.NodeUsage](t)(wire.UsageFrom(through(t, wire.UsageTo(want)))), want)
	}))
	t.Run("error", rapid.MakeCheck(func(t *rapid.T) {
		want := &wasmatrix.Error{
			Code: rapid.SampledFrom(wasmatrix.Codes).Draw(t, "code"), Message: text.Draw(t, "message"),
			Details: rapid.MapOf(text, text).Draw(t, "details"), Time: moment.Draw(t, "time").Std(),
		}
		got := wire.FromConnect(fmt.Errorf("calling: %w", wire.ToConnect(fmt.Errorf("serving: %w", want))))
		if got.Code != want.Code || got.Message != want.Message || !maps.Equal(got.Details, want.Details) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if !want.Time.IsZero() && !got.Time.Equal(want.Time) || got.Time.IsZero() {
			t.Fatalf("time %v, want %v", got.Time, want.Time)
		}
	}))
}

func TestEveryCodeHasItsPlaceInConnect(t *testing.T) {
	for _, code := range wasmatrix.Codes {
		ce := wire.ToConnect(wasmatrix.Errorf(code, "x"))
		if ce.Code() == connect.CodeUnknown {
			t.Errorf("%s is not in the table", code)
		}
		if code == wasmatrix.CodeInternal || code == wasmatrix.CodeStorage {
			continue
		}
		if ce.Code() == connect.CodeInternal {
			t.Errorf("%s is internal", code)
		}
	}
}

func TestFailuresOfTheConnection(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	reset := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	for _, tt := range []struct {
		err     error
		code    wasmatrix.Code
		outcome string
	}{
		{refused, wasmatrix.CodeCommunication, wasmatrix.OutcomeNone},
		{connect.NewError(connect.CodeUnavailable, refused), wasmatrix.CodeCommunication, wasmatrix.OutcomeNone},
		{connect.NewError(connect.CodeUnavailable, reset), wasmatrix.CodeCommunication, wasmatrix.OutcomeUnknown},
		{connect.NewError(connect.CodeCanceled, reset), wasmatrix.CodeCommunication, wasmatrix.OutcomeUnknown},
		{connect.NewError(connect.CodeUnknown, reset), wasmatrix.CodeCommunication, wasmatrix.OutcomeUnknown},
		{connect.NewError(connect.CodeInternal, errors.New("stream error")), wasmatrix.CodeCommunication, wasmatrix.OutcomeUnknown},
		{connect.NewError(connect.CodeDeadlineExceeded, context.DeadlineExceeded), wasmatrix.CodeTimeout, wasmatrix.OutcomeUnknown},
		{context.Canceled, wasmatrix.CodeTimeout, wasmatrix.OutcomeUnknown},
		{connect.NewError(connect.CodeUnimplemented, errors.New("404")), wasmatrix.CodeInvalidRequest, ""},
	} {
		e := wire.FromConnect(tt.err)
		if e.Code != tt.code || e.Details[wasmatrix.DetailOutcome] != tt.outcome {
			t.Errorf("%v: %v, details %v; want %s, %s", tt.err, e, e.Details, tt.code, tt.outcome)
		}
	}
	if wire.FromConnect(nil) != nil || wire.Coded(nil) != nil {
		t.Error("no error became one")
	}
}

func TestRequestsAreIdentifiedByTheirBody(t *testing.T) {
	a := &api.StartInstanceRequest{RequestId: "r", Env: map[string]string{}, Args: []string{"x"}}
	for i := range 50 {
		a.Env[fmt.Sprint(i)] = "v"
	}
	first, err := wire.Request(a)
	if err != nil {
		t.Fatal(err)
	}
	if first.ID != "r" || a.RequestId != "r" {
		t.Errorf("ID %q, and the message has %q", first.ID, a.RequestId)
	}
	for range 10 { // maps have no order
		if again, _ := wire.Request(proto.Clone(a).(*api.StartInstanceRequest)); again != first {
			t.Fatal("the same request is another")
		}
	}
	b := proto.Clone(a).(*api.StartInstanceRequest)
	b.RequestId = "s"
	if other, _ := wire.Request(b); other.Body != first.Body {
		t.Error("the request ID is part of the body")
	}
	b.Args = nil
	if other, _ := wire.Request(b); other.Body == first.Body {
		t.Error("the body does not count")
	}
	stop, _ := wire.Request(&api.StopInstanceRequest{RequestId: "r", InstanceId: "i"})
	restart, _ := wire.Request(&api.RestartInstanceRequest{RequestId: "r", InstanceId: "i"})
	if stop.Body == restart.Body {
		t.Error("to stop and to restart are the same")
	}
	none := &api.StopInstanceRequest{InstanceId: "i"}
	one, _ := wire.Request(none)
	two, _ := wire.Request(none)
	if one.ID == "" || one.ID == two.ID || none.RequestId != "" {
		t.Errorf("drawn: %q, %q, and the message has %q", one.ID, two.ID, none.RequestId)
	}
}

func TestDrawnIDsAreValid(t *testing.T) {
	seen := make(map[wasmatrix.InstanceID]bool)
	for range 1000 {
		id := wire.NewInstanceID()
		if err := id.Validate(); err != nil || len(id) != 15 || seen[id] {
			t.Fatalf("%q: %v", id, err)
		}
		seen[id] = true
		if err := wire.NewRequestID().Validate(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBackoffKeepsDefaults(t *testing.T) {
	p, err := wire.RestartFrom(&api.RestartPolicy{Backoff: &api.Backoff{Initial: durationpb.New(2 * time.Minute)}})
	want := wasmatrix.DefaultBackoff
	want.Initial, want.Max, want.Jitter = 2*time.Minute, 2*time.Minute, 0
	if err != nil || p.Backoff != want {
		t.Errorf("%+v, %v; want %+v", p.Backoff, err, want)
	}
	zero := wasmatrix.Backoff{Multiplier: 1}
	s, err := wire.SpecFrom(wire.SpecTo(&wasmatrix.Spec{Module: wasmatrix.Digest{1}, Restart: wasmatrix.RestartPolicy{Backoff: zero}}))
	if err != nil || s.Restart.Backoff != zero {
		t.Errorf("%+v, %v; want %+v", s.Restart.Backoff, err, zero)
	}
	if _, err := wire.DurationFrom(&durationpb.Duration{Seconds: math.MaxInt64}, "x"); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
		t.Errorf("a duration that is none: %v", err)
	}
}

// FuzzFrom feeds every converter whatever decodes as its message: it converts,
// or fails with a code that blames the request.
func FuzzFrom(f *testing.F) {
	for _, m := range []proto.Message{
		&api.Instance{Spec: &api.InstanceSpec{Module: wasmatrix.Digest{1}.String(), Constraints: []string{"a in (b,c)"}}, Status: 3},
		&api.ExecuteRequest{Orders: []*api.Order{{Kind: 1}, {Kind: 2}}, Specs: []*api.InstanceSpec{{Module: wasmatrix.Digest{1}.String()}}},
		&api.Report{Status: 7, Crash: &api.Crash{Uptime: durationpb.New(1)}},
		&api.RegisterRequest{NodeId: "n", Holding: []*api.Holding{{Status: 1}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(err error) {
			t.Helper()
			if code := wasmatrix.CodeOf(err); err != nil && code != wasmatrix.CodeInvalidRequest && code != wasmatrix.CodeValidation {
				t.Errorf("%v", err)
			}
		}
		if m := (&api.Instance{}); proto.Unmarshal(b, m) == nil {
			i, err := wire.InstanceFrom(m)
			if check(err); err == nil {
				if again, err := wire.InstanceFrom(wire.InstanceTo(i)); err != nil || !reflect.DeepEqual(again, i) {
					// NaN equals nothing, and is refused by the validators.
					if !math.IsNaN(i.Spec.Restart.Backoff.Multiplier) && !math.IsNaN(i.Spec.Restart.Backoff.Jitter) {
						t.Errorf("%+v became %+v, %v", i, again, err)
					}
				}
			}
		}
		if m := (&api.ExecuteRequest{}); proto.Unmarshal(b, m) == nil {
			orders, err := wire.OrdersFrom(m)
			if check(err); err == nil && len(orders) != len(m.Orders) {
				t.Errorf("%d orders of %d", len(orders), len(m.Orders))
			}
		}
		if m := (&api.Report{}); proto.Unmarshal(b, m) == nil {
			_, err := wire.ReportFrom(m)
			check(err)
		}
		if m := (&api.RegisterRequest{}); proto.Unmarshal(b, m) == nil {
			_, err := wire.RegistrationFrom(m)
			check(err)
		}
		if m := (&api.SetGrantsRequest{}); proto.Unmarshal(b, m) == nil {
			_, err := wire.GrantSetsFrom(m.Sets)
			check(err)
		}
		if m := (&api.SetProvidersRequest{}); proto.Unmarshal(b, m) == nil {
			_, err := wire.PlacedProvidersFrom(m.Providers)
			check(err)
		}
		if m := (&api.Denial{}); proto.Unmarshal(b, m) == nil {
			_, err := wire.DenialFrom(m)
			check(err)
		}
		if m := (&api.CallScope{}); proto.Unmarshal(b, m) == nil {
			_, err := wire.ScopeFrom(m)
			check(err)
		}
		if m := (&api.Capability{}); proto.Unmarshal(b, m) == nil {
			_, err := wire.CapabilityFrom(m)
			check(err)
		}
		if m := (&api.Module{}); proto.Unmarshal(b, m) == nil {
			_, err := wire.ModuleFrom(m)
			check(err)
		}
		if m := (&api.StartInstanceRequest{}); proto.Unmarshal(b, m) == nil {
			_, err := wire.Request(m)
			check(err)
		}
		if wire.FromConnect(connect.NewError(connect.CodeUnknown, errors.New(string(b)))) == nil {
			t.Error("an error became none")
		}
	})
}
