package httpout

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// redirector answers /STATUS/REST with a redirect to the query's "to", and all
// else as seen does.
func redirector(w http.ResponseWriter, r *http.Request) {
	code, _ := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
	if code == 0 {
		seen(w, r)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header()["Location"] = []string{r.URL.Query().Get("to")}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, "moved")
}

func seen(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	h := r.Header
	fmt.Fprintf(w, "%s %s body=%q auth=%q cookie=%q key=%q type=%q x=%q", r.Method, r.URL.Path, body, h.Get("Authorization"), h.Get("Cookie"), h.Get("X-Api-Key"), h.Get("Content-Type"), h.Get("X"))
}

func TestRedirectsAreFollowed(t *testing.T) {
	s := serve(t, redirector)
	p := open(t, nil, Options{})
	for _, c := range []struct {
		status int
		method string
		body   string
		want   string // "" where the guest gets the redirect itself
	}{
		{301, "GET", "", "GET"},
		{302, "HEAD", "", "HEAD"},
		{301, "POST", "abc", "GET"},
		{302, "POST", "", "GET"},
		{302, "PUT", "abc", ""},
		{302, "DELETE", "", "DELETE"},
		{303, "PUT", "abc", "GET"},
		{303, "HEAD", "", "HEAD"},
		{307, "GET", "", "GET"},
		{307, "POST", "", "POST"},
		{307, "POST", "abc", ""},
		{308, "PUT", "abc", ""},
		{300, "GET", "", ""},
		{304, "GET", "", ""},
		{305, "GET", "", ""},
	} {
		var body []string
		if c.body != "" {
			body = []string{c.body}
		}
		r, err := do(t.Context(), p, scopeOf("a"), &capability.Request{
			Method: c.method, URL: fmt.Sprintf("%s/%d?to=/end", s.URL, c.status),
			Header: fields("Content-Type: text/x", "Authorization: secret", "X: y"),
		}, body...)
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		if c.want == "" {
			if r.Status != c.status || r.get("Location") != "/end" {
				t.Errorf("%v: %d %q", c, r.Status, r.Header)
			}
			continue
		}
		kind := "text/x"
		if c.want != c.method {
			kind = ""
		}
		want := fmt.Sprintf(`%s /end body="" auth="secret" cookie="" key="" type=%q x="y"`, c.want, kind)
		if c.want == "HEAD" {
			want = ""
		}
		if r.Status != 200 || r.body != want {
			t.Errorf("%v: %d %s, not %s", c, r.Status, r.body, want)
		}
	}
}

func TestTheGuestGetsRedirectsThatCannotBeFollowed(t *testing.T) {
	var s = serve(t, redirector)
	p := open(t, nil, Options{})
	for _, to := range []string{"", "ftp://127.0.0.1/", "http://user:pw@127.0.0.1/", "http://127.1/", "http://[::1%25lo]/", "javascript:alert(1)", "http://127.0.0.1:0/", "mailto:a@b"} {
		r := mustGet(t, p, s.URL+"/302?to="+strings.ReplaceAll(to, "%", "%25"))
		if r.Status != 302 || r.body != "moved" {
			t.Errorf("%q: %d %q", to, r.Status, r.body)
		}
	}
}

func TestRedirectsAreCounted(t *testing.T) {
	hops := 0
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		hops++
		http.Redirect(w, r, "/again", http.StatusFound)
	})
	for most, want := range map[string]int{"0": 1, "1": 2, "5": 6} {
		hops = 0
		r := mustGet(t, open(t, map[string]string{"max_redirects": most}, Options{}), s.URL)
		if r.Status != http.StatusFound || hops != want {
			t.Errorf("of %s redirects: %d requests, status %d", most, hops, r.Status)
		}
	}
}

func TestCredentialsStayWithTheOrigin(t *testing.T) {
	header := fields("Authorization: A", "Cookie: C", "X-Api-Key: K", "X: y")
	a, b := serve(t, redirector), serve(t, redirector)
	secure, roots := serveTLS(t, redirector)
	p := open(t, nil, Options{RootCAs: roots})
	with, without := `auth="A" cookie="C" key="K" type="" x="y"`, `auth="" cookie="" key="" type="" x="y"`
	other := strings.Replace(a.URL, "127.0.0.1", "localhost", 1) // the same server under another name
	for _, c := range []struct{ from, to, want string }{
		{a.URL, "/x", with},
		{a.URL, a.URL + "/x", with},
		{a.URL, b.URL + "/x", without},               // another port
		{a.URL, other + "/x", without},               // another name
		{secure.URL, a.URL + "/x", without},          // another scheme
		{secure.URL, secure.URL + "/x", with},        //
		{a.URL, b.URL + "/302?to=" + a.URL, without}, // and back
		{other, a.URL + "/302?to=/x", without},
	} {
		r := mustGet(t, p, c.from+"/307?to="+c.to, header...)
		if !strings.HasSuffix(r.body, c.want) {
			t.Errorf("from %s to %s: %s", c.from, c.to, r.body)
		}
	}
}

func TestRedirectsNeedPermission(t *testing.T) {
	reached := false
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			http.Redirect(w, r, "http://localhost:"+r.URL.Query().Get("port")+"/forbidden", http.StatusFound)
			return
		}
		reached = true
	})
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	r := &capability.Request{Method: "GET", URL: s.URL + "/?port=" + port}
	_, err := do(t.Context(), open(t, nil, Options{}), scopeOf("a", "http:request", "http:domain:127.0.0.1"), r)
	wantCode(t, err, wasmatrix.CodePermissionDenied)
	_, err = do(t.Context(), open(t, map[string]string{"allow_hosts": "127.0.0.1"}, Options{}), scopeOf("a"), r)
	wantCode(t, err, wasmatrix.CodePermissionDenied)
	if reached {
		t.Fatal("a host that was not permitted was asked")
	}
	if _, err = do(t.Context(), open(t, map[string]string{"allow_hosts": "127.0.0.1, localhost"}, Options{}), scopeOf("a"), r); err != nil || !reached {
		t.Error(err)
	}
}
