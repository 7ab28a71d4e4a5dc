package node

import (
	"slices"

	"github.com/wasmatrix/wasmatrix"
)

// maxCrashDetails bounds the details of all instances of a node, each of which
// may have some 14 KiB.
const maxCrashDetails = 4096

// crashLog is what the node remembers of the crashes of one instance, oldest
// first. It is guarded by Node.mu.
type crashLog struct{ details []wasmatrix.CrashDetail }

// crashShelf lists the owners of all details in the order in which they came,
// so that the oldest go first. It is guarded by Node.mu.
type crashShelf struct{ owners []*crashLog }

// keepCrash remembers the crash that has just happened.
func (n *Node) keepCrash(in *instance, d wasmatrix.CrashDetail) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d.Epoch, d.Attempt = in.epoch, in.attempt
	if in.crashes == nil {
		in.crashes = &crashLog{}
	}
	l := in.crashes
	l.details = append(l.details, d)
	if len(l.details) > wasmatrix.MaxCrashes {
		l.details = slices.Delete(l.details, 0, 1)
		if i := slices.Index(n.crashes.owners, l); i >= 0 {
			n.crashes.owners = slices.Delete(n.crashes.owners, i, i+1)
		}
	}
	n.crashes.owners = append(n.crashes.owners, l)
	if len(n.crashes.owners) > maxCrashDetails {
		oldest := n.crashes.owners[0]
		n.crashes.owners = slices.Delete(n.crashes.owners, 0, 1)
		oldest.details = slices.Delete(oldest.details, 0, 1)
	}
}

// CrashDetails returns what is remembered of the crashes of an instance, oldest
// first. It is nil where nothing is.
func (n *Node) CrashDetails(id wasmatrix.InstanceID) []wasmatrix.CrashDetail {
	n.mu.Lock()
	defer n.mu.Unlock()
	var l *crashLog
	if in := n.instances[id]; in != nil {
		l = in.crashes
	} else if g := n.ended.byID[id]; g != nil {
		l = g.crashes
	}
	if l == nil {
		return nil
	}
	return slices.Clone(l.details)
}
