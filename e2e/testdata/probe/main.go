//go:build wasip1

// Probe is a guest that calls the host as a test tells it to. Built as a reactor it
// exports do, which takes a request and gives a reply, both JSON; built as a
// command it calls without end, as its arguments say.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"
	"unsafe"
)

type request struct {
	Op     string // such as kv.get
	Cap    string
	Key    string // or prefix
	Value  string // or data
	Expect uint64
	TTL    int64 // milliseconds
	After  string
	Limit  int32
	URL    string
	Topic  string
	Group  string
	Mode   int32
	Handle int32
	Wait   int64 // milliseconds
	Buffer int   // bytes offered for the result; 0 is 64
}

type reply struct {
	Code     int32 // what the host returned, if below zero
	Error    string
	Value    string
	Revision uint64
	Keys     []string
	More     bool
	Status   int32
	Existed  bool
	Handle   int32
	Topic    string
	Dropped  uint32
}

//go:wasmexport do
func do() int32 {
	in := make([]byte, inputLen())
	inputRead(0, unsafe.SliceData(in), int32(len(in)))
	var q request
	if err := json.Unmarshal(in, &q); err != nil {
		return 1
	}
	r := handle(q)
	out, _ := json.Marshal(r)
	outputWrite(span(out))
	return 0
}

// pushed are the messages that the host has pushed, the newest last.
var pushed []string

//go:wasmexport wasmatrix_on_message
func onMessage() int32 {
	in := make([]byte, inputLen())
	inputRead(0, unsafe.SliceData(in), int32(len(in)))
	topic, data, _ := messageOf(in)
	pushed = append(pushed, topic+"="+data)
	return 0
}

func failed(n int32) reply { return reply{Code: n, Error: lastError()} }

func handle(q request) reply {
	size := q.Buffer
	if size == 0 {
		size = 64
	}
	buf := make([]byte, size)
	bp, bl := span(buf)
	cp, cl := ptr(q.Cap)
	kp, kl := ptr(q.Key)
	vp, vl := ptr(q.Value)
	tp, tl := ptr(q.Topic)
	var r reply
	var n int32
	switch q.Op {
	case "kv.get":
		if n = kvGet(cp, cl, kp, kl, bp, bl, &r.Revision); n >= 0 {
			r.Value = string(result(n, buf))
		}
	case "kv.set":
		n = kvSet(cp, cl, kp, kl, vp, vl, q.TTL, &r.Revision)
	case "kv.cas":
		n = kvCAS(cp, cl, kp, kl, int64(q.Expect), vp, vl, q.TTL, &r.Revision)
	case "kv.delete":
		n = kvDelete(cp, cl, kp, kl)
		r.Existed = n == 1
	case "kv.list":
		ap, al := ptr(q.After)
		if n = kvList(cp, cl, kp, kl, ap, al, q.Limit, bp, bl); n >= 0 {
			r.Keys, r.More = keysOf(result(n, buf))
		}
	case "http.get":
		r.Status, r.Value, n = get(q.Cap, q.URL)
	case "msg.publish":
		n = msgPublish(cp, cl, tp, tl, vp, vl)
	case "msg.subscribe":
		gp, gl := ptr(q.Group)
		n = msgSubscribe(cp, cl, tp, tl, gp, gl, q.Mode)
		r.Handle = n
	case "msg.receive":
		if n = msgReceive(q.Handle, q.Wait, bp, bl); n >= 0 {
			r.Topic, r.Value, r.Dropped = messageOf(result(n, buf))
		}
	case "msg.unsubscribe":
		n = msgUnsubscribe(q.Handle)
	case "pushed":
		r.Keys, pushed = pushed, nil
	default:
		return reply{Code: -1000, Error: "unknown operation " + q.Op}
	}
	if n < 0 {
		f := failed(n)
		f.Revision = r.Revision
		return f
	}
	return r
}

