package abi

// WASI is the import module of WASI preview 1, of which hosts provide what
// docs/abi.md says.
const WASI = "wasi_snapshot_preview1"

// Provides reports whether hosts provide functions of an import module. Which of
// them is a matter of the host's version.
func Provides(importModule string) bool { return importModule == Module || importModule == WASI }

// Functions maps each function of [Module] to the type of capability provider
// that it needs, "" for none.
var Functions = map[string]string{
	InputLen: "", InputRead: "", OutputWrite: "", VersionFunc: "", ResultRead: "", ErrorRead: "",
	KVGet: "kv", KVSet: "kv", KVCAS: "kv", KVDelete: "kv", KVList: "kv",
	HTTPOpen: "http", HTTPWrite: "http", HTTPSend: "http", HTTPHeader: "http", HTTPRead: "http", HTTPClose: "http",
	MsgPublish: "messaging", MsgSubscribe: "messaging", MsgReceive: "messaging", MsgUnsubscribe: "messaging",
}
