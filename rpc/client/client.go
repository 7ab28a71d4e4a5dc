// Package client is the way into wasmatrix for Go programs, and the way in which
// its own processes speak to one another.
//
// [Client] is for users: the services of the API, with retries that are safe.
// [Control] is for nodes, which speak to the leader; [Agents] is for the leader,
// which speaks to nodes; [Transfer] moves module bytes; [Carrier] has the calls of
// guests carried out elsewhere, and [Fences] keeps those of older epochs from kv.
//
// All of them may be used from any number of goroutines at once. Their errors
// are [*wasmatrix.Error].
package client

import (
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// Config configures a [Client]. Addrs is required; zero in any other field means
// its default.
type Config struct {
	// Addrs are servers of one cluster: host, host:port or http://host:port.
	// Any one of them is enough; with more, the client outlives the loss of some.
	Addrs []string
	// Timeout bounds one attempt of a call that is not a stream; default 15 s,
	// negative is none. StopInstance has its own time to wait in addition.
	Timeout time.Duration
	// RetryFor is how long after its start a call is tried again; default 30 s,
	// negative is never. The context bounds it too.
	RetryFor time.Duration
	Logger   hclog.Logger // default: discards
	// Options choose another protocol or codec, such as connect.WithGRPC().
	Options []connect.ClientOption
	// Transport carries the requests; default [NewTransport], which Close closes.
	Transport http.RoundTripper
}

// Client calls the services of a cluster through whichever of its servers
// answers. A call that fails because a server is gone, or because there is no
// leader at the moment, is made again, at another server and after growing
// delays with jitter. Mutating requests are given a request ID where they have
// none (the message is changed), so that their effect happens once. Requests
// without a field for one are repeated only when nothing can have happened.
//
// Streams from the server (watches, logs) are opened anew as long as nothing has
// come; after that their failure is the caller's to handle, by going on from
// the last index. Streams to the server are not repeated; use
// [Client.PushModule], which can.
type Client struct {
	Instances    apiconnect.InstanceServiceClient
	Capabilities apiconnect.CapabilityServiceClient
	Providers    apiconnect.ProviderServiceClient
	Modules      apiconnect.ModuleServiceClient
	Nodes        apiconnect.NodeServiceClient
	Events       apiconnect.EventServiceClient
	Cluster      apiconnect.ClusterServiceClient

	retrier *retrier
	owned   *http.Transport // nil where the caller brought one
}

// baseURL is what Connect is told; the router puts the server of the moment in
// its place.
const baseURL = "http://wasmatrix"

// New makes a client. It connects when it is first used. It fails with E1 for an
// address that is none.
func New(c Config) (*Client, error) {
	if len(c.Addrs) == 0 {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "no server address given").With(wasmatrix.DetailField, "address")
	}
	var addrs []string
	for _, s := range c.Addrs {
		addr, err := ParseAddr(s)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	if c.RetryFor == 0 {
		c.RetryFor = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	cl := &Client{retrier: &retrier{
		servers:  &servers{list: func() []string { return addrs }},
		timeout:  c.Timeout,
		retryFor: c.RetryFor,
		log:      c.Logger,
	}}
	if c.Transport == nil {
		cl.owned = NewTransport()
		c.Transport = cl.owned
	}
	h := newRouter(c.Transport, func(res *http.Response) {
		// Going to the leader saves the hop, but only where the caller said that it
		// can be reached: the cluster's own addresses may be of another network.
		if leader := res.Header.Get(wire.HeaderLeader); slices.Contains(addrs, leader) {
			cl.retrier.servers.prefer(leader)
		}
	})
	opts := append(slices.Clone(c.Options), connect.WithInterceptors(cl.retrier))
	cl.Instances = apiconnect.NewInstanceServiceClient(h, baseURL, opts...)
	cl.Capabilities = apiconnect.NewCapabilityServiceClient(h, baseURL, opts...)
	cl.Providers = apiconnect.NewProviderServiceClient(h, baseURL, opts...)
	cl.Modules = apiconnect.NewModuleServiceClient(h, baseURL, opts...)
	cl.Nodes = apiconnect.NewNodeServiceClient(h, baseURL, opts...)
	cl.Events = apiconnect.NewEventServiceClient(h, baseURL, opts...)
	cl.Cluster = apiconnect.NewClusterServiceClient(h, baseURL, opts...)
	return cl, nil
}

// Close ends the idle connections. Calls under way go on.
func (c *Client) Close() {
	if c.owned != nil {
		c.owned.CloseIdleConnections()
	}
}
