package capability

import (
	"context"
	"crypto/rand"

	"github.com/wasmatrix/wasmatrix"
)

// KVGet reads an entry, and reports whether there is one.
func (c *Client) KVGet(ctx context.Context, id wasmatrix.CapabilityID, key string) (Entry, bool, error) {
	var e Entry
	var found bool
	err := c.kv(ctx, id, &opGet, key, 0, func(p *pass, kv KV) (err error) {
		e, found, err = kv.Get(p, p.grant.scope, key)
		if err == nil {
			err = p.take(len(e.Value))
		}
		return err
	})
	if err != nil {
		return Entry{}, false, err
	}
	return e, found, nil
}

// KVSet writes an entry and returns its revision.
func (c *Client) KVSet(ctx context.Context, id wasmatrix.CapabilityID, key string, value []byte, o SetOptions) (revision uint64, err error) {
	if o.ID == (WriteID{}) {
		rand.Read(o.ID[:]) // never fails
	}
	err = c.kv(ctx, id, &opSet, key, len(value), func(p *pass, kv KV) (err error) {
		revision, err = kv.Set(p, p.grant.scope, key, value, o)
		return err
	})
	return revision, err
}

// KVDelete removes an entry and reports whether there was one.
func (c *Client) KVDelete(ctx context.Context, id wasmatrix.CapabilityID, key string) (existed bool, err error) {
	var write WriteID
	rand.Read(write[:]) // never fails
	err = c.kv(ctx, id, &opDelete, key, 0, func(p *pass, kv KV) (err error) {
		existed, err = kv.Delete(p, p.grant.scope, key, write)
		return err
	})
	return existed && err == nil, err
}

// KVList returns a page of keys.
func (c *Client) KVList(ctx context.Context, id wasmatrix.CapabilityID, q ListQuery) (Page, error) {
	var page Page
	err := c.kv(ctx, id, &opList, q.Prefix, 0, func(p *pass, kv KV) (err error) {
		if page, err = kv.List(p, p.grant.scope, q); err != nil {
			return err
		}
		size := 0
		for _, k := range page.Keys {
			size += len(k)
		}
		return p.take(size)
	})
	if err != nil {
		return Page{}, err
	}
	return page, nil
}

func (c *Client) kv(ctx context.Context, id wasmatrix.CapabilityID, op *operation, subject string, bytes int, do func(*pass, KV) error) error {
	p, err := c.admit(ctx, id, op, subject, bytes)
	if err != nil {
		return err
	}
	defer p.done()
	kv, err := c.gate.providers.KV(p, p.grant.scope)
	if err == nil {
		err = do(p, kv)
	}
	return p.verdict(err)
}
