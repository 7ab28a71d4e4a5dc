package main

import (
	"fmt"
	"io"
	"os"

	wasmatrix "github.com/wasmatrix/wasmatrix/sdk/go"
	"github.com/wasmatrix/wasmatrix/sdk/go/httpc"
	"github.com/wasmatrix/wasmatrix/sdk/go/kv"
	"github.com/wasmatrix/wasmatrix/sdk/go/messaging"
	"github.com/wasmatrix/wasmatrix/sdk/go/messaging/push"
)

var (
	subscription *push.Subscription // nil while there is none
	handled      int32              // messages
)

func init() {
	if err := listen(); err != nil {
		fmt.Fprintln(os.Stderr, "subscribing:", err)
	}
}

func listen() error {
	if subscription != nil {
		return nil
	}
	var err error
	subscription, err = push.Handle("msg", "relay.in", "relays", relay)
	return err
}

func relay(m messaging.Message) {
	url := string(m.Data)
	result, err := fetch(url)
	if err == nil {
		_, err = kv.Open("kv").Set("relay/"+url, []byte(result))
	}
	if err != nil {
		result = "error " + err.Error()
	}
	if err := messaging.Open("msg").Publish("relay.out", []byte(url+" "+result)); err != nil {
		fmt.Fprintln(os.Stderr, "publishing:", err)
	}
	handled++
}

func fetch(url string) (string, error) {
	resp, err := httpc.Open("web").Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	return fmt.Sprintf("%d %d", resp.Status, n), err
}

//go:wasmexport listen
func listenExport() int32 {
	if err := listen(); err != nil {
		_, _ = wasmatrix.Output.WriteString(err.Error())
		return 1
	}
	return 0
}

// handledExport is how many messages the instance has handled since it began.
//
//go:wasmexport handled
func handledExport() int32 { return handled }
