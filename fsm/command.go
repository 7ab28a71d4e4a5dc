package fsm

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/log"
)

// SchemaVersion is the highest version of the log schema that this build
// understands. Each command is written with the lowest that does; schema.go
// says what each version added.
const SchemaVersion = 3

// UnknownCommandError says that a command was written by a newer release.
type UnknownCommandError struct {
	Version   uint32 // of the log schema that understands it
	Field     int    // number of its field in the envelope; 0 where the version tells
	Ignorable bool   // this build may go on without it
}

func (e *UnknownCommandError) Error() string {
	what := fmt.Sprintf("schema version %d", e.Version)
	if e.Field != 0 {
		what += fmt.Sprintf(", field %d", e.Field)
	}
	return fmt.Sprintf("the log has a command of a newer release (%s; this build, %s, knows versions up to %d): upgrade this server", what, wasmatrix.Version, SchemaVersion)
}

// Encode writes a command, given by value, as the log keeps it. Text that is
// not valid UTF-8 is INVALID_REQUEST.
func Encode(cmd wasmatrix.Command) ([]byte, error) {
	env, err := envelopeOf(cmd)
	if err != nil {
		return nil, err
	}
	env.Version = lowestVersion(cmd)
	b, err := proto.Marshal(env)
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "cannot encode %T: %w", cmd, err)
	}
	return b, nil
}

// Decode reads what [Encode] wrote. What only a newer release knows is an
// *UnknownCommandError, anything else that is wrong a *wasmatrix.Error.
func Decode(b []byte) (wasmatrix.Command, error) {
	cmd, _, err := decode(b)
	return cmd, err
}

// decode is Decode, and tells the version of the schema that the command was
// written with, whose rules are those by which it changes the state.
func decode(b []byte) (cmd wasmatrix.Command, version uint32, err error) {
	var env log.Envelope
	if err := proto.Unmarshal(b, &env); err != nil {
		// A newer schema may have another type where this one has a command, so
		// the version, which never moves, is looked for even so.
		if v, ignorable := peekVersion(b); v > SchemaVersion {
			return nil, v, &UnknownCommandError{Version: v, Ignorable: ignorable}
		}
		return nil, 0, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "malformed command: %w", err)
	}
	if env.Version > SchemaVersion {
		return nil, env.Version, &UnknownCommandError{Version: env.Version, Ignorable: env.Ignorable}
	}
	if env.Command == nil {
		if field := unknownField(&env); field != 0 {
			return nil, env.Version, &UnknownCommandError{Version: env.Version, Field: field, Ignorable: env.Ignorable}
		}
		return nil, env.Version, malformed("empty")
	}
	d := decoder{}
	cmd = d.command(&env)
	if d.wrong != "" {
		return nil, env.Version, malformed(d.wrong)
	}
	return cmd, env.Version, nil
}

func unknownField(env *log.Envelope) int {
	num, _, n := protowire.ConsumeTag(env.ProtoReflect().GetUnknown())
	if n < 0 {
		return 0
	}
	return int(num)
}

// peekVersion reads the envelope's version and mark without the rest.
func peekVersion(b []byte) (version uint32, ignorable bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			break
		}
		b = b[n:]
		if typ == protowire.VarintType && (num == 1 || num == 2) {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				break
			}
			if num == 1 {
				version = uint32(v)
			} else {
				ignorable = v != 0
			}
			b = b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			break
		}
		b = b[n:]
	}
	return version, ignorable
}

