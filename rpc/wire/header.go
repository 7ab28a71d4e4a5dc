package wire

// Headers of our own.
const (
	// HeaderForwarded marks a request that a server sent on to the leader: who
	// receives it must lead. Its value is that server's address.
	HeaderForwarded = "Wasmatrix-Forwarded"
	// HeaderLeader is in the answer to a request that was forwarded: the API
	// address of the leader.
	HeaderLeader = "Wasmatrix-Leader"
	// HeaderCode is in the answer to a failed call that is not a stream: the code.
	HeaderCode = "Wasmatrix-Code"
)
