package httpout

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test; nothing is expected to take that long.
const patience = 30 * time.Second

// configured makes a configuration as an operator writes it. Without
// allow_addresses loopback is allowed, where the servers of the tests are.
func configured(t testing.TB, keys map[string]string) wasmatrix.HTTPConfig {
	t.Helper()
	config := map[string]string{"allow_addresses": "127.0.0.0/8,::1"}
	maps.Copy(config, keys)
	c, err := wasmatrix.HTTPConfigOf(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t testing.TB, keys map[string]string, o Options) *Provider {
	t.Helper()
	if os.Getenv("HTTPOUT_TEST_LOG") != "" {
		o.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug})
	}
	p := New(configured(t, keys), o)
	t.Cleanup(func() {
		p.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.total != 0 || len(p.toHost) != 0 || len(p.pools) != 0 || len(p.waiting) != 0 {
			t.Errorf("a closed provider keeps %d connections, %v, %d pools, %d who wait", p.total, p.toHost, len(p.pools), len(p.waiting))
		}
	})
	return p
}

// scopeOf makes the scope of an instance; without permissions all is allowed.
func scopeOf(instance string, permissions ...wasmatrix.Permission) *capability.Scope {
	if len(permissions) == 0 {
		permissions = []wasmatrix.Permission{"http:request"}
	}
	return &capability.Scope{
		Instance: wasmatrix.InstanceID(instance), Incarnation: 1, Epoch: 7, Capability: "web", Granted: 2, Provider: "http",
		Rules: wasmatrix.RulesOf(wasmatrix.ProviderHTTP, permissions),
	}
}

func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// serveTLS returns a server that speaks HTTP/2 as well, and whom to trust for it.
func serveTLS(t testing.TB, h http.HandlerFunc) (*httptest.Server, *x509.CertPool) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s, roots
}

// reply is all of a response.
type reply struct {
	*capability.Response
	body string
}

func (r reply) get(name string) string {
	for _, f := range r.Header {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// do makes a whole request.
func do(ctx context.Context, p *Provider, s *capability.Scope, r *capability.Request, body ...string) (reply, error) {
	x, err := p.Open(ctx, s, r)
	if err != nil {
		return reply{}, err
	}
	defer x.Close()
	for _, piece := range body {
		if _, err := x.Write([]byte(piece)); err != nil {
			return reply{}, err
		}
	}
	response, err := x.Response()
	if err != nil {
		return reply{}, err
	}
	var all strings.Builder
	buf := make([]byte, 64<<10)
	for {
		n, err := x.Read(buf)
		all.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return reply{response, all.String()}, nil
		}
		if err != nil {
			return reply{response, all.String()}, err
		}
	}
}

func get(t testing.TB, p *Provider, url string, header ...capability.Field) (reply, error) {
	return do(t.Context(), p, scopeOf("a"), &capability.Request{Method: "GET", URL: url, Header: header})
}

func mustGet(t testing.TB, p *Provider, url string, header ...capability.Field) reply {
	t.Helper()
	r, err := get(t, p, url, header...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantCode(t testing.TB, err error, code wasmatrix.Code) {
	t.Helper()
	if wasmatrix.CodeOf(err) != code {
		t.Fatalf("error is %v, not %s", err, code)
	}
}

// eventually looks until ok says yes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
