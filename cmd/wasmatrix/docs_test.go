package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// shellBlock is a block of commands in a document.
var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestDocumentedCommandsAreRight parses every command line of wasmatrix in the
// documents as a shell would and as the program does, so that a flag that is
// renamed does not live on in them.
func TestDocumentedCommandsAreRight(t *testing.T) {
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, doc := range append(docs, "../../README.md") {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range shellBlock.FindAllStringSubmatch(string(b), -1) {
			for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", " ")) {
				words, err := shellWords(strings.TrimSpace(line))
				if len(words) == 0 || filepath.Base(words[0]) != "wasmatrix" {
					continue
				}
				n++
				if err == nil {
					err = parses(words[1:])
				}
				if err != nil {
					t.Errorf("%s: %s: %v", filepath.Base(doc), strings.TrimSpace(line), err)
				}
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d commands were tried", n)
	}
}

// parses reports what is wrong with a command line, as far as that can be told
// without a server.
func parses(words []string) error {
	root := testCLI().rootCommand()
	args, err := normalize(root, words)
	if err != nil {
		return err
	}
	cmd, rest, err := root.Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err != nil || cmd.Name() != "run" {
		return err
	}
	caps, err := cmd.Flags().GetStringArray("cap")
	if err == nil {
		_, err = parseCaps(caps)
	}
	return err
}

// shellWords splits a command line up to its comment, pipe or redirection, and
// refuses what a shell would not give to the command as it is written.
func shellWords(line string) (words []string, err error) {
	var word strings.Builder
	quote, open := rune(0), false
	end := func() {
		if open {
			words = append(words, word.String())
		}
		word.Reset()
		open = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == ' ':
			end()
		case strings.ContainsRune("#|<>&;", r) && !open:
			return words, nil
		case strings.ContainsRune("*?<>&;|()", r):
			return words, errors.New("a shell would not take this as it is: " + string(r))
		default:
			word.WriteRune(r)
			open = true
		}
	}
	if quote != 0 {
		return words, errors.New("a quote is not closed")
	}
	end()
	return words, nil
}