func envelopeOf(cmd wasmatrix.Command) (*log.Envelope, error) {
	e := &log.Envelope{}
	switch c := cmd.(type) {
	case wasmatrix.InitCluster:
		e.At = int64(c.At)
		e.Command = &log.Envelope_InitCluster{InitCluster: &log.InitCluster{Cluster: string(c.Cluster)}}
	case wasmatrix.RegisterNode:
		e.At = int64(c.At)
		r := c.Registration
		e.Command = &log.Envelope_RegisterNode{RegisterNode: &log.RegisterNode{
			Id: string(r.ID), Boot: string(r.Boot), Addr: r.Addr, Version: r.Version,
			Labels: encodePairs(r.Labels), Capacity: encodeCapacity(r.Capacity),
		}}
	case wasmatrix.MarkNodeDown:
		e.At = int64(c.At)
		e.Command = &log.Envelope_MarkNodeDown{MarkNodeDown: &log.MarkNodeDown{
			Node: string(c.Node), Boot: string(c.Boot), Reason: c.Reason,
		}}
	case wasmatrix.DrainNode:
		e.At = int64(c.At)
		e.Command = &log.Envelope_DrainNode{DrainNode: &log.DrainNode{
			Request: encodeRequest(c.Request), Node: string(c.Node), Drain: c.Drain,
		}}
	case wasmatrix.ForgetNode:
		e.At = int64(c.At)
		e.Command = &log.Envelope_ForgetNode{ForgetNode: &log.ForgetNode{
			Request: encodeRequest(c.Request), Node: string(c.Node),
		}}
	case wasmatrix.StartInstances:
		e.At = int64(c.At)
		e.Command = &log.Envelope_StartInstances{StartInstances: &log.StartInstances{Items: encodeEach(c.Items, encodeStartItem)}}
	case wasmatrix.PlaceInstances:
		e.At = int64(c.At)
		e.Command = &log.Envelope_PlaceInstances{PlaceInstances: &log.PlaceInstances{
			Items: encodeEach(c.Items, func(it *wasmatrix.PlaceItem) *log.PlaceItem {
				return &log.PlaceItem{Instance: string(it.Instance), Epoch: it.Epoch, Node: string(it.Node)}
			}),
		}}
	case wasmatrix.StopInstances:
		e.At = int64(c.At)
		e.Command = &log.Envelope_StopInstances{StopInstances: &log.StopInstances{
			Items: encodeEach(c.Items, func(it *wasmatrix.StopItem) *log.StopItem {
				return &log.StopItem{Request: encodeRequest(it.Request), Instance: string(it.Instance)}
			}),
		}}
	case wasmatrix.RestartInstance:
		e.At = int64(c.At)
		e.Command = &log.Envelope_RestartInstance{RestartInstance: &log.RestartInstance{
			Request: encodeRequest(c.Request), Instance: string(c.Instance), MinEpoch: c.MinEpoch,
		}}
	case wasmatrix.ApplyReports:
		e.At = int64(c.At)
		e.Command = &log.Envelope_ApplyReports{ApplyReports: &log.ApplyReports{
			Node: string(c.Node), Boot: string(c.Boot), Reports: encodeEach(c.Reports, encodeReport),
		}}
	case wasmatrix.AssignCapability:
		e.At = int64(c.At)
		e.Command = &log.Envelope_AssignCapability{AssignCapability: &log.AssignCapability{
			Request: encodeRequest(c.Request), Assignment: encodeAssignment(c.Assignment),
		}}
	case wasmatrix.RevokeCapability:
		e.At = int64(c.At)
		e.Command = &log.Envelope_RevokeCapability{RevokeCapability: &log.RevokeCapability{
			Request: encodeRequest(c.Request), Instance: string(c.Instance), Capability: string(c.Capability),
		}}
	case wasmatrix.PutProvider:
		e.At = int64(c.At)
		e.Command = &log.Envelope_PutProvider{PutProvider: &log.PutProvider{
			Request: encodeRequest(c.Request), Provider: encodeProvider(c.Provider), Create: c.Create,
		}}
	case wasmatrix.RemoveProvider:
		e.At = int64(c.At)
		e.Command = &log.Envelope_RemoveProvider{RemoveProvider: &log.RemoveProvider{
			Request: encodeRequest(c.Request), Provider: string(c.Provider),
		}}
	case wasmatrix.AddModule:
		e.At = int64(c.At)
		e.Command = &log.Envelope_AddModule{AddModule: &log.AddModule{
			Request: encodeRequest(c.Request), Module: encodeModule(c.Module), Name: c.Name,
		}}
	case wasmatrix.RemoveModule:
		e.At = int64(c.At)
		e.Command = &log.Envelope_RemoveModule{RemoveModule: &log.RemoveModule{
			Request: encodeRequest(c.Request), Digest: c.Digest[:],
		}}
	case wasmatrix.CollectGarbage:
		e.At = int64(c.At)
		e.Command = &log.Envelope_CollectGarbage{CollectGarbage: &log.CollectGarbage{
			FinalBefore: int64(c.FinalBefore), MaxFinal: int64(c.MaxFinal),
			ModulesBefore: int64(c.ModulesBefore), Limit: int64(c.Limit),
		}}
	case wasmatrix.RecordDenials:
		e.At = int64(c.At)
		e.Command = &log.Envelope_RecordDenials{RecordDenials: &log.RecordDenials{
			Request: encodeRequest(c.Request), Node: string(c.Node), Boot: string(c.Boot), Denials: encodeEach(c.Denials, encodeDenial),
		}}
	default:
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "cannot encode a command of type %T", cmd)
	}
	return e, nil
}

