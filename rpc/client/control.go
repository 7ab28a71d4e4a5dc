package client

import (
	"context"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// ControlConfig configures a [Control]. Servers is required; zero in any other
// field means its default.
type ControlConfig struct {
	// Servers lists the API addresses (host:port) that are known at the moment,
	// from configuration and gossip. It is called often and must not block.
	Servers func() []string
	// Cluster is the cluster that the node belongs to. Where it is "", the first
	// one that answers is.
	Cluster wasmatrix.ClusterID
	// Timeout bounds one attempt; default 1 s. RetryFor bounds one call; default
	// 3 s. Both are short because the node itself goes on trying.
	Timeout, RetryFor time.Duration
	Logger            hclog.Logger      // default: discards
	Transport         http.RoundTripper // default: [NewTransport], which Close closes
}

// Control is a node's way to the leader. It finds it through any server, and
// then keeps to it for as long as it answers.
type Control struct {
	control apiconnect.ControlServiceClient
	owned   *http.Transport

	mu      sync.Mutex
	cluster wasmatrix.ClusterID // guarded by mu
}

// NewControl makes the client.
func NewControl(c ControlConfig) *Control {
	if c.Timeout == 0 {
		c.Timeout = time.Second
	}
	if c.RetryFor == 0 {
		c.RetryFor = 3 * time.Second
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	k := &Control{cluster: c.Cluster}
	if c.Transport == nil {
		k.owned = NewTransport()
		c.Transport = k.owned
	}
	s := &servers{list: c.Servers}
	h := newRouter(c.Transport, func(res *http.Response) {
		if leader := res.Header.Get(wire.HeaderLeader); leader != "" {
			s.prefer(leader)
		}
	})
	retry := &controlRetrier{&retrier{servers: s, timeout: c.Timeout, retryFor: c.RetryFor, log: c.Logger}}
	k.control = apiconnect.NewControlServiceClient(h, baseURL,
		connect.WithInterceptors(retry), connect.WithAcceptCompression("gzip", nil, nil))
	return k
}

// controlRetrier repeats every call: all of ControlService is idempotent.
type controlRetrier struct{ *retrier }

func (r *controlRetrier) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		var res connect.AnyResponse
		err := r.do(ctx, req.Spec().Procedure, r.timeout, true, func(ctx context.Context) (err error) {
			res, err = next(ctx, req)
			return err
		})
		if err != nil {
			return nil, err
		}
		return res, nil
	}
}

// Register announces the node and what it holds. A cluster other than the node
// belongs to refuses with VALIDATION_ERROR.
func (k *Control) Register(ctx context.Context, r wasmatrix.Registration) (wasmatrix.Lease, error) {
	res, err := k.control.Register(ctx, wire.RegistrationTo(r, k.Cluster()))
	if err != nil {
		return wasmatrix.Lease{}, err
	}
	k.mu.Lock()
	if k.cluster == "" {
		k.cluster = wasmatrix.ClusterID(res.GetClusterId())
	}
	k.mu.Unlock()
	return wire.LeaseFrom(res.GetLease())
}

// Cluster returns the cluster that the node belongs to, "" before any answered.
func (k *Control) Cluster() wasmatrix.ClusterID {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cluster
}

// Renew extends the lease. Count it from before the call: attempts that failed
// are within.
func (k *Control) Renew(ctx context.Context, node wasmatrix.NodeID, boot wasmatrix.BootID) (wasmatrix.Lease, error) {
	res, err := k.control.Renew(ctx, &api.RenewRequest{NodeId: string(node), BootId: string(boot)})
	if err != nil {
		return wasmatrix.Lease{}, err
	}
	return wire.LeaseFrom(res.GetLease())
}

// Report hands over reports; when it returns they are replicated.
func (k *Control) Report(ctx context.Context, node wasmatrix.NodeID, boot wasmatrix.BootID, reports []wasmatrix.Report) ([]bool, error) {
	m := &api.ReportStatusRequest{NodeId: string(node), BootId: string(boot), Reports: make([]*api.Report, len(reports))}
	for i, r := range reports {
		m.Reports[i] = wire.ReportTo(r)
	}
	res, err := k.control.ReportStatus(ctx, m)
	if err != nil {
		return nil, err
	}
	return res.GetApplied(), nil
}

// ReportDenials hands over capability calls that the node has refused; when it
// returns they are facts. Seq counts the reports of a boot, from 1.
func (k *Control) ReportDenials(ctx context.Context, node wasmatrix.NodeID, boot wasmatrix.BootID, seq uint64, denials []wasmatrix.Denial) error {
	m := &api.ReportDenialsRequest{NodeId: string(node), BootId: string(boot), Seq: seq, Denials: make([]*api.Denial, len(denials))}
	for i, d := range denials {
		m.Denials[i] = wire.DenialTo(d)
	}
	_, err := k.control.ReportDenials(ctx, m)
	return err
}

// Grants returns what an instance was given, by a state that has the log index
// minIndex or a later one; nil where the instance holds no place on a node.
func (k *Control) Grants(ctx context.Context, id wasmatrix.InstanceID, minIndex uint64) (*wasmatrix.GrantSet, error) {
	res, err := k.control.GetGrants(ctx, &api.GetGrantsRequest{InstanceId: string(id), MinIndex: minIndex})
	if err != nil {
		return nil, err
	}
	return wire.GrantSetFrom(res.GetGrants())
}

// Close ends the idle connections.
func (k *Control) Close() {
	if k.owned != nil {
		k.owned.CloseIdleConnections()
	}
}
