// Package abi names what guests import from the host and the codes they get
// back. It is the contract of docs/abi.md: what is here is never changed, only
// added to.
//
// All parameters and results are i32 unless said otherwise. Pointers and lengths
// are unsigned; a pair of them names bytes of the guest's memory, and is checked
// before anything is read, written or allocated. Integers in memory are
// little-endian. A result below zero is an [Error], negated, and then nothing was
// done unless the error says so.
//
// Names (capability IDs, keys, prefixes, topics, groups, methods) are UTF-8, and
// one that is too long or malformed is ErrInvalid. Contents (values, messages,
// URLs, headers, pieces, output) that are too long are ErrTooLarge. A buffer may
// have any length, also 0.
package abi

// Module is the name under which guests import the functions of this package.
const Module = "wasmatrix"

// Version of the contract. A host of a higher version serves guests of all
// lower ones.
//
//	1  input_len, input_read, output_write
//	2  abi_version, result_read, error_read, and all of kv, http and messaging
const Version = 2

// Functions of an invocation that takes and gives bytes.
const (
	// InputLen () is the length of the input in bytes.
	InputLen = "input_len"
	// InputRead (offset, ptr, len) copies input to the guest's memory, and
	// returns how many bytes it copied.
	InputRead = "input_read"
	// OutputWrite (ptr, len) appends to the output. It returns 0.
	OutputWrite = "output_write"
)

// Functions for every guest.
const (
	// VersionFunc () is the host's [Version].
	VersionFunc = "abi_version"
	// ResultRead (offset, ptr, len) copies of the last result that a call has
	// given in full or in part, and returns how many bytes it copied; 0 is its end.
	// The next call that gives a result replaces it, and so does the end of the
	// invocation, by none. Results are what KVGet, KVList, HTTPHeader and MsgReceive
	// give.
	ResultRead = "result_read"
	// ErrorRead (ptr, len) copies a sentence for people about the last call that
	// failed within the invocation, as far as it fits, and returns the length of all
	// of it, at most MaxErrorText.
	ErrorRead = "error_read"
)

// Functions of kv. Each begins with (cap, cap_len), the ID of the capability.
// A result that does not fit into the buffer is given as far as it fits; what is
// returned is its whole length, and [ResultRead] gives the rest.
const (
	// KVGet (cap, cap_len, key, key_len, buf, buf_len, rev) returns the length of
	// the value, or ErrNotFound. Where rev is not 0, the u64 there becomes the
	// entry's revision, with ErrNotFound 0: what KVCAS expects then.
	KVGet = "kv_get"
	// KVSet (cap, cap_len, key, key_len, value, value_len, ttl i64, rev) returns
	// 0. The entry lives for ttl milliseconds; 0 is for ever. Where rev is not 0, the
	// u64 there becomes the entry's revision.
	KVSet = "kv_set"
	// KVCAS (cap, cap_len, key, key_len, expect i64, value, value_len, ttl i64,
	// rev) is KVSet if the entry's revision is expect; 0 expects that there is
	// none. Otherwise it returns ErrConflict, and the u64 at rev is the revision
	// that there is.
	KVCAS = "kv_cas"
	// KVDelete (cap, cap_len, key, key_len) returns 1, or 0 where there was none.
	KVDelete = "kv_delete"
	// KVList (cap, cap_len, prefix, prefix_len, after, after_len, limit, buf,
	// buf_len) returns the length of a page: the keys that begin with prefix and
	// come after after in order of bytes, at most limit of them; 0 is as many as
	// the host gives. A page is u32 count, u32 1 if more follow or 0, and then each
	// key as u32 length and bytes. It has at most MaxValue bytes and MaxListLimit
	// keys, and may have fewer than limit and yet be followed by more.
	KVList = "kv_list"
)

