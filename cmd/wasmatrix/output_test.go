package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

func TestTableColors(t *testing.T) {
	tab := newTable("NAME", "STATUS", "REASON")
	tab.add("a", "running", "")
	tab.add("bcd", "crashed", "x\x1b[2J")
	var plain, colored bytes.Buffer
	if err := errors.Join(tab.write(&plain, false), tab.write(&colored, true)); err != nil {
		t.Fatal(err)
	}
	want := "NAME  STATUS   REASON\na     running\nbcd   crashed  x\\x1b[2J\n"
	if plain.String() != want {
		t.Errorf("got\n%s\nwant\n%s", plain.String(), want)
	}
	if !strings.Contains(colored.String(), "\x1b[32mrunning\x1b[0m") || !strings.Contains(colored.String(), "\x1b[31mcrashed\x1b[0m") {
		t.Errorf("got %q", colored.String())
	}
	for _, sgr := range []string{"\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[0m"} {
		colored = *bytes.NewBuffer(bytes.ReplaceAll(colored.Bytes(), []byte(sgr), nil))
	}
	if colored.String() != want {
		t.Errorf("without its colours the table is another:\n%s", colored.String())
	}
}

// TestPrintable: nothing that reaches a table moves the cursor, whatever a guest
// has written.
func TestPrintable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s")
		got := printable(s)
		if strings.ContainsFunc(got, unprintable) {
			t.Errorf("%q becomes %q", s, got)
		}
		if printable(got) != got {
			t.Errorf("%q is not stable", got)
		}
	})
	if s := "päth/to x × 2"; printable(s) != s {
		t.Errorf("%q becomes %q", s, printable(s))
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 59 * time.Second: "59s", time.Minute: "1m", 61 * time.Second: "1m1s", time.Hour: "1h",
		90 * time.Minute: "1h30m", 24 * time.Hour: "1d", 26 * time.Hour: "1d2h", 400 * 24 * time.Hour: "400d",
	} {
		if got := age(d); got != want {
			t.Errorf("%s is %s, want %s", d, got, want)
		}
	}
}

func TestShortDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Minute: "1m", time.Hour: "1h", 90 * time.Second: "1m30s", 10 * time.Second: "10s", 61 * time.Minute: "1h1m", 0: "0s",
	} {
		if got := short(d); got != want {
			t.Errorf("%s is %s, want %s", d, got, want)
		}
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	p := &progress{to: &out, what: "pushing x", now: func() time.Time { return now }}
	p.show(0, 100)
	p.show(10, 100) // a moment later: not drawn
	now = now.Add(barInterval)
	p.show(50, 100)
	p.show(100, 100) // the end is always drawn
	p.done()
	want := "\r\x1b[Kpushing x [                        ] 0B of 100B" +
		"\r\x1b[Kpushing x [============            ] 50B of 100B" +
		"\r\x1b[Kpushing x [========================] 100B of 100B, waiting for a majority of servers" +
		"\r\x1b[K"
	if out.String() != want {
		t.Errorf("got %q", out.String())
	}
	quiet := &progress{to: &out}
	out.Reset()
	if quiet.done(); out.Len() > 0 {
		t.Error("a bar that was never drawn is removed")
	}
}

func TestReport(t *testing.T) {
	coded := wasmatrix.Errorf(wasmatrix.CodeTimeout, "late").With("outcome", "unknown").With("a", "b\n")
	for _, tt := range []struct {
		err  error
		exit int
		text string
	}{
		{coded, 1, "error: TIMEOUT: late\n  a: b\\n\n  outcome: unknown\n"},
		{about("x", coded), 1, "error: TIMEOUT: x: late\n  a: b\\n\n  outcome: unknown\n"},
		{errors.New("plain"), 1, "error: INTERNAL_ERROR: plain\n"},
		{usagef("wrong"), 2, "error: INVALID_REQUEST: wrong\n"},
		{errors.Join(usagef("one"), usagef("two")), 2, "error: INVALID_REQUEST: one\nerror: INVALID_REQUEST: two\n"},
		{errors.Join(coded, errors.Join(errors.New("x"))), 1, "error: TIMEOUT: late\n  a: b\\n\n  outcome: unknown\nerror: INTERNAL_ERROR: x\n"},
	} {
		var out bytes.Buffer
		c := &cli{err: &out, started: true}
		if exit := c.report(tt.err, nil); exit != tt.exit || out.String() != tt.text {
			t.Errorf("%v: exit %d, %q", tt.err, exit, out.String())
		}
	}
}
