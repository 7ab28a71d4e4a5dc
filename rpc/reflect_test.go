package rpc_test

import (
	"net/http"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func TestReflection(t *testing.T) {
	c := newCluster(t, 1)
	cl := grpcreflect.NewClient(&http.Client{Transport: newTransport(t)}, "http://"+c.Servers[0].Addr, connect.WithGRPC())
	s := cl.NewStream(t.Context())
	defer s.Close()
	names, err := s.ListServices()
	if err != nil || !slices.Contains(names, protoreflect.FullName("wasmatrix.v1.InstanceService")) || !slices.Contains(names, "grpc.health.v1.Health") {
		t.Errorf("services %v, %v", names, err)
	}
	if files, err := s.FileContainingSymbol("wasmatrix.v1.InstanceService"); err != nil || len(files) == 0 {
		t.Errorf("files %v, %v", files, err)
	}
}

func TestHealth(t *testing.T) {
	c := newCluster(t, 1)
	cl := grpchealth.NewClient(&http.Client{Transport: newTransport(t)}, "http://"+c.Servers[0].Addr, connect.WithGRPC())
	check := func(service string) (grpchealth.Status, connect.Code) {
		res, err := cl.Check(t.Context(), &grpchealth.CheckRequest{Service: service})
		if err != nil {
			return 0, connect.CodeOf(err)
		}
		return res.Status, 0
	}
	for _, service := range []string{"", "wasmatrix.v1.InstanceService"} {
		if s, code := check(service); s != grpchealth.StatusServing || code != 0 {
			t.Errorf("%q: %v, %v", service, s, code)
		}
	}
	if _, code := check("nope"); code != connect.CodeNotFound {
		t.Errorf("an unknown service: %v", code)
	}
	c.SetLeader(-1)
	if s, _ := check(""); s != grpchealth.StatusNotServing {
		t.Errorf("without a leader: %v", s)
	}
}
