// Relay uses all three kinds of capabilities: on a message on the topic relay.in,
// whose data is a URL, it fetches that under the capability "web", keeps the
// status and the length of the body in kv under "relay/URL", as "200 1234", and
// publishes "URL 200 1234" on relay.out under "msg". Where the fetch fails it is
// "URL error WHY". See ../../README.md.
//
// It is a reactor, which subscribes when it begins; where that was denied, listen
// may be invoked later.
package main

// main is not called in a reactor.
func main() {}
