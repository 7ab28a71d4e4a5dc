package group

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// register is a state machine: a list of all commands it has applied.
type register struct {
	mu       sync.Mutex
	commands []string
	indexes  []uint64
}

func (r *register) Apply(index uint64, command []byte) any {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch string(command) {
	case "panic":
		panic("as asked")
	case "refuse":
		return wasmatrix.Errorf(wasmatrix.CodeValidation, "refused as asked")
	}
	r.commands = append(r.commands, string(command))
	r.indexes = append(r.indexes, index)
	return "did " + string(command)
}

func (r *register) Snapshot() func(io.Writer) error {
	r.mu.Lock()
	commands := slices.Clone(r.commands)
	r.mu.Unlock()
	return func(w io.Writer) error {
		b := append([]byte("register"), binary.AppendUvarint(nil, uint64(len(commands)))...)
		for _, c := range commands {
			b = binary.AppendUvarint(b, uint64(len(c)))
			b = append(b, c...)
		}
		_, err := w.Write(b)
		return err
	}
}

func (r *register) Restore(from io.Reader) error {
	commands, err := readRegister(from)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commands, r.indexes = commands, nil
	return nil
}

func verifyRegister(from io.Reader) error {
	_, err := readRegister(from)
	return err
}

func readRegister(from io.Reader) ([]string, error) {
	b, err := io.ReadAll(from)
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(b, []byte("register"))
	if !ok {
		return nil, errors.New("not a register")
	}
	r := bytes.NewReader(rest)
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	var commands []string
	for range n {
		size, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, err
		}
		c := make([]byte, size)
		if _, err := io.ReadFull(r, c); err != nil {
			return nil, err
		}
		commands = append(commands, string(c))
	}
	return commands, nil
}

func (r *register) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.commands)
}

// valve stands in a server's connections: closed, nothing passes and nothing
// breaks off, as when the network swallows packets; what was under way arrives
// when it opens.
type valve struct {
	mu   sync.Mutex
	gate chan struct{} // closed while traffic passes
}

func newValve() *valve {
	v := &valve{gate: make(chan struct{})}
	close(v.gate)
	return v
}

func (v *valve) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gate = make(chan struct{})
}

func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.gate:
	default:
		close(v.gate)
	}
}

func (v *valve) pass(closed <-chan struct{}) error {
	v.mu.Lock()
	gate := v.gate
	v.mu.Unlock()
	select {
	case <-gate:
		return nil
	case <-closed:
		return net.ErrClosed
	}
}

// valvedConn watches its own end, so that a shut valve does not outlive it.
type valvedConn struct {
	net.Conn
	valve  *valve
	closed chan struct{}
	once   sync.Once
}

func (c *valvedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if gate := c.valve.pass(c.closed); gate != nil {
		return 0, gate
	}
	return n, err
}

func (c *valvedConn) Write(b []byte) (int, error) {
	if err := c.valve.pass(c.closed); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *valvedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// peer is one server of a test cluster.
type peer struct {
	tb      testing.TB
	conf    Config
	bind    string
	valve   *valve
	machine *register
	stream  *stream.Listener
	fatal   chan error
	wrap    func(*store) // the store of the next open
	*Group
}

type cluster struct {
	tb    testing.TB
	peers []*peer
	mu    sync.Mutex
	addrs map[wasmatrix.ServerID]string
}

// quick tells followers of commits at once, and leaves room for a loaded disk.
var quick = Timing{
	Heartbeat:   300 * time.Millisecond,
	Election:    300 * time.Millisecond,
	LeaderLease: 250 * time.Millisecond,
	Commit:      10 * time.Millisecond,
}

// newCluster opens n servers, configured by tune, and bootstraps them.
func newCluster(tb testing.TB, n int, tune func(*Config)) *cluster {
	tb.Helper()
	c := newPeers(tb, n, tune)
	c.bootstrap()
	return c
}

func newPeers(tb testing.TB, n int, tune func(*Config)) *cluster {
	tb.Helper()
	c := &cluster{tb: tb, addrs: make(map[wasmatrix.ServerID]string)}
	for i := range n {
		c.add(fmt.Sprintf("%c.%08x", 'a'+i, i), tune)
	}
	return c
}

func (c *cluster) add(id string, tune func(*Config)) *peer {
	c.tb.Helper()
	p := &peer{tb: c.tb, bind: "127.0.0.1:0", valve: newValve(), conf: Config{
		Name:   "test",
		Dir:    filepath.Join(c.tb.TempDir(), id),
		ID:     wasmatrix.ServerID(id),
		Verify: verifyRegister,
		Timing: quick,
		Resolve: func(id wasmatrix.ServerID) (string, bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			addr, ok := c.addrs[id]
			return addr, ok
		},
		RPCTimeout: time.Second,
		Logger:     logger(c.tb, id),
	}}
	if tune != nil {
		tune(&p.conf)
	}
	p.fatal = make(chan error, 1)
	p.conf.Fatal = func(err error) { p.fatal <- err }
	p.open()
	c.tb.Cleanup(p.stop)
	c.mu.Lock()
	c.addrs[p.conf.ID] = p.stream.Addr().String()
	c.mu.Unlock()
	c.peers = append(c.peers, p)
	return p
}

// logger shows what happened where a test failed.
func logger(tb testing.TB, name string) hclog.Logger {
	if _, ok := tb.(*testing.B); ok {
		return hclog.NewNullLogger()
	}
	out := &bytes.Buffer{}
	var mu sync.Mutex
	log := hclog.New(&hclog.LoggerOptions{Name: name, Level: hclog.Info, Output: out, Mutex: &mu, DisableTime: false})
	tb.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if tb.Failed() {
			tb.Logf("log of %s:\n%s", name, out)
		}
	})
	return log
}

