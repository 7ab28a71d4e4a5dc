package messaging_test

import "os"

func runChild() {}

func exit(code int) { os.Exit(code) }

