package messaging

import "github.com/wasmatrix/wasmatrix/capability"

// queue holds messages up to a number and a sum of bytes. When a message does not
// fit, the oldest go: for who lags, news are worth more than what is
// outdated, and what is left stays without gaps to the end. It knows where messages
// are missing: each has the number of those lost between it and the one before.
type queue struct {
	maxMessages int
	maxBytes    int64

	items []capability.Message
	head  int // items before it are taken
	bytes int64
	// lost counts those missing after the last item.
	lost uint64
}

func (q *queue) len() int { return len(q.items) - q.head }

func size(m capability.Message) int64 { return int64(len(m.Topic) + len(m.Data)) }

// push adds a message, and drops what does not fit.
func (q *queue) push(topic string, data []byte) {
	m := capability.Message{Topic: topic, Data: data}
	n := size(m)
	if n > q.maxBytes {
		q.lost++
		return
	}
	for q.len() >= q.maxMessages || q.bytes+n > q.maxBytes {
		oldest := q.take()
		if q.len() == 0 {
			q.lost += oldest.Dropped + 1
		} else {
			q.items[q.head].Dropped += oldest.Dropped + 1
		}
	}
	m.Dropped, q.lost = q.lost, 0
	q.items = append(q.items, m)
	q.bytes += n
}

// pop takes the oldest message.
func (q *queue) pop() (capability.Message, bool) {
	if q.len() == 0 {
		return capability.Message{}, false
	}
	return q.take(), true
}

func (q *queue) take() capability.Message {
	m := q.items[q.head]
	q.items[q.head] = capability.Message{}
	q.head++
	q.bytes -= size(m)
	switch {
	case q.head == len(q.items):
		q.head = 0
		if cap(q.items) > keepItems {
			q.items = nil
		} else {
			q.items = q.items[:0]
		}
	case q.head >= keepItems && q.head > len(q.items)/2:
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return m
}

// keepItems is the room that an empty queue keeps.
const keepItems = 64
