package agent

import (
	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
	"github.com/wasmatrix/wasmatrix/module"
	"github.com/wasmatrix/wasmatrix/node"
	"github.com/wasmatrix/wasmatrix/node/engine"
	"github.com/wasmatrix/wasmatrix/node/engine/compile"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// What the block node of a configuration says to each room of a node process:
// the store of its modules, the engine, and the node itself. What comes from
// elsewhere is not set: directories, commands, loggers, and other rooms.

func nodeStoreConfig(cfg *config.Config) module.Config {
	return module.Config{MaxBytes: int64(cfg.Node.ModuleCache)}
}

func engineConfig(cfg *config.Config) engine.Config {
	c := cfg.Node.Compile
	return engine.Config{
		Compile: compile.Config{
			DirBytes: int64(c.Cache), Parallel: c.Parallel, Memory: c.Memory, Timeout: c.Timeout,
			LoadTimeout: c.LoadTimeout, LoadMemory: c.LoadMemory,
			Limits: meter.Limits(cfg.Node.ModuleLimits),
		},
		IdleModules: cfg.Node.IdleModules, ModuleMemory: cfg.Node.ModuleMemory, MaxStack: cfg.Node.CallStack,
	}
}

func nodeConfig(cfg *config.Config) node.Config {
	n := cfg.Node
	return node.Config{
		ID: wasmatrix.NodeID(cfg.Name), Labels: n.Labels,
		Capacity: wasmatrix.Capacity{Memory: n.Memory, Instances: uint32(n.Instances)},
		Starts:   n.StartParallelism, InvokeQueue: n.InvokeQueue,
		Capabilities: capability.Limits{
			Calls: n.Capabilities.Calls, Concurrent: n.Capabilities.Concurrent, Bytes: int(n.Capabilities.Bytes), Deadline: n.Capabilities.Deadline,
		},
		LogRing: int(n.LogRing), LogRate: int(n.LogRate), LogBytes: int(n.LogTotal), KeepLogs: n.LogEnded,
	}
}
