//go:build !race

package wasmatrix_test

const raceEnabled = false
