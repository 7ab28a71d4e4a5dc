package client

import (
	"context"

	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// carriedKV is a kv of another process.
type carriedKV struct{ carrier *Carrier }

func (k carriedKV) Get(ctx context.Context, s *capability.Scope, key string) (capability.Entry, bool, error) {
	m := &api.CarryRequest{Part: &api.CarryRequest_KvGet{KvGet: &api.KVGet{Key: key}}}
	res, err := k.carrier.read(ctx, m, s)
	if err != nil {
		return capability.Entry{}, false, err
	}
	e := res.GetKvEntry()
	return capability.Entry{Value: e.GetValue(), Revision: e.GetRevision()}, e.GetFound(), nil
}

func (k carriedKV) Set(ctx context.Context, s *capability.Scope, key string, value []byte, o capability.SetOptions) (uint64, error) {
	m := &api.CarryRequest{Part: &api.CarryRequest_KvSet{KvSet: wire.KVSetTo(key, value, o)}}
	res, err := k.carrier.unary(ctx, m, s)
	if err != nil {
		return 0, err
	}
	return res.GetKvWritten().GetRevision(), nil
}

func (k carriedKV) Delete(ctx context.Context, s *capability.Scope, key string, id capability.WriteID) (bool, error) {
	m := &api.CarryRequest{Part: &api.CarryRequest_KvDelete{KvDelete: wire.KVDeleteTo(key, id)}}
	res, err := k.carrier.unary(ctx, m, s)
	if err != nil {
		return false, err
	}
	return res.GetKvDeleted().GetExisted(), nil
}

func (k carriedKV) List(ctx context.Context, s *capability.Scope, q capability.ListQuery) (capability.Page, error) {
	m := &api.CarryRequest{Part: &api.CarryRequest_KvList{KvList: &api.KVList{Prefix: q.Prefix, After: q.After, Limit: uint32(max(q.Limit, 0))}}}
	res, err := k.carrier.read(ctx, m, s)
	if err != nil {
		return capability.Page{}, err
	}
	return capability.Page{Keys: res.GetKvPage().GetKeys(), More: res.GetKvPage().GetMore()}, nil
}
