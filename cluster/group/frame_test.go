package group

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestFrameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		commands := rapid.SliceOfN(rapid.SliceOf(rapid.Byte()), 1, 50).Draw(t, "commands")
		size := frameOverhead(len(commands))
		for _, c := range commands {
			size += len(c)
		}
		frame := appendFrame(nil, commands)
		if len(frame) > size {
			t.Fatalf("%d bytes, said to be at most %d", len(frame), size)
		}
		got, err := decodeFrame(frame)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, commands, bytes.Equal) {
			t.Fatalf("got %q, want %q", got, commands)
		}
	})
}

// The format is on disks: this must decode for ever.
func TestFrameIsLegibleForEver(t *testing.T) {
	frame := []byte("\x01\x03\x03one\x00\x05three")
	want := [][]byte{[]byte("one"), {}, []byte("three")}
	got, err := decodeFrame(frame)
	if err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("got %q, %v", got, err)
	}
	if again := appendFrame(nil, want); !bytes.Equal(again, frame) {
		t.Fatalf("encoded as %q", again)
	}
	// Appending to a command must not reach into the next.
	_ = append(got[0], "x"...)
	if string(got[2]) != "three" {
		t.Fatalf("commands share memory: %q", got)
	}
}

func TestFrameRefusals(t *testing.T) {
	for name, frame := range map[string]string{
		"empty":             "",
		"other version":     "\x02\x01\x00",
		"no count":          "\x01",
		"no command":        "\x01\x00",
		"command missing":   "\x01\x02\x00",
		"command cut short": "\x01\x01\x05four",
		"something behind":  "\x01\x01\x00\x00",
		"vast count":        "\x01\xff\xff\xff\xff\x0f\x00",
		"number too large":  "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
	} {
		if _, err := decodeFrame([]byte(frame)); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeFrame(f *testing.F) {
	f.Add([]byte("\x01\x03\x03one\x00\x05three"))
	f.Add([]byte("\x01\xff\xff\xff\xff\x0f\x00"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		commands, err := decodeFrame(frame)
		if err != nil {
			if !errors.Is(err, errFrame) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeFrame(appendFrame(nil, commands))
		if err != nil || !slices.EqualFunc(again, commands, bytes.Equal) {
			t.Fatalf("%q became %q, %v", commands, again, err)
		}
	})
}
