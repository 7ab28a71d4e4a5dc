package main

import (
	"context"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// InvokeInstance has the functions:
//
//	echo     returns its arguments, or its data
//	numbers  returns numbers of every kind
//	fail     returns its data backwards, with status -3
//	trap     crashes
//	patience returns for how long its caller will wait, in seconds
//	forever  ends when its caller is gone
func (s fakeInstanceService) InvokeInstance(ctx context.Context, req *api.InvokeInstanceRequest) (*api.InvokeInstanceResponse, error) {
	s.note(req)
	i, err := s.instance(req.GetInstanceId())
	if err != nil {
		return nil, err
	}
	if isFinal(i.GetStatus()) {
		return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "instance %s has %s", i.GetInstanceId(), statusText(i.GetStatus())).With("status", statusText(i.GetStatus()))
	}
	res := &api.InvokeInstanceResponse{Fuel: 1234, Cpu: durationpb.New(5 * time.Millisecond)}
	switch req.GetFunction() {
	case "echo":
		res.Results, res.Data = req.GetArgs(), req.GetData()
	case "numbers":
		for _, n := range []float64{0, math.Copysign(0, -1), -7, 1e6, 1 << 53, 0.1, 1e300, 5e-324} {
			res.Results = append(res.Results, structpb.NewNumberValue(n))
		}
		for _, text := range []string{"-9223372036854775808", "NaN", "Infinity", "-Infinity"} {
			res.Results = append(res.Results, structpb.NewStringValue(text))
		}
		// What servers do not send
		res.Results = append(res.Results, structpb.NewNumberValue(math.Inf(-1)), structpb.NewStringValue("\x1b[2J"))
	case "fail":
		res.Data, res.Status = slices.Clone(req.GetData()), -3
		slices.Reverse(res.Data)
	case "trap":
		return nil, wasmatrix.Errorf(wasmatrix.CodeCrashDetected, "trap: unreachable").With("kind", "trap").With("message", "unreachable\x1b[2J")
	case "patience":
		deadline, _ := ctx.Deadline()
		res.Results = []*structpb.Value{structpb.NewNumberValue(math.Floor(time.Until(deadline).Seconds()))}
	case "forever":
		s.opened("InvokeInstance")
		<-ctx.Done()
	default:
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "the module exports no function %q", req.GetFunction()).With(wasmatrix.DetailField, "function")
	}
	return res, nil
}