func get(capability, url string) (status int32, body string, code int32) {
	cp, cl := ptr(capability)
	up, ul := ptr(url)
	mp, ml := ptr("GET")
	h := httpOpen(cp, cl, mp, ml, up, ul, nil, 0, 0)
	if h < 0 {
		return 0, "", h
	}
	defer httpClose(h)
	if status = httpSend(h); status < 0 {
		return 0, "", status
	}
	var all []byte
	buf := make([]byte, 4096)
	for {
		n := httpRead(h, unsafe.SliceData(buf), int32(len(buf)))
		if n < 0 {
			return 0, "", n
		}
		if n == 0 {
			return status, string(all), 0
		}
		all = append(all, buf[:n]...)
	}
}

// main does what its arguments say:
//
//	kv CAP KEY | http CAP URL | all KVCAP KEY HTTPCAP URL    without end; what fails is tried again at once
//	get CAP KEY COUNT                                        and prints how long each takes
//	listen CAP TOPIC COUNT                                   and prints how old each message is
//	publish CAP TOPIC COUNT MICROSECONDS                     with a pause after each
func main() {
	args := os.Args[1:]
	switch args[0] {
	case "get":
		measure(args[1], args[2], args[3])
	case "listen":
		listen(args[1], args[2], args[3])
	case "publish":
		publish(args[1], args[2], args[3], args[4])
	default:
		loop(args)
	}
}

func loop(args []string) {
	for n := 0; ; n++ {
		switch args[0] {
		case "kv":
			write(args[1], args[2], n)
		case "http":
			_, _, _ = get(args[1], args[2]+strconv.Itoa(n))
		case "all":
			write(args[1], args[2], n)
			_, _, _ = get(args[3], args[4]+strconv.Itoa(n))
		}
	}
}

func write(capability, key string, n int) {
	cp, cl := ptr(capability)
	kp, kl := ptr(key)
	vp, vl := ptr(strconv.Itoa(n))
	var revision uint64
	kvSet(cp, cl, kp, kl, vp, vl, 0, &revision)
}

// measure prints how long each of many gets takes, in nanoseconds.
func measure(capability, key, count string) {
	took := make([]int64, number(count))
	cp, cl := ptr(capability)
	kp, kl := ptr(key)
	buf := make([]byte, 64)
	bp, bl := span(buf)
	for i := range took {
		began := time.Now()
		must(kvGet(cp, cl, kp, kl, bp, bl, nil))
		took[i] = int64(time.Since(began))
	}
	print(took)
}

func listen(capability, topic, count string) {
	ages := make([]int64, number(count))
	cp, cl := ptr(capability)
	tp, tl := ptr(topic)
	h := must(msgSubscribe(cp, cl, tp, tl, nil, 0, 0))
	buf := make([]byte, 256)
	bp, bl := span(buf)
	fmt.Println("listening")
	for i := range ages {
		n := must(msgReceive(h, -1, bp, bl))
		now := time.Now().UnixNano()
		_, data, dropped := messageOf(buf[:n])
		if dropped > 0 {
			fmt.Fprintln(os.Stderr, dropped, "were dropped")
			os.Exit(1)
		}
		sent, _ := strconv.ParseInt(data, 10, 64)
		ages[i] = now - sent
	}
	print(ages)
}

func publish(capability, topic, count, pause string) {
	cp, cl := ptr(capability)
	tp, tl := ptr(topic)
	between := time.Duration(number(pause)) * time.Microsecond
	began := time.Now()
	for range number(count) {
		vp, vl := ptr(strconv.FormatInt(time.Now().UnixNano(), 10))
		must(msgPublish(cp, cl, tp, tl, vp, vl))
		if between > 0 {
			time.Sleep(between)
		}
	}
	print([]int64{int64(time.Since(began))})
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return n
}

func must(n int32) int32 {
	if n < 0 {
		fmt.Fprintln(os.Stderr, n, lastError())
		os.Exit(1)
	}
	return n
}

// print writes nanoseconds as JSON, in a line of their own.
func print(d []int64) {
	out, _ := json.Marshal(d)
	fmt.Println(string(out))
}
