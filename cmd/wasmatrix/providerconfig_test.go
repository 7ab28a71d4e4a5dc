package main

import (
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

// TestIsRedacted: whatever the API shows with a secret left out is known as such,
// and what has no secret is not taken for it.
func TestIsRedacted(t *testing.T) {
	for _, url := range []string{
		"redis://:secret@h:6379/0", "rediss://user:secret@h", "nats://token@h", "nats://a,nats://u:secret@b", "nats://u:p@a, tls://b", "redis://h:6379/%zz",
	} {
		shown := wasmatrix.PublicProviderConfig(map[string]string{"url": url})["url"]
		if !isRedacted(shown) {
			t.Errorf("%q, shown as %q, is not known to be redacted", url, shown)
		}
		if isRedacted(url) {
			t.Errorf("%q passes for redacted", url)
		}
	}
	for _, value := range []string{"", "redis://h:6379/0", "nats://a,nats://b", "*.example.com,10.0.0.0/8", "64MiB"} {
		if isRedacted(value) {
			t.Errorf("%q passes for redacted", value)
		}
	}
}
