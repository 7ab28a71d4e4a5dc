package gossip

import (
	"bytes"
	"log"

	"github.com/hashicorp/go-hclog"
)

// newLogger turns memberlist's log lines, "[LEVEL] memberlist: text", into hclog's.
func newLogger(l hclog.Logger) *log.Logger { return log.New(logWriter{l}, "", 0) }

type logWriter struct{ to hclog.Logger }

// Write lowers most levels by one: what memberlist calls an error, such as a
// peer that does not answer, is what it is there to find out.
func (w logWriter) Write(line []byte) (int, error) {
	level, text := hclog.Debug, bytes.TrimSpace(line)
	if rest, ok := bytes.CutPrefix(text, []byte("[")); ok {
		if name, after, ok := bytes.Cut(rest, []byte("]")); ok {
			text = bytes.TrimSpace(after)
			switch string(name) {
			case "ERR", "ERROR":
				level = hclog.Warn
			case "WARN":
				level = hclog.Info
			default:
				level = hclog.Debug
			}
		}
	}
	text = bytes.TrimPrefix(text, []byte("memberlist: "))
	for _, routine := range [][]byte{
		[]byte("Failed fallback TCP ping"), []byte("Failed to send"), []byte("Push/Pull with"),
		[]byte("failed to receive"), []byte("Refuting"), []byte("Failed push/pull merge"),
		[]byte("ignoring alive message"),
	} {
		if bytes.HasPrefix(text, routine) {
			level = hclog.Debug
		}
	}
	w.to.Log(level, string(text))
	return len(line), nil
}
