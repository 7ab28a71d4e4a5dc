package fsm

import (
	"slices"

	"github.com/wasmatrix/wasmatrix"
)

func (t *tx) applyReports(c wasmatrix.ApplyReports) any {
	changed := make([]bool, len(c.Reports))
	n, ok := t.Node(c.Node)
	if !ok || n.Boot != c.Boot {
		return changed
	}
	for r := range c.Reports {
		changed[r] = t.report(n.ID, &c.Reports[r])
	}
	return changed
}

// report takes one statement, unless it is not the newest about an instance
// that the node holds in this epoch.
func (t *tx) report(node wasmatrix.NodeID, r *wasmatrix.Report) bool {
	old, ok := t.Instance(r.Instance)
	if !ok || !old.Status.OnNode() || old.Node != node || old.Epoch != r.Epoch || r.Attempt == 0 || !old.After(r.Epoch, r.Attempt, r.Seq) {
		return false
	}
	i := *old
	i.Attempt, i.Seq = r.Attempt, r.Seq
	i.ModifyIndex = t.index
	i.Reason = truncate(r.Reason, wasmatrix.MaxReason)

	switch r.Status {
	case wasmatrix.StatusStarting:
		counted := t.countAttempts(old, &i)
		i.StartedAt = 0
		t.setStatus(&i, r.Status)
		t.putInstance(old, &i)
		if !counted && old.Status != i.Status {
			t.instanceFact(wasmatrix.FactRestarting, &i, i.Reason)
		}

	case wasmatrix.StatusRunning:
		t.countAttempts(old, &i)
		again := old.Status == wasmatrix.StatusRunning && old.Attempt == i.Attempt
		if !again {
			i.StartedAt = t.now
		}
		t.setStatus(&i, r.Status)
		t.putInstance(old, &i)
		if !again {
			t.instanceFact(wasmatrix.FactStarted, &i, i.Reason)
		}

	case wasmatrix.StatusBackoff, wasmatrix.StatusCrashed:
		t.countAttempts(old, &i)
		crash := t.crashOf(old, r)
		i.ExitCode = r.ExitCode
		i.StartedAt = 0
		if crash != nil {
			i.Crashes++
			i.LastError = interned(knownCodes, truncate(string(r.Error), maxID))
			if i.LastError == "" {
				i.LastError = wasmatrix.CodeCrashDetected
			}
		}
		t.setStatus(&i, r.Status)
		t.putInstance(old, &i)
		if crash != nil {
			t.addCrash(i.ID, crash)
			t.instanceFact(wasmatrix.FactCrashed, &i, crashReason(crash, i.Reason))
		} else {
			t.instanceFact(wasmatrix.FactExited, &i, i.Reason)
		}
		if i.Status.Final() {
			t.instanceFact(wasmatrix.FactFailed, &i, i.Reason)
		}

	case wasmatrix.StatusStopped:
		t.countAttempts(old, &i)
		i.ExitCode = r.ExitCode
		i.StartedAt = 0
		t.setStatus(&i, r.Status)
		t.putInstance(old, &i)
		kind := wasmatrix.FactExited
		if i.StopRequested {
			kind = wasmatrix.FactStopped
		}
		t.instanceFact(kind, &i, i.Reason)

	default:
		return false // no status that a node may report
	}
	return true
}

// countAttempts counts the restarts that the node made since its last report
// that was taken. Attempts count up within an epoch, so the sum is right even
// where the reports between were lost.
// It reports whether there were any.
func (t *tx) countAttempts(old, i *wasmatrix.Instance) bool {
	before := max(old.Attempt, 1)
	if i.Attempt <= before {
		return false
	}
	i.Restarts += i.Attempt - before
	t.instanceFact(wasmatrix.FactRestarting, i, "")
	return true
}

// crashOf returns the bounded record of the crash that a report is about, or
// nil where the execution ended well.
func (t *tx) crashOf(old *wasmatrix.Instance, r *wasmatrix.Report) *wasmatrix.Crash {
	at := r.At
	if at == 0 {
		at = t.now
	}
	if r.Crash == nil {
		if r.Status == wasmatrix.StatusBackoff && r.Error == "" {
			return nil // exited with 0 and is to be started again
		}
		return &wasmatrix.Crash{
			Kind: wasmatrix.CrashHost, Message: truncate(r.Reason, wasmatrix.MaxCrashMessage), ExitCode: r.ExitCode,
			Node: old.Node, Epoch: r.Epoch, Attempt: r.Attempt, At: at,
		}
	}
	c := *r.Crash
	c.Kind = interned(knownKinds, truncate(string(c.Kind), maxID))
	c.Message = truncate(c.Message, wasmatrix.MaxCrashMessage)
	c.Stack = slices.Clone(c.Stack[:min(len(c.Stack), wasmatrix.MaxCrashFrames)])
	for n, frame := range c.Stack {
		c.Stack[n] = truncate(frame, wasmatrix.MaxCrashFrame)
	}
	c.Node, c.Epoch, c.Attempt = old.Node, r.Epoch, r.Attempt
	if c.At == 0 {
		c.At = at
	}
	return &c
}

func crashReason(c *wasmatrix.Crash, reason string) string {
	if reason != "" {
		return reason
	}
	if c.Message != "" {
		return string(c.Kind) + ": " + c.Message
	}
	return string(c.Kind)
}