// Functions of http. A request is open from HTTPOpen to HTTPClose, under a
// handle above zero.
const (
	// HTTPOpen (cap, cap_len, method, method_len, url, url_len, header,
	// header_len, timeout i64) opens a request and returns its handle. The header
	// is lines of "Name: value", each ended by "\n" or "\r\n". Timeout is in
	// milliseconds; 0 is the provider's.
	HTTPOpen = "http_open"
	// HTTPWrite (handle, ptr, len) sends the next piece of the body. It blocks
	// until the piece is on its way, and returns 0. A request with a
	// "Content-Length" header is sent so, and any other in chunks. After an error
	// HTTPSend may still give a response: some servers answer before they have all.
	HTTPWrite = "http_write"
	// HTTPSend (handle) ends the body, waits for the response and returns its
	// status.
	HTTPSend = "http_send"
	// HTTPHeader (handle, buf, buf_len) returns the length of the response's
	// header, in the form of HTTPOpen.
	HTTPHeader = "http_header"
	// HTTPRead (handle, buf, buf_len) waits for bytes of the response's body, and
	// returns how many it has read, at most MaxPiece; 0 is its end, or that of the buffer.
	HTTPRead = "http_read"
	// HTTPClose (handle) ends a request, also one that is under way. It returns 0.
	HTTPClose = "http_close"
)

// Functions of messaging. A subscription is open from MsgSubscribe to
// MsgUnsubscribe, under a handle above zero.
const (
	// MsgPublish (cap, cap_len, topic, topic_len, data, data_len) returns 0 when
	// the message is with the messaging system, which delivers it at most once.
	MsgPublish = "msg_publish"
	// MsgSubscribe (cap, cap_len, topic, topic_len, group, group_len, mode)
	// returns a handle. The topic may have wildcards. Of the subscriptions with
	// the same group, if that is not empty, one gets each message. Mode is
	// SubscribePull or SubscribePush.
	MsgSubscribe = "msg_subscribe"
	// MsgReceive (handle, timeout i64, buf, buf_len) waits for a message, for
	// timeout milliseconds or, below 0, for as long as it takes, and returns its
	// length, or ErrTimeout. 0 takes one that has come already. A message is u32
	// handle of the subscription, u32 count of messages that were dropped before
	// it, because the guest was slow, u32 length of the topic, the topic, and the
	// data to the end.
	MsgReceive = "msg_receive"
	// MsgUnsubscribe (handle) ends a subscription. It returns 0.
	MsgUnsubscribe = "msg_unsubscribe"
)

// How messages of a subscription come.
const (
	SubscribePull = 0 // by MsgReceive
	// SubscribePush calls what a reactor exports as OnMessage for each, as an
	// invocation whose input is the message in the form of MsgReceive. What it
	// returns and its output are for nobody. As any invocation it ends the instance
	// by a trap, or when it takes longer than the node allows.
	SubscribePush = 1
)

// OnMessage () -> i32 is what a reactor exports to have messages pushed. Of
// modules without it, and of commands, SubscribePush is ErrInvalid.
const OnMessage = "wasmatrix_on_message"

// Bounds of what is handed over in one call, in bytes.
const (
	MaxCapabilityID = 64
	MaxKey          = 1024 // and of a prefix; 1 is the least of a key
	MaxValue        = 1 << 20
	MaxMessage      = 1 << 20
	MaxTopic        = 255
	MaxGroup        = 64
	MaxMethod       = 32
	MaxURL          = 8 << 10
	MaxHeader       = 64 << 10
	MaxPiece        = 1 << 20 // of a body
	MaxListLimit    = 10_000  // keys
	MaxOpen         = 64      // requests and subscriptions of one instance that are open at a time
	MaxErrorText    = 512
)

// Error is what a host function returns, negated, in place of a result.
type Error int32

// The errors.
const (
	ErrBounds      Error = 1  // memory beyond the guest's own was named
	ErrTooLarge    Error = 2  // more than the host takes
	ErrNoCall      Error = 3  // no invocation that takes bytes is under way
	ErrDenied      Error = 4  // no such assignment, or its permissions do not allow it
	ErrNotFound    Error = 5  // no such key
	ErrConflict    Error = 6  // the revision is not the one expected
	ErrInvalid     Error = 7  // an argument is malformed
	ErrUnavailable Error = 8  // the provider is stopped or out of reach; the effect of a write is unknown
	ErrLimit       Error = 9  // a limit or quota was reached
	ErrTimeout     Error = 10 // time ran out; the effect of a write is unknown
	ErrHandle      Error = 11 // no such request or subscription is open
	ErrFailed      Error = 12 // the other side failed, as a host that cannot be reached
)
