package httpout

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// TestTraces: a request that has no trace that is valid gets one, which the log knows;
// that of a guest passes as it is, and so does everything without the setting.
func TestTraces(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		fmt.Fprint(w, strings.Join(r.Header["Traceparent"], ","), " ", strings.Join(r.Header["Tracestate"], ","))
	})
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	begun := regexp.MustCompile("^00-([0-9a-f]{32})-[0-9a-f]{16}-01 $")
	for value, valid := range map[string]bool{
		"00-" + trace + "-" + parent + "-01":                     true,
		"00-" + trace + "-" + parent + "-00":                     true,
		"01-" + trace + "-" + parent + "-00-more":                true,
		"fe-" + trace + "-" + parent + "-00":                     true,
		"":                                                       false,
		"nonsense":                                               false,
		"00-" + trace + "-" + parent + "-01-more":                false,
		"ff-" + trace + "-" + parent + "-01":                     false,
		"00-" + strings.ToUpper(trace) + "-" + parent + "-01":    false,
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01":   false,
		"00-" + trace + "-" + strings.Repeat("0", 16) + "-01":    false,
		"00-" + trace + "-" + parent:                             false,
		"00-" + trace + "-" + parent + "-1":                      false,
		"00-" + trace[1:] + "-" + parent + "-01":                 false,
		"00-" + trace + "-" + parent + "-01,00-" + trace + "-..": false,
	} {
		given := fields("Traceparent: "+value, "Tracestate: a=1")
		if value == "" {
			given = fields("Tracestate: a=1")
		}
		var log bytes.Buffer
		p := open(t, map[string]string{"send_trace": "true"}, Options{Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Debug})})
		for _, path := range []string{"/", "/moved"} {
			log.Reset()
			got := mustGet(t, p, s.URL+path, given...).body
			if valid {
				if got != value+" a=1" || log.Len() > 0 {
					t.Errorf("%q was sent as %q, log %q", value, got, log.String())
				}
				continue
			}
			m := begun.FindStringSubmatch(got)
			if m == nil || !strings.Contains(log.String(), m[1]) || !strings.Contains(log.String(), "instance=a") {
				t.Errorf("for %q was sent %q, log %q", value, got, log.String())
			}
		}
		if got := mustGet(t, open(t, nil, Options{}), s.URL, given...).body; got != value+" a=1" {
			t.Errorf("without the setting %q was sent as %q", value, got)
		}
	}
}