func encodeStartItem(it *wasmatrix.StartItem) *log.StartItem {
	return &log.StartItem{
		Request: encodeRequest(it.Request),
		Spec:    encodeSpec(it.Spec),
		Placements: encodeEach(it.Placements, func(p *wasmatrix.Placement) *log.Placement {
			return &log.Placement{Instance: string(p.Instance), Node: string(p.Node)}
		}),
		Assignments: encodeEach(it.Assignments, func(a **wasmatrix.Assignment) *log.Assignment { return encodeAssignment(*a) }),
	}
}

func encodeReport(r *wasmatrix.Report) *log.Report {
	return &log.Report{
		Instance: string(r.Instance), Epoch: r.Epoch, Attempt: r.Attempt, Seq: r.Seq,
		Status: log.Status(r.Status), Reason: r.Reason, Error: string(r.Error), ExitCode: r.ExitCode,
		Crash: encodeCrash(r.Crash), At: int64(r.At),
	}
}

// encodeDenial leaves the time out: that of a fact is the leader's.
func encodeDenial(d *wasmatrix.Denial) *log.Denial {
	return &log.Denial{
		Instance: string(d.Instance), Epoch: d.Epoch, Capability: string(d.Capability),
		Operation: d.Operation, Reason: d.Reason, Count: d.Count,
	}
}

