// Puller takes messages one by one, which suits a command. Each is a URL: it
// fetches that with net/http, keeps the status and the length of the body in kv
// under "pulled/URL", publishes "URL 200 1234" on another topic, and prints it.
//
//	puller -in jobs -out results -n 3
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	wasmatrix "github.com/wasmatrix/wasmatrix/sdk/go"
	"github.com/wasmatrix/wasmatrix/sdk/go/httpc/transport"
	"github.com/wasmatrix/wasmatrix/sdk/go/kv"
	"github.com/wasmatrix/wasmatrix/sdk/go/messaging"
)

func main() {
	in := flag.String("in", "puller.in", "topic to take URLs from")
	out := flag.String("out", "puller.out", "topic to publish results on")
	group := flag.String("group", "pullers", "group to share the topic with")
	n := flag.Int("n", 0, "how many messages to take; 0 is all, for ever")
	idle := flag.Duration("idle", -1, "how long to wait for a message before it ends; below 0 is for ever")
	flag.Parse()
	if err := run(*in, *out, *group, *n, *idle); err != nil {
		fmt.Fprintln(os.Stderr, "puller:", err)
		os.Exit(1)
	}
}

func run(in, out, group string, n int, idle time.Duration) error {
	bus, store, client := messaging.Open("msg"), kv.Open("kv"), transport.New("web")
	sub, err := bus.Subscribe(in, group)
	if err != nil {
		return err
	}
	defer sub.Close()
	fmt.Println("waiting")
	for taken := 0; n == 0 || taken < n; taken++ {
		m, err := sub.Receive(idle)
		if errors.Is(err, wasmatrix.ErrTimeout) {
			return nil
		}
		if err != nil {
			return err
		}
		url := string(m.Data)
		result, err := fetch(client, url)
		if err == nil {
			_, err = store.Set("pulled/"+url, []byte(result))
		}
		if err != nil {
			result = "error " + err.Error()
		}
		fmt.Println(url, result)
		if err := bus.Publish(out, []byte(url+" "+result)); err != nil {
			return err
		}
	}
	return nil
}

func fetch(client *http.Client, url string) (string, error) {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	return fmt.Sprintf("%d %d", resp.StatusCode, n), err
}
