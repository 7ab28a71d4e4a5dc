package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/wasmatrix/wasmatrix"
)

// The opening of a connection, kept for as long as version 1 is spoken:
//
//	hello:  "wmtx" version:u8 length:u16 kind cluster source target
//	reply:  "wmtx" version:u8 length:u16 code message
//
// Lengths are big endian; length counts what follows it. Strings are a u8
// length and that many bytes, in a reply's message a u16. An empty code accepts.
const (
	magic        = "wmtx"
	protoVersion = 1
	headerLen    = len(magic) + 1 + 2
	maxString    = 255
	maxHello     = 4 * (1 + maxString)
	maxMessage   = 1024
	maxReply     = 1 + maxString + 2 + maxMessage
)

// hello is what the dialling side says first.
type hello struct {
	kind    string
	cluster wasmatrix.ClusterID // "" before the dialler has one
	source  wasmatrix.ServerID
	target  wasmatrix.ServerID
}

// reply is what the accepting side answers; code "" accepts.
type reply struct {
	code    wasmatrix.Code
	message string
}

var (
	errNotOurs   = errors.New("the other side does not speak the protocol of wasmatrix servers")
	errMalformed = errors.New("malformed handshake")
)

// versionError reports a peer of a protocol that this build does not know.
type versionError byte

func (v versionError) Error() string {
	return fmt.Sprintf("the other side speaks version %d of the server protocol, this build version %d", byte(v), protoVersion)
}

func encodeHello(h hello) ([]byte, error) {
	body := make([]byte, 0, 128)
	for _, s := range []string{h.kind, string(h.cluster), string(h.source), string(h.target)} {
		if len(s) > maxString {
			return nil, fmt.Errorf("%w: a name of %d bytes", errMalformed, len(s))
		}
		body = append(body, byte(len(s)))
		body = append(body, s...)
	}
	return frame(body), nil
}

func encodeReply(r reply) []byte {
	if len(r.message) > maxMessage {
		r.message = r.message[:maxMessage]
	}
	code := string(r.code)
	if len(code) > maxString {
		code = code[:maxString]
	}
	body := make([]byte, 0, 128)
	body = append(body, byte(len(code)))
	body = append(body, code...)
	body = binary.BigEndian.AppendUint16(body, uint16(len(r.message)))
	body = append(body, r.message...)
	return frame(body)
}

func frame(body []byte) []byte {
	b := make([]byte, 0, headerLen+len(body))
	b = append(b, magic...)
	b = append(b, protoVersion)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// readFrame reads exactly one frame, so that what follows it stays in r, and
// no more than limit bytes of body.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [headerLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if string(head[:len(magic)]) != magic {
		return nil, errNotOurs
	}
	if v := head[len(magic)]; v != protoVersion {
		return nil, versionError(v)
	}
	n := int(binary.BigEndian.Uint16(head[len(magic)+1:]))
	if n > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", errMalformed, n, limit)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return body, nil
}

func readHello(r io.Reader) (hello, error) {
	body, err := readFrame(r, maxHello)
	if err != nil {
		return hello{}, err
	}
	var fields [4]string
	for i := range fields {
		if len(body) == 0 || len(body)-1 < int(body[0]) {
			return hello{}, errMalformed
		}
		n := int(body[0])
		fields[i], body = string(body[1:1+n]), body[1+n:]
	}
	if len(body) != 0 || fields[0] == "" || fields[2] == "" || fields[3] == "" {
		return hello{}, errMalformed
	}
	return hello{
		kind:    fields[0],
		cluster: wasmatrix.ClusterID(fields[1]),
		source:  wasmatrix.ServerID(fields[2]),
		target:  wasmatrix.ServerID(fields[3]),
	}, nil
}

func readReply(r io.Reader) (reply, error) {
	body, err := readFrame(r, maxReply)
	if err != nil {
		return reply{}, err
	}
	if len(body) == 0 || len(body)-1 < int(body[0]) {
		return reply{}, errMalformed
	}
	n := int(body[0])
	code, body := string(body[1:1+n]), body[1+n:]
	if len(body) < 2 || len(body)-2 != int(binary.BigEndian.Uint16(body)) {
		return reply{}, errMalformed
	}
	return reply{code: wasmatrix.Code(code), message: string(body[2:])}, nil
}
