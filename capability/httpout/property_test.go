package httpout

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// world is a server under many names, which redirects along the hosts in the
// query "via", and notes who was asked. A resolver knows all names.
type world struct {
	port string

	mu       sync.Mutex
	asked    []string // hosts
	resolved []string
}

func newWorld(t *testing.T) *world {
	w := &world{}
	s := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ":")
		w.mu.Lock()
		w.asked = append(w.asked, host)
		w.mu.Unlock()
		if via := r.URL.Query()["via"]; len(via) > 0 {
			http.Redirect(rw, r, w.url(via), http.StatusTemporaryRedirect)
		}
	})
	w.port = s.URL[strings.LastIndex(s.URL, ":"):]
	return w
}

// url leads along hosts.
func (w *world) url(hosts []string) string {
	return "http://" + hosts[0] + w.port + "/?" + url.Values{"via": hosts[1:]}.Encode()
}

func (w *world) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resolved = append(w.resolved, strings.TrimSuffix(host, "."))
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// seen returns who was asked and resolved since the last time.
func (w *world) seen() (asked, resolved []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked, resolved = w.asked, w.resolved
	w.asked, w.resolved = nil, nil
	return asked, resolved
}

var domains = []string{"a.example", "b.example", "x.a.example", "y.x.a.example", "aa.example", "127.0.0.1", "localhost"}

// covers is what R5 says of domains, in other words than the code.
func covers(domain, host string) bool {
	if !strings.HasPrefix(domain, "*.") {
		return domain == host
	}
	below := strings.Split(domain, ".")[1:]
	labels := strings.Split(host, ".")
	return len(labels) > len(below) && slices.Equal(labels[len(labels)-len(below):], below)
}

func TestP4_HTTPPermissionIsEnforcedForEachHost(t *testing.T) {
	w := newWorld(t)
	patterns := append([]string{"*.example", "*.a.example", "*.x.a.example", "A.example"}, domains...)
	rapid.Check(t, func(rt *rapid.T) {
		given := rapid.SliceOfNDistinct(rapid.SampledFrom(patterns), 0, 4, rapid.ID).Draw(rt, "permitted")
		hostsAllowed := rapid.SliceOfNDistinct(rapid.SampledFrom(patterns), 0, 3, rapid.ID).Draw(rt, "allow_hosts")
		hosts := rapid.SliceOfN(rapid.SampledFrom(domains), 1, 5).Draw(rt, "hosts")

		var permissions []wasmatrix.Permission
		if len(given) == 0 || rapid.Bool().Draw(rt, "http:request") {
			permissions = append(permissions, "http:request")
		}
		for _, d := range given {
			p, err := wasmatrix.ParsePermission(wasmatrix.ProviderHTTP, "http:domain:"+d)
			if err != nil {
				rt.Fatal(err)
			}
			permissions = append(permissions, p)
		}
		allowed := func(list []string, host string) bool {
			return len(list) == 0 || slices.ContainsFunc(list, func(d string) bool { return covers(strings.ToLower(d), host) })
		}
		var want []string
		denied := false
		for _, h := range hosts {
			if denied = !allowed(given, h) || !allowed(hostsAllowed, h); denied {
				break
			}
			want = append(want, h)
		}

		p := New(configured(t, map[string]string{"allow_hosts": strings.Join(hostsAllowed, ","), "max_redirects": "10"}), Options{Resolver: w})
		defer p.Close()
		_, err := do(t.Context(), p, scopeOf("a", permissions...), &capability.Request{Method: "GET", URL: w.url(hosts)})
		asked, resolved := w.seen()
		if !slices.Equal(asked, want) {
			rt.Fatalf("asked were %q, not %q: %v", asked, want, err)
		}
		if denied != (wasmatrix.CodeOf(err) == wasmatrix.CodePermissionDenied) || !denied && err != nil {
			rt.Fatalf("denied is to be %t: %v", denied, err)
		}
		for _, r := range resolved {
			if !slices.Contains(want, r) {
				rt.Fatalf("%s was resolved, which is not permitted", r)
			}
		}
	})
}

func TestP3_HTTPHasNoEffectWithoutPermission(t *testing.T) {
	w := newWorld(t)
	p := New(configured(t, nil), Options{Resolver: w})
	defer p.Close()
	rapid.Check(t, func(rt *rapid.T) {
		s := scopeOf("a")
		switch rapid.IntRange(0, 3).Draw(rt, "what is missing") {
		case 0:
			s.Rules = nil
		case 1:
			s.Rules = new(wasmatrix.Rules)
		case 2:
			s.Rules = wasmatrix.RulesOf(wasmatrix.ProviderKV, []wasmatrix.Permission{"kv:read", "kv:write", "kv:delete"})
		default:
			s.Rules = wasmatrix.RulesOf(wasmatrix.ProviderHTTP, []wasmatrix.Permission{"http:domain:other.example"})
		}
		_, err := do(t.Context(), p, s, &capability.Request{
			Method: rapid.SampledFrom([]string{"GET", "POST"}).Draw(rt, "method"),
			URL:    w.url(rapid.SliceOfN(rapid.SampledFrom(domains), 1, 3).Draw(rt, "hosts")),
		}, rapid.SliceOfN(rapid.String(), 0, 3).Draw(rt, "body")...)
		if wasmatrix.CodeOf(err) != wasmatrix.CodePermissionDenied {
			rt.Fatal(err)
		}
		if asked, resolved := w.seen(); len(asked)+len(resolved) > 0 {
			rt.Fatalf("asked: %q, resolved: %q", asked, resolved)
		}
	})
}

func TestP10_HTTPGivesBackWhatTheServerGives(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.Header()["X-Back"] = r.Header["X-There"]
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "%s %s", r.Method, body)
	})
	p := New(configured(t, nil), Options{})
	defer p.Close()
	rapid.Check(t, func(rt *rapid.T) {
		method := rapid.SampledFrom([]string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}).Draw(rt, "method")
		status := rapid.SampledFrom([]int{200, 201, 400, 404, 418, 500, 503}).Draw(rt, "status")
		values := rapid.SliceOfN(rapid.StringMatching(`[!-~]([ -~]{0,20}[!-~])?`), 0, 3).Draw(rt, "header")
		body := rapid.SliceOfN(rapid.StringN(1, 50, -1), 0, 4).Draw(rt, "body")
		r := &capability.Request{Method: method, URL: s.URL + "/?status=" + strconv.Itoa(status)}
		for _, v := range values {
			r.Header = append(r.Header, capability.Field{Name: "x-there", Value: v})
		}
		if rapid.Bool().Draw(rt, "Content-Length") {
			r.Header = append(r.Header, capability.Field{Name: "Content-Length", Value: strconv.Itoa(len(strings.Join(body, "")))})
		}
		got, err := do(t.Context(), p, scopeOf("a"), r, body...)
		if err != nil {
			rt.Fatal(err)
		}
		var back []string
		for _, f := range got.Header {
			if f.Name == "X-Back" {
				back = append(back, f.Value)
			}
		}
		if got.Status != status || got.body != method+" "+strings.Join(body, "") || !slices.Equal(back, values) {
			rt.Fatalf("%d %q %q", got.Status, got.body, back)
		}
	})
}
