package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// marshal writes a message as the API's JSON on one line, with empty lists and
// zeros, so that scripts find every field.
func marshal(m proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	// protojson puts spaces at random, so that nobody relies on its bytes.
	var out bytes.Buffer
	err = json.Compact(&out, b)
	return out.Bytes(), err
}

// writeJSON writes one document for people and programs.
func (c *cli) writeJSON(m proto.Message) error {
	b, err := marshal(m)
	if err != nil {
		return err
	}
	return c.writeIndented(b)
}

func (c *cli) writeIndented(doc []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, doc, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := c.out.Write(out.Bytes())
	return err
}

// writeJSONLine writes one document of a stream.
func (c *cli) writeJSONLine(m proto.Message) error {
	b, err := marshal(m)
	if err != nil {
		return err
	}
	_, err = c.out.Write(append(b, '\n'))
	return err
}

// table is aligned text. A column headed STATUS or STATE is coloured on terminals.
type table struct {
	head  []string
	rows  [][]string
	least []int // widths; nil for none
	bare  bool  // without the head
}

func newTable(head ...string) *table { return &table{head: head} }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// colors are the SGR parameters of what is worth seeing at a glance.
var colors = map[string]string{
	"running": "32", "up": "32", "alive": "32", "leader": "32", "healthy": "32",
	"pending": "33", "starting": "33", "backoff": "33", "draining": "33", "suspect": "33", "candidate": "33",
	"crashed": "31", "lost": "31", "down": "31", "dead": "31", "unhealthy": "31",
}

func (t *table) write(w io.Writer, color bool) error {
	widths := make([]int, len(t.head))
	copy(widths, t.least)
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(printable(cell)))
		}
	}
	var out bytes.Buffer
	if !t.bare {
		t.line(&out, t.head, widths, false, color)
	}
	for _, row := range t.rows {
		t.line(&out, row, widths, color, false)
	}
	_, err := w.Write(out.Bytes())
	return err
}

func (t *table) line(out *bytes.Buffer, row []string, widths []int, colored, bold bool) {
	for i, cell := range row {
		text := printable(cell)
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2)
		if i == len(row)-1 {
			pad = ""
		}
		sgr := ""
		if bold {
			sgr = "1"
		} else if colored && (t.head[i] == "STATUS" || t.head[i] == "STATE") {
			sgr = colors[text]
		}
		if sgr != "" {
			text = "\x1b[" + sgr + "m" + text + "\x1b[0m"
		}
		out.WriteString(text)
		out.WriteString(pad)
	}
	// Nothing but spaces may follow the last cell that is not empty.
	trimmed := bytes.TrimRight(out.Bytes(), " ")
	out.Truncate(len(trimmed))
	out.WriteByte('\n')
}

func (c *cli) writeTable(t *table) error { return t.write(c.out, c.color) }

// fields are names and values below each other, for one thing in full.
type fields struct{ pairs [][2]string }

// add adds a value unless it is empty.
func (f *fields) add(name, value string) {
	if value != "" {
		f.pairs = append(f.pairs, [2]string{name, value})
	}
}

// list adds values below each other.
func (f *fields) list(name string, values []string) {
	for i, v := range values {
		if i > 0 {
			name = ""
		}
		f.pairs = append(f.pairs, [2]string{name, v})
	}
}

func (f *fields) write(w io.Writer) error {
	width := 0
	for _, p := range f.pairs {
		width = max(width, len(p[0]))
	}
	var out bytes.Buffer
	for _, p := range f.pairs {
		name := p[0]
		if name != "" {
			name += ":"
		}
		line := fmt.Sprintf("%-*s  %s", width+1, name, printable(p[1]))
		out.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := w.Write(out.Bytes())
	return err
}

// printable escapes what would move the cursor or change colours: some of
// what we show was written by guests.
func printable(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return r != ' ' && !unicode.IsPrint(r) || r == utf8.RuneError }

// dash stands for nothing in a table.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// age writes a duration with its two largest units.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return join2(d, time.Minute, "m", time.Second, "s")
	case d < day:
		return join2(d, time.Hour, "h", time.Minute, "m")
	default:
		return join2(d, day, "d", time.Hour, "h")
	}
}

func join2(d, big time.Duration, b string, small time.Duration, s string) string {
	out := strconv.Itoa(int(d/big)) + b
	if rest := d % big / small; rest > 0 {
		out += strconv.Itoa(int(rest)) + s
	}
	return out
}

// since is the age of a moment; "-" for none.
func (c *cli) since(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return age(c.now().Sub(t.AsTime()))
}

// moment writes a time in the zone of the reader; "" for none.
func moment(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format("2006-01-02T15:04:05.000Z07:00")
}

// statusText is the lower-case name of a status, as the CLI shows and takes it.
func statusText(s api.InstanceStatus) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "INSTANCE_STATUS_"))
}

func restartText(m api.RestartMode) string {
	if m == api.RestartMode_RESTART_MODE_UNSPECIFIED {
		m = api.RestartMode_RESTART_MODE_NEVER
	}
	return strings.ToLower(strings.TrimPrefix(m.String(), "RESTART_MODE_"))
}

func isFinal(s api.InstanceStatus) bool {
	return s == api.InstanceStatus_INSTANCE_STATUS_STOPPED || s == api.InstanceStatus_INSTANCE_STATUS_CRASHED
}

// shortDigest is a digest for tables, as [wasmatrix.Digest.Short].
func shortDigest(s string) string {
	d, err := wasmatrix.ParseDigest(s)
	if err != nil {
		return s
	}
	return d.Short()
}

// assignments writes a map as sorted key=value.
func assignments(m map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return out
}

// count writes a number.
func count[N ~uint32 | ~uint64 | ~int32](n N) string { return fmt.Sprint(n) }

// yesNo writes a boolean.
func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
