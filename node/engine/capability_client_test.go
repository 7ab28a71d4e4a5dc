package engine

import "github.com/wasmatrix/wasmatrix/capability"

// What the gate gives each epoch of an instance is what guests call.
var _ Capabilities = (*capability.Client)(nil)
