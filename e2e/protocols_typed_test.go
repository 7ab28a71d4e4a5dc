package e2e

import (
	"context"
	"encoding/json"
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix/gen/api"
)

// invoke calls a method of a generated client with a request given as JSON, and
// gives its answer or our error detail in the form of the JSON protocol.
func invoke[Req, Res proto.Message](ctx context.Context, method func(context.Context, Req) (Res, error), body []byte, req Req) (map[string]any, error) {
	if err := protojson.Unmarshal(body, req); err != nil {
		return nil, err
	}
	res, err := method(ctx, req)
	if err != nil {
		return nil, detailOf(err)
	}
	b, err := protojson.Marshal(res)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(b, &out)
}

// detailOf returns the error detail of a failed call, or the failure itself.
func detailOf(err error) error {
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return err
	}
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if e, ok := v.(*api.Error); ok {
				return apiError{e.GetCode(), e.GetMessage()}
			}
		}
	}
	return err
}