func (d *decoder) command(env *log.Envelope) wasmatrix.Command {
	at := wasmatrix.Time(env.At)
	switch e := env.Command.(type) {
	case *log.Envelope_InitCluster:
		return wasmatrix.InitCluster{At: at, Cluster: wasmatrix.ClusterID(e.InitCluster.GetCluster())}
	case *log.Envelope_RegisterNode:
		c := e.RegisterNode
		return wasmatrix.RegisterNode{At: at, Registration: wasmatrix.Registration{
			ID: wasmatrix.NodeID(c.GetId()), Boot: wasmatrix.BootID(c.GetBoot()), Addr: c.GetAddr(), Version: c.GetVersion(),
			Labels: decodePairs(c.GetLabels()), Capacity: decodeCapacity(c.GetCapacity()),
		}}
	case *log.Envelope_MarkNodeDown:
		c := e.MarkNodeDown
		return wasmatrix.MarkNodeDown{At: at, Node: wasmatrix.NodeID(c.GetNode()), Boot: wasmatrix.BootID(c.GetBoot()), Reason: c.GetReason()}
	case *log.Envelope_DrainNode:
		c := e.DrainNode
		return wasmatrix.DrainNode{At: at, Request: d.request(c.GetRequest()), Node: wasmatrix.NodeID(c.GetNode()), Drain: c.GetDrain()}
	case *log.Envelope_ForgetNode:
		c := e.ForgetNode
		return wasmatrix.ForgetNode{At: at, Request: d.request(c.GetRequest()), Node: wasmatrix.NodeID(c.GetNode())}
	case *log.Envelope_StartInstances:
		return wasmatrix.StartInstances{At: at, Items: decodeEach(e.StartInstances.GetItems(), d.startItem)}
	case *log.Envelope_PlaceInstances:
		return wasmatrix.PlaceInstances{At: at, Items: decodeEach(e.PlaceInstances.GetItems(), func(it *log.PlaceItem) wasmatrix.PlaceItem {
			return wasmatrix.PlaceItem{Instance: wasmatrix.InstanceID(it.GetInstance()), Epoch: it.GetEpoch(), Node: wasmatrix.NodeID(it.GetNode())}
		})}
	case *log.Envelope_StopInstances:
		return wasmatrix.StopInstances{At: at, Items: decodeEach(e.StopInstances.GetItems(), func(it *log.StopItem) wasmatrix.StopItem {
			return wasmatrix.StopItem{Request: d.request(it.GetRequest()), Instance: wasmatrix.InstanceID(it.GetInstance())}
		})}
	case *log.Envelope_RestartInstance:
		c := e.RestartInstance
		return wasmatrix.RestartInstance{
			At: at, Request: d.request(c.GetRequest()), Instance: wasmatrix.InstanceID(c.GetInstance()), MinEpoch: c.GetMinEpoch(),
		}
	case *log.Envelope_ApplyReports:
		c := e.ApplyReports
		return wasmatrix.ApplyReports{
			At: at, Node: wasmatrix.NodeID(c.GetNode()), Boot: wasmatrix.BootID(c.GetBoot()),
			Reports: decodeEach(c.GetReports(), d.report),
		}
	case *log.Envelope_AssignCapability:
		c := e.AssignCapability
		return wasmatrix.AssignCapability{At: at, Request: d.request(c.GetRequest()), Assignment: decodeAssignment(c.GetAssignment())}
	case *log.Envelope_RevokeCapability:
		c := e.RevokeCapability
		return wasmatrix.RevokeCapability{
			At: at, Request: d.request(c.GetRequest()),
			Instance: wasmatrix.InstanceID(c.GetInstance()), Capability: wasmatrix.CapabilityID(c.GetCapability()),
		}
	case *log.Envelope_PutProvider:
		c := e.PutProvider
		return wasmatrix.PutProvider{At: at, Request: d.request(c.GetRequest()), Provider: d.provider(c.GetProvider()), Create: c.GetCreate()}
	case *log.Envelope_RemoveProvider:
		c := e.RemoveProvider
		return wasmatrix.RemoveProvider{At: at, Request: d.request(c.GetRequest()), Provider: wasmatrix.ProviderID(c.GetProvider())}
	case *log.Envelope_AddModule:
		c := e.AddModule
		return wasmatrix.AddModule{At: at, Request: d.request(c.GetRequest()), Module: d.module(c.GetModule()), Name: c.GetName()}
	case *log.Envelope_RemoveModule:
		c := e.RemoveModule
		return wasmatrix.RemoveModule{At: at, Request: d.request(c.GetRequest()), Digest: d.digest(c.GetDigest())}
	case *log.Envelope_CollectGarbage:
		c := e.CollectGarbage
		return wasmatrix.CollectGarbage{
			At: at, FinalBefore: wasmatrix.Time(c.GetFinalBefore()), MaxFinal: int(c.GetMaxFinal()),
			ModulesBefore: wasmatrix.Time(c.GetModulesBefore()), Limit: int(c.GetLimit()),
		}
	case *log.Envelope_RecordDenials:
		c := e.RecordDenials
		return wasmatrix.RecordDenials{
			At: at, Request: d.request(c.GetRequest()), Node: wasmatrix.NodeID(c.GetNode()), Boot: wasmatrix.BootID(c.GetBoot()),
			Denials: decodeEach(c.GetDenials(), func(n *log.Denial) wasmatrix.Denial {
				return wasmatrix.Denial{
					Instance: wasmatrix.InstanceID(n.GetInstance()), Epoch: n.GetEpoch(), Capability: wasmatrix.CapabilityID(n.GetCapability()),
					Operation: n.GetOperation(), Reason: n.GetReason(), Count: n.GetCount(),
				}
			}),
		}
	default:
		d.fail("command")
		return nil
	}
}

func (d *decoder) startItem(it *log.StartItem) wasmatrix.StartItem {
	return wasmatrix.StartItem{
		Request: d.request(it.GetRequest()),
		Spec:    d.spec(it.GetSpec()),
		Placements: decodeEach(it.GetPlacements(), func(p *log.Placement) wasmatrix.Placement {
			return wasmatrix.Placement{Instance: wasmatrix.InstanceID(p.GetInstance()), Node: wasmatrix.NodeID(p.GetNode())}
		}),
		Assignments: decodeEach(it.GetAssignments(), decodeAssignment),
	}
}

func (d *decoder) report(r *log.Report) wasmatrix.Report {
	return wasmatrix.Report{
		Instance: wasmatrix.InstanceID(r.GetInstance()), Epoch: r.GetEpoch(), Attempt: r.GetAttempt(), Seq: r.GetSeq(),
		Status: d.status(r.GetStatus()), Reason: r.GetReason(), Error: interned(knownCodes, r.GetError()), ExitCode: r.ExitCode,
		Crash: decodeCrash(r.GetCrash()), At: wasmatrix.Time(r.GetAt()),
	}
}