func (p *peer) open() {
	p.tb.Helper()
	if err := p.tryOpen(); err != nil {
		p.tb.Fatal(err)
	}
}

func (p *peer) tryOpen() error {
	var err error
	p.stream, err = stream.Listen(stream.Config{
		Bind:   p.bind,
		Self:   p.conf.ID,
		Logger: p.conf.Logger,
		Wrap: func(conn net.Conn, _ wasmatrix.ServerID) (net.Conn, error) {
			v := &valvedConn{Conn: conn, valve: p.valve, closed: make(chan struct{})}
			return v, nil
		},
	})
	if err != nil {
		return err
	}
	p.bind = p.stream.Addr().String() // the same again after a restart
	p.machine = &register{}
	p.conf.Stream, p.conf.Machine = p.stream, p.machine
	g, err := openWith(p.conf, p.wrap)
	if err != nil {
		_ = p.stream.Close()
		return err
	}
	p.Group = g
	return nil
}

// stop ends the server, as well as a test can: it closes its connections first,
// so that nothing it does on its way out reaches anyone.
func (p *peer) stop() {
	if p.Group == nil {
		return
	}
	p.valve.open()
	_ = p.transport.Close()
	_ = p.Close()
	_ = p.stream.Close()
	p.Group = nil
}

func (c *cluster) servers() []Server {
	var all []Server
	for _, p := range c.peers {
		all = append(all, Server{ID: p.conf.ID, Addr: p.stream.Addr().String(), Voter: true})
	}
	return all
}

func (c *cluster) bootstrap() {
	c.tb.Helper()
	if err := c.peers[0].Bootstrap(c.servers()); err != nil {
		c.tb.Fatal(err)
	}
}

// patience bounds what may take long on a loaded machine, and fails a test that
// hangs.
const patience = 30 * time.Second

func within30(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("still not: %s", what)
		}
	}
}

// leader waits for one that answers a read, which is one in fact.
func (c *cluster) leader(among ...*peer) *peer {
	c.tb.Helper()
	if among == nil {
		among = c.peers
	}
	var found *peer
	eventually(c.tb, "a leader", func() bool {
		for _, p := range among {
			if p.Group == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, err := p.Read(ctx)
			cancel()
			if err == nil {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

func (c *cluster) others(p *peer) []*peer {
	return slices.DeleteFunc(slices.Clone(c.peers), func(o *peer) bool { return o == p || o.Group == nil })
}

// must proposes through whoever leads until it is done. A command may then be
// there twice.
func (c *cluster) must(command string) {
	c.tb.Helper()
	eventually(c.tb, "accepting "+command, func() bool {
		for _, p := range c.peers {
			if p.Group == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			_, _, err := p.Propose(ctx, []byte(command))
			cancel()
			if err == nil {
				return true
			}
		}
		return false
	})
}

func wantCode(tb testing.TB, err error, code wasmatrix.Code, outcome string) {
	tb.Helper()
	if wasmatrix.CodeOf(err) != code {
		tb.Fatalf("got %v, want %s", err, code)
	}
	if got := wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome]; outcome != "" && got != outcome {
		tb.Fatalf("%v has outcome %q, want %q", err, got, outcome)
	}
}

func both(t *testing.T, f func(t *testing.T, kind string)) {
	for _, kind := range []string{LogStoreBolt, LogStoreWAL} {
		t.Run(kind, func(t *testing.T) { f(t, kind) })
	}
}

func numbered(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = strconv.Itoa(i)
	}
	return all
}
