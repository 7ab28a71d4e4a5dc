package main

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"wasmatrix": main})
}

type fakeKey struct{}

// TestScripts runs the real command line, in processes of their own, against a
// fake server.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			fake, stop := startFake()
			env.Defer(stop)
			env.Values[fakeKey{}] = fake
			for _, key := range config.Keys() {
				env.Setenv(config.EnvVar(key), "")
			}
			env.Setenv(envAddr, fake.url)
			env.Setenv("URL", fake.url)
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // not a second for each process
			for name, data := range map[string][]byte{
				"hello.wasm": smallModule(0), "big.wasm": smallModule(3 << 20), "empty.wasm": {}, "text.wasm": []byte("hello"),
				"component.wasm": []byte("\x00asm\x0d\x00\x01\x00"), "64KiB": make([]byte, wasmatrix.MaxStdin),
				"4MiB+1": make([]byte, wasmatrix.MaxInvokeData+1),
			} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), data, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":    scriptCode,
			"request": scriptRequest,
			"fake":    scriptFake,
			"await":   scriptAwait,
		},
	})
}

// scriptCode runs wasmatrix and wants an exit code: code 2 ps --nope.
func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if err != nil || neg {
		ts.Fatalf("usage: code N ARGS...")
	}
	got := 0
	if err := ts.Exec("wasmatrix", args[1:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// scriptRequest writes the last request of a kind that the server had, since it was
// last written, to a file, without its random ID: request StartInstanceRequest FILE.
// With "!" there must be none: ! request StartInstanceRequest.
func scriptRequest(ts *testscript.TestScript, neg bool, args []string) {
	fake := ts.Value(fakeKey{}).(*fakeServer)
	fake.mu.Lock()
	m := fake.last[args[0]]
	delete(fake.last, args[0])
	fake.mu.Unlock()
	if neg {
		if m != nil {
			ts.Fatalf("there was a %s: %s", args[0], m)
		}
		return
	}
	if m == nil {
		ts.Fatalf("there was no %s", args[0])
	}
	if f := m.ProtoReflect().Descriptor().Fields().ByName("request_id"); f != nil {
		if m.ProtoReflect().Get(f).String() == "" {
			ts.Fatalf("the request has no ID")
		}
		m.ProtoReflect().Clear(f)
	}
	b, err := marshal(m)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), append(b, '\n'), 0o600))
}

// patience bounds waiting for what must come; nothing is measured by it.
const patience = 30 * time.Second

// scriptAwait waits until a file has what a regular expression matches.
func scriptAwait(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[1])
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && want.Match(b) {
			return
		}
	}
	ts.Fatalf("%s has no match of %s", args[0], args[1])
}

// scriptFake changes the server, or waits for it:
//
//	fake clear         forgets which streams were opened
//	fake stream NAME   waits until a stream was opened
//	fake hold          lets streams of logs stay open
//	fake leaderless    takes the leader away
//	fake pushed N      wants N modules to have been pushed
//	fake restored FILE wants a file to have been restored
func scriptFake(ts *testscript.TestScript, _ bool, args []string) {
	fake := ts.Value(fakeKey{}).(*fakeServer)
	if args[0] == "stream" {
		if !fake.waitStream(args[1]) {
			ts.Fatalf("there was no stream of %s", args[1])
		}
		return
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	switch args[0] {
	case "hold":
		fake.hold = true
	case "leaderless":
		fake.leader = ""
	case "clear":
		clear(fake.streams)
	case "pushed":
		if strconv.Itoa(len(fake.pushed)) != args[1] {
			ts.Fatalf("%d modules were pushed", len(fake.pushed))
		}
	case "restored":
		if string(fake.restored) != ts.ReadFile(args[1]) {
			ts.Fatalf("%d bytes were restored", len(fake.restored))
		}
	default:
		ts.Fatalf("unknown: fake %s", strings.Join(args, " "))
	}
}
