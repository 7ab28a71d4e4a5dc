package group

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A log entry is a frame of commands, legible for as long as logs are:
//
//	version:u8 (1)  count:uvarint  { length:uvarint command } count times
//
// Count is at least 1, and nothing follows the last command.
const frameVersion = 1

var errFrame = errors.New("a log entry is not a frame of commands")

// frameOverhead bounds what a frame adds to its commands.
func frameOverhead(count int) int { return 1 + binary.MaxVarintLen32*(1+count) }

func appendFrame(b []byte, commands [][]byte) []byte {
	b = append(b, frameVersion)
	b = binary.AppendUvarint(b, uint64(len(commands)))
	for _, c := range commands {
		b = binary.AppendUvarint(b, uint64(len(c)))
		b = append(b, c...)
	}
	return b
}

// decodeFrame returns the commands as parts of b.
func decodeFrame(b []byte) ([][]byte, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: it is empty", errFrame)
	}
	if b[0] != frameVersion {
		return nil, fmt.Errorf("%w of a version that this build knows: %d", errFrame, b[0])
	}
	count, b, err := uvarint(b[1:])
	if err != nil {
		return nil, err
	}
	// Each command takes a byte at least, which bounds what we allocate.
	if count == 0 || count > uint64(len(b)) {
		return nil, fmt.Errorf("%w: %d commands in %d bytes", errFrame, count, len(b))
	}
	commands := make([][]byte, count)
	for i := range commands {
		var n uint64
		if n, b, err = uvarint(b); err != nil {
			return nil, err
		}
		if n > uint64(len(b)) {
			return nil, fmt.Errorf("%w: a command of %d bytes in %d", errFrame, n, len(b))
		}
		commands[i], b = b[:n:n], b[n:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes follow its last command", errFrame, len(b))
	}
	return commands, nil
}

func uvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, fmt.Errorf("%w: a number is cut short or too large", errFrame)
	}
	return v, b[n:], nil
}
