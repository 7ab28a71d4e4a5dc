// Package httpout is the http provider: the way out of the cluster for guests.
// A [Provider] implements [capability.HTTP] on net/http.
//
// What a request must pass, in this order:
//
//   - The URL is taken apart once, its host is brought into one form, and what is
//     sent is built from these parts, so that what is checked is what is used.
//   - The host must be allowed by the scope's rules and by the provider's
//     configuration. The hosts of redirects are held to the same.
//   - Every address is checked when its socket connects, after resolution: a name
//     that resolves to another address the next time gains nothing. Addresses that
//     are not public are forbidden unless the configuration allows them.
//   - Before each write to a socket those who send are asked whether they may
//     still act. A process that was paused past its lease sends nothing more.
//
// A refusal says the same whether the host is not permitted or an address of it
// is forbidden, so that guests cannot find out what is inside the network.
//
// Connections are kept and used again only within one assignment of one
// instance. Requests of different guests never follow each other on a connection,
// so neither a server that tells requests apart in another way than its client,
// nor one that authenticates connections, can mix up guests. Within an assignment
// it does no harm that a connection was checked earlier: it still ends at the
// address that was checked, and the rules on addresses do not change during the
// life of a provider; the rules on hosts are asked for each request. HTTP/2
// connections are used for the host and port alone for which they were made.
//
// Bodies go through in pieces. Nothing is decompressed: the guest gets what the
// server sent, so no small answer becomes a large one in the host's memory.
package httpout
