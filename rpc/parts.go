package rpc

// partSize is the size of one piece of a module or snapshot, in bytes.
const partSize = 256 << 10

// partReader reads the pieces of a stream as one.
type partReader struct {
	next func() ([]byte, error) // io.EOF at the end
	rest []byte
	err  error
}

func (r *partReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 && r.err == nil {
		r.rest, r.err = r.next()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// partWriter sends what is written in pieces of partSize. Flush sends the last.
type partWriter struct {
	send func([]byte) error
	buf  []byte
}

func (w *partWriter) Write(b []byte) (int, error) {
	written := 0
	for len(b) > 0 {
		if w.buf == nil {
			w.buf = make([]byte, 0, partSize)
		}
		n := min(partSize-len(w.buf), len(b))
		w.buf = append(w.buf, b[:n]...)
		b = b[n:]
		written += n
		if len(w.buf) == partSize {
			if err := w.flush(); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

func (w *partWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.send(w.buf)
	w.buf = w.buf[:0]
	return err
}
