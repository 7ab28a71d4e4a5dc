package capability

import "context"

// Providers finds what carries out the calls under a scope, by the scope's
// Provider. Their errors are CAPABILITY_NOT_FOUND where there is no such
// provider, PERMISSION_DENIED where it is of another type, and
// PROVIDER_UNAVAILABLE where it is stopped or cannot be reached. What they
// return serves any scope of the provider, and may change with every call.
type Providers interface {
	KV(ctx context.Context, s *Scope) (KV, error)
	HTTP(ctx context.Context, s *Scope) (HTTP, error)
	Messaging(ctx context.Context, s *Scope) (Messaging, error)
}

// Host carries out calls that come from other processes.
type Host interface {
	// Admit checks what a caller claims against what its instance was given, and
	// returns the scope by which the call is to be carried out, with its rules.
	// PERMISSION_DENIED otherwise.
	Admit(ctx context.Context, claimed *Scope) (*Scope, error)
	// What Providers returns here checks the permission of each call itself.
	Providers
}
