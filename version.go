package wasmatrix

// Version is the release of this build, set by the linker.
var Version = "0.1.0-dev"
