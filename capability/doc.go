// Package capability is the contract between guests and what carries their
// effects out, and the gate between the two.
//
// A [Gate] belongs to a node. It makes a [Client] for each epoch of an instance,
// which is all that the engine's host functions call. Every call of a client
// passes one function, [Client.call]: lease, assignment, permission, limits,
// provider, in this order. Providers implement [KV], [HTTP] and [Messaging];
// what they get of the caller is a [Scope], which the gate makes and no guest
// can forge.
//
// The subpackages are the providers: kv, httpout and messaging; and remote,
// which carries calls to another process that has the provider.
package capability
