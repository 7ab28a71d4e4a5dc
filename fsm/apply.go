package fsm

import (
	"strings"
	"unicode/utf8"

	"github.com/wasmatrix/wasmatrix"
)

// maxExpire is how many requests whose time has run out are forgotten per
// remembered one, so that the window shrinks while it is being filled.
const maxExpire = 4

// tx is the application of one command to the live state. Functions check all
// that they need first and change the state after, so that a command, or each
// of its items, has its whole effect or none.
type tx struct {
	*State
	opts  Options
	specs *specInterner
	rules uint32 // version of the schema that the command was written with
}

func (t *tx) apply(cmd wasmatrix.Command, err error) any {
	if err != nil {
		if _, ok := err.(*UnknownCommandError); ok { //nolint:errorlint // Decode returns it unwrapped
			return nil
		}
		return wasmatrix.AsError(err)
	}
	switch c := cmd.(type) {
	case wasmatrix.InitCluster:
		return t.at(c.At).initCluster(c)
	case wasmatrix.RegisterNode:
		return t.at(c.At).registerNode(c)
	case wasmatrix.MarkNodeDown:
		return t.at(c.At).markNodeDown(c)
	case wasmatrix.DrainNode:
		return t.at(c.At).drainNode(c)
	case wasmatrix.ForgetNode:
		return t.at(c.At).forgetNode(c)
	case wasmatrix.StartInstances:
		return t.at(c.At).startInstances(c)
	case wasmatrix.PlaceInstances:
		return t.at(c.At).placeInstances(c)
	case wasmatrix.StopInstances:
		return t.at(c.At).stopInstances(c)
	case wasmatrix.RestartInstance:
		return t.at(c.At).restartInstance(c)
	case wasmatrix.ApplyReports:
		return t.at(c.At).applyReports(c)
	case wasmatrix.AssignCapability:
		return t.at(c.At).assignCapability(c)
	case wasmatrix.RevokeCapability:
		return t.at(c.At).revokeCapability(c)
	case wasmatrix.PutProvider:
		return t.at(c.At).putProvider(c)
	case wasmatrix.RemoveProvider:
		return t.at(c.At).removeProvider(c)
	case wasmatrix.AddModule:
		return t.at(c.At).addModule(c)
	case wasmatrix.RemoveModule:
		return t.at(c.At).removeModule(c)
	case wasmatrix.CollectGarbage:
		return t.at(c.At).collectGarbage(c)
	case wasmatrix.RecordDenials:
		return t.at(c.At).recordDenials(c)
	default:
		panic(&UnknownCommandError{})
	}
}

// at moves the state's time, which never goes back: a new leader's clock may
// be behind its predecessor's.
func (t *tx) at(at wasmatrix.Time) *tx {
	t.now = max(t.now, at)
	t.window.evict(t.now-wasmatrix.Time(t.opts.RequestWindow), t.opts.MaxRequests, maxExpire)
	return t
}

// fact records that something happened.
func (t *tx) fact(f wasmatrix.Fact) {
	f.Index = t.facts.next
	f.At = t.now
	f.Reason = truncate(f.Reason, wasmatrix.MaxReason)
	t.facts.push(f)
	for t.facts.len() > t.opts.MaxFacts {
		t.facts.pop()
	}
}

// instanceFact records that something happened to an instance as it is now.
func (t *tx) instanceFact(kind wasmatrix.FactKind, i *wasmatrix.Instance, reason string) {
	t.fact(wasmatrix.Fact{
		Kind: kind, Instance: i.ID, Node: i.Node, Epoch: i.Epoch, Attempt: i.Attempt, Reason: reason,
	})
}

// seen looks a request up. It returns the earlier one that this one repeats,
// or an error where the ID cannot be used.
func (t *tx) seen(r wasmatrix.Request) (*request, *wasmatrix.Error) {
	if r.ID != "" && len(r.ID) > maxID {
		return nil, malformed("request ID")
	}
	return t.window.find(r)
}

// remember records that a request had its effect, on these instances.
func (t *tx) remember(r wasmatrix.Request, instances ...wasmatrix.InstanceID) {
	if r.ID == "" {
		return
	}
	t.window.add(&request{id: r.ID, body: r.Body, at: t.now, instances: instances})
	t.window.evict(t.now-wasmatrix.Time(t.opts.RequestWindow), t.opts.MaxRequests, maxExpire)
}

// maxID bounds every identifier in a command, in bytes. Admission is stricter.
const maxID = 256

func badID[T ~string](id T) bool { return id == "" || len(id) > maxID }

// malformed is the answer to a command that no leader proposes.
func malformed(what string) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "malformed command: %s", what)
}

func instanceNotFound(id wasmatrix.InstanceID) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeInstanceNotFound, "no instance %q", id)
}

func nodeNotFound(id wasmatrix.NodeID) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeNodeNotFound, "no node %q", id)
}

// orNil keeps a nil *Error from becoming an answer that is not nil.
func orNil(err *wasmatrix.Error) any {
	if err == nil {
		return nil
	}
	return err
}

// truncate cuts s to at most n bytes of valid UTF-8. What is kept does not keep
// the rest in memory.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n])
}
