package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/module"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// maxLocalModule bounds what is read of a file before servers, whose limit is
// configured, are asked.
const maxLocalModule = 1 << 30

// moduleFile is a module on the local disk, inspected.
type moduleFile struct {
	*os.File
	path string
	info *wasmatrix.Module
}

// openModule opens and inspects a file, so that what is no module is refused
// before anything is sent. The caller closes it.
func openModule(path string) (*moduleFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if st, err := f.Stat(); err != nil || st.IsDir() {
		f.Close()
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "%s is a directory, not a module", path)
	}
	info, err := module.Inspect(f, maxLocalModule)
	if err != nil {
		f.Close()
		if _, coded := errors.AsType[*wasmatrix.Error](err); !coded {
			return nil, unreadable(path, err)
		}
		return nil, about(path, err)
	}
	return &moduleFile{File: f, path: path, info: info}, nil
}

func unreadable(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "%s: %w", path, err)
}

// push sends a module and shows how far it is, where somebody watches.
func (c *cli) push(ctx context.Context, cl *client.Client, f *moduleFile, name string) (*api.PushModuleResponse, error) {
	p := client.Push{Bytes: f.File, Size: f.info.Size, Digest: f.info.Digest, Name: name}
	if c.errTTY {
		bar := &progress{to: c.err, what: "pushing " + f.path, now: c.now}
		p.Progress = bar.show
		defer bar.done()
	}
	return cl.PushModule(ctx, p)
}

// progress is a bar that is drawn on the last line of a terminal.
type progress struct {
	to    io.Writer
	what  string
	now   func() time.Time
	drawn time.Time
	on    bool
}

const (
	barWidth    = 24
	barInterval = 50 * time.Millisecond
)

// show draws the bar anew, unless it was drawn a moment ago.
func (p *progress) show(sent, total int64) {
	now := p.now()
	if p.on && sent < total && now.Sub(p.drawn) < barInterval {
		return
	}
	p.drawn, p.on = now, true
	part := 1.0
	if total > 0 {
		part = float64(sent) / float64(total)
	}
	full := int(part * barWidth)
	state := fmt.Sprintf("%s of %s", wasmatrix.FormatBytes(uint64(sent)), wasmatrix.FormatBytes(uint64(total)))
	if sent >= total {
		state += ", waiting for a majority of servers"
	}
	fmt.Fprintf(p.to, "\r\x1b[K%s [%s%s] %s", printable(p.what), strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), state)
}

// done removes the bar.
func (p *progress) done() {
	if p.on {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
