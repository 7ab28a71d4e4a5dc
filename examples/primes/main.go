// Primes counts the prime numbers up to a limit by trial division: work for the
// CPU that needs hardly any memory.
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	limit := 1_000_000
	if len(os.Args) > 1 {
		var err error
		if limit, err = strconv.Atoi(os.Args[1]); err != nil || limit < 0 {
			fmt.Fprintln(os.Stderr, "usage: primes [LIMIT]")
			os.Exit(2)
		}
	}
	fmt.Printf("%d primes up to %d\n", count(limit), limit)
}

func count(limit int) int {
	n := 0
	for i := 2; i <= limit; i++ {
		if isPrime(i) {
			n++
		}
	}
	return n
}

func isPrime(n int) bool {
	if n%2 == 0 {
		return n == 2
	}
	for d := 3; d*d <= n; d += 2 {
		if n%d == 0 {
			return false
		}
	}
	return true
}
