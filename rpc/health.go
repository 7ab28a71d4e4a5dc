package rpc

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// health answers the health protocol of gRPC: the process and each of its
// services serve while the process is ready.
type health struct {
	services []string
	ready    func(context.Context) error
}

// Check implements [grpchealth.Checker].
func (h *health) Check(ctx context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if req.Service != "" && !slices.Contains(h.services, req.Service) {
		// The protocol wants NOT_FOUND, which none of our codes for requests is.
		return nil, connect.NewError(connect.CodeNotFound,
			wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "there is no service %q", req.Service))
	}
	res := &grpchealth.CheckResponse{Status: grpchealth.StatusServing}
	if h.ready(ctx) != nil {
		res.Status = grpchealth.StatusNotServing
	}
	return res, nil
}

// probes adds plain GETs for supervisors and load balancers: /healthz answers
// while the process lives, /readyz with 503 and the reason while it is not ready.
func (e *edge) probes(ready func(context.Context) error) {
	e.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answerProbe(w, nil) })
	e.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { answerProbe(w, ready(r.Context())) })
}

func answerProbe(w http.ResponseWriter, err error) {
	body := map[string]string{"status": "ok"}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		e := wire.Coded(err)
		body = map[string]string{"status": "unavailable", "code": string(e.Code), "message": e.Message}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // a prober that is gone needs no answer
}
