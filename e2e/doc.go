// Package e2e tests wasmatrix as its users meet it: real processes on loopback
// with real disks, driven through the command line and the API, and killed,
// paused and restarted while they work.
package e2e
