package main

import (
	"bytes"
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability/kv/store"
	"github.com/wasmatrix/wasmatrix/fsm"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

func (s fakeClusterService) SaveSnapshot(_ context.Context, req *api.SaveSnapshotRequest, out *connect.ServerStream[api.SaveSnapshotResponse]) error {
	s.note(req)
	data := fakeSnapshot()
	if req.GetGroup() == "kv" {
		data = fakeKVSnapshot()
	}
	s.mu.Lock()
	torn := s.leader == "" // nobody has the whole state
	s.mu.Unlock()
	if torn {
		data = data[:len(data)-20]
	}
	for len(data) > 0 {
		n := min(len(data), 100)
		if err := out.Send(&api.SaveSnapshotResponse{Data: data[:n]}); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// RestoreSnapshot takes a snapshot of the group that the first piece names.
func (s fakeClusterService) RestoreSnapshot(_ context.Context, in *connect.ClientStream[api.RestoreSnapshotRequest]) (*api.RestoreSnapshotResponse, error) {
	var data []byte
	group, first := "", true
	for in.Receive() {
		if first {
			group, first = in.Msg().GetGroup(), false
		}
		data = append(data, in.Msg().GetData()...)
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	res := &api.RestoreSnapshotResponse{}
	if group == "kv" {
		info, err := store.Inspect(bytes.NewReader(data))
		if err != nil {
			return nil, wire.ToConnect(err)
		}
		res.StateHash, res.Index = fmt.Sprintf("%x", info.Hash), info.Index
	} else {
		info, err := fsm.InspectSnapshot(bytes.NewReader(data))
		if err != nil {
			return nil, wire.ToConnect(err)
		}
		res.StateHash, res.Index = fmt.Sprintf("%x", info.Hash), info.Index
	}
	s.mu.Lock()
	s.restored = data
	s.mu.Unlock()
	return res, nil
}

// fakeSnapshot is that of a real state.
func fakeSnapshot() []byte {
	f := fsm.New(fsm.Options{})
	at := wasmatrix.TimeOf(fixed.AsTime())
	for i, cmd := range []wasmatrix.Command{
		wasmatrix.InitCluster{At: at, Cluster: "c-1"},
		wasmatrix.RegisterNode{At: at, Registration: wasmatrix.Registration{ID: "n1", Boot: "b1", Addr: "10.0.0.1:7483", Capacity: wasmatrix.Capacity{Memory: 1 << 30, Instances: 10}}},
	} {
		b, err := fsm.Encode(cmd)
		if err != nil {
			panic(err)
		}
		f.Apply(uint64(i+1), b)
	}
	var buf bytes.Buffer
	if err := f.Snapshot()(&buf); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// fakeKVSnapshot is that of a real store.
func fakeKVSnapshot() []byte {
	s := store.New(store.Options{})
	cmd := &store.Set{
		At:        wasmatrix.TimeOf(fixed.AsTime()),
		Caller:    store.Caller{Instance: "web-1", Incarnation: 1, Epoch: 1},
		Namespace: store.Namespace{Provider: "kv", Name: "shared/visits"},
		Key:       "n", Value: []byte("1"), Quota: store.Quota{Keys: 1, Bytes: 100},
	}
	b, err := cmd.Encode()
	if err != nil {
		panic(err)
	}
	if w, ok := s.Apply(5, b).(store.Written); !ok {
		panic(w)
	}
	var buf bytes.Buffer
	if err := s.Snapshot()(&buf); err != nil {
		panic(err)
	}
	return buf.Bytes()
}
