package gossip

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"

	"github.com/hashicorp/memberlist"

	"github.com/wasmatrix/wasmatrix"
)

// Role says what an agent does.
type Role string

// The roles.
const (
	RoleServer Role = "server"
	RoleNode   Role = "node"
)

// Tags is what a member says of itself. Encoded they must fit in 512 bytes.
// Role, Name and Started are filled in by [Open].
type Tags struct {
	Role      Role                `json:"r"`
	Name      string              `json:"n"`
	Started   int64               `json:"t,omitempty"` // Unix milliseconds when the agent opened its gossip
	Server    wasmatrix.ServerID  `json:"i,omitempty"`
	Cluster   wasmatrix.ClusterID `json:"c,omitempty"` // "" before the member belongs to a cluster
	APIAddr   string              `json:"a,omitempty"`
	RaftAddr  string              `json:"f,omitempty"`
	AgentAddr string              `json:"w,omitempty"` // of a node's NodeAgentService
	Version   string              `json:"v,omitempty"`
	// The ports of a server's messaging, for nodes and for other servers, at the
	// host of its RaftAddr; 0 where it has none.
	MessagingPort int  `json:"m,omitempty"`
	RoutePort     int  `json:"o,omitempty"`
	Expect        int  `json:"e,omitempty"` // bootstrap_expect
	HasState      bool `json:"s,omitempty"` // has a Raft log or snapshot
	Leaving       bool `json:"l,omitempty"` // set by [Gossip.Leave]: its end is no failure
}

// MessagingAddr is where nodes reach the server's messaging, "" where it has none.
func (t Tags) MessagingAddr() string { return t.beside(t.MessagingPort) }

// RouteAddr is where other servers reach the server's messaging, "" where it has
// none.
func (t Tags) RouteAddr() string { return t.beside(t.RoutePort) }

// beside is the address of a port at the host of RaftAddr.
func (t Tags) beside(port int) string {
	host, _, err := net.SplitHostPort(t.RaftAddr)
	if err != nil || port == 0 {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// memberName is the key under which memberlist knows the member.
func (t Tags) memberName() string { return memberName(t.Role, t.Name) }

func memberName(role Role, name string) string { return string(role) + "/" + name }

// encodeTags fails with VALIDATION_ERROR where the tags do not fit.
func encodeTags(t Tags) ([]byte, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "encode gossip tags: %w", err)
	}
	if len(b) > memberlist.MetaMaxSize {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation,
			"the gossip tags of %s take %d bytes, at most %d are allowed: shorten its name, version or addresses",
			t.memberName(), len(b), memberlist.MetaMaxSize)
	}
	return b, nil
}

// decodeTags reads the metadata of the member called name and refuses tags that
// speak of another one. Unknown keys are ignored: newer versions add some.
func decodeTags(name string, meta []byte) (Tags, error) {
	var t Tags
	if len(meta) > memberlist.MetaMaxSize {
		return Tags{}, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "gossip tags of %q take %d bytes", name, len(meta))
	}
	if err := json.Unmarshal(meta, &t); err != nil {
		return Tags{}, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "gossip tags of %q: %w", name, err)
	}
	role, short, ok := strings.Cut(name, "/")
	if !ok || Role(role) != t.Role || short != t.Name {
		return Tags{}, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "gossip tags of %q say that it is %q", name, t.memberName())
	}
	if t.Role != RoleServer && t.Role != RoleNode {
		return Tags{}, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "member %q has an unknown role", name)
	}
	if err := wasmatrix.ValidateName("member name", t.Name); err != nil {
		return Tags{}, err
	}
	return t, nil
}
