// Package messaging is the provider of messages: topics, to which guests publish
// and subscribe. It hides NATS.
//
// A [Server] is core NATS inside a server process of the cluster: no JetStream,
// no monitoring port. Servers route to one another as the member list says. A
// [Client] is the provider in a node process: all guests of the node share its
// connections with any one of the servers, or with a NATS of one's own by URL.
//
// # What is promised
//
// Delivery is at most once. [Client.Publish] returns when a server has the
// message and has passed it on to all whom it knows to have subscribed. Messages
// of one publisher come in order. [Client.Subscribe] returns when every server
// that is listed and can be reached knows of the subscription: what is published
// from then on comes. (Core NATS alone promises that for one server only, since
// servers tell one another of subscriptions asynchronously. Servers of this package
// answer a question that follows the subscription on its way; see sync.go. A NATS
// of one's own does not, nor does a server that is listed and out of reach, for
// which Subscribe waits only a moment.)
//
// When a connection breaks, the client finds another server and subscribes anew by
// itself; messages of the meantime are lost and not counted. Messages that a guest is
// too slow for are dropped, the oldest first, and counted exactly.
//
// # The lease
//
// A process that was paused must not, when it goes on, send what it had meant to
// send before. So nothing is buffered while there is no connection, and each write
// to the socket asks all publishers in flight, right before, whether they may
// still act ([capability.Scope].Alive). If one may not, nothing is written and the
// connection is broken. What is with a server, or in the buffers of the machine, is
// beyond recall: NATS knows no fence, so that a receiver cannot tell a late
// message of a superseded epoch. Who needs that puts the epoch into the message.
//
// # Reserved topics
//
// Topics that begin with "$" or "_INBOX" belong to NATS and to this package.
// Guests can neither publish nor subscribe to them, and ">" does not show them.
package messaging
