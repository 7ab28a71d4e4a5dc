package wasmatrix_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

func TestParsePermission(t *testing.T) {
	const kv, http, msg = wasmatrix.ProviderKV, wasmatrix.ProviderHTTP, wasmatrix.ProviderMessaging
	long := strings.Repeat("a", 63)
	for _, c := range []struct {
		typ  wasmatrix.ProviderType
		perm string
		want string // as it is kept; "" is E6, "E1" is E1
	}{
		{kv, "kv:read", "kv:read"}, {kv, "kv:write", "kv:write"}, {kv, "kv:delete", "kv:delete"},
		{kv, "kv:read:users/", "kv:read:users/"}, {kv, "kv:write:a:b", "kv:write:a:b"}, {kv, "kv:delete: ", "kv:delete: "},
		{kv, "kv:read:Ä", "kv:read:Ä"}, {kv, "kv:read:*", "kv:read:*"}, {kv, "kv:read::", "kv:read::"},
		{kv, "", "E1"}, {"redis", "", ""}, {"", "kv:read", ""}, {"redis", "kv:read", ""},
		{kv, "kv", ""}, {kv, "kv:", ""}, {kv, ":", ""}, {kv, "kv:list", ""}, {kv, "KV:read", ""}, {kv, "kv:read:", ""}, {kv, " kv:read", ""},
		{kv, "kv:read ", ""}, {kv, "http:request", ""}, {kv, "kv:read:" + strings.Repeat("k", 248), "kv:read:" + strings.Repeat("k", 248)},
		{kv, "kv:read:" + strings.Repeat("k", 249), ""},

		{http, "http:request", "http:request"}, {http, "http:request:x", ""}, {http, "http:request:", ""},
		{http, "http:domain:example.com", "http:domain:example.com"}, {http, "http:domain:*.Example.COM", "http:domain:*.example.com"},
		{http, "http:domain:localhost", "http:domain:localhost"}, {http, "http:domain:a_b.c-d", "http:domain:a_b.c-d"},
		{http, "http:domain:" + long + ".com", "http:domain:" + long + ".com"}, {http, "http:domain:a" + long + ".com", ""},
		{http, "http:domain:" + strings.Repeat("ab.", 81), ""},
		{http, "http:domain", ""}, {http, "http:domain:", ""}, {http, "http:domain:*", ""}, {http, "http:domain:*.", ""}, {http, "http:domain:.", ""},
		{http, "http:domain:example.com.", ""}, {http, "http:domain:.example.com", ""}, {http, "http:domain:a..b", ""},
		{http, "http:domain:a.*.com", ""}, {http, "http:domain:*a.com", ""}, {http, "http:domain:*.*.com", ""}, {http, "http:domain:**.com", ""},
		{http, "http:domain:-a.com", ""}, {http, "http:domain:a-.com", ""}, {http, "http:domain:a b", ""}, {http, "http:domain:a\x00b", ""},
		{http, "http:domain:example.com:80", ""}, {http, "http:domain:example.com/x", ""}, {http, "http:domain:user@example.com", ""},
		{http, "http:domain:bücher.example", ""}, {http, "http:domain:\u212aing.example", ""}, // a Kelvin sign, of which a k is the lower case
		{http, "http:domain:192.0.2.1", "http:domain:192.0.2.1"}, {http, "http:domain:2001:DB8:0::1", "http:domain:2001:db8::1"},
		{http, "http:domain:::ffff:192.0.2.1", "http:domain:192.0.2.1"}, {http, "http:domain:[::1]", ""}, {http, "http:domain:fe80::1%eth0", ""},
		{http, "http:domain:127.1", ""}, {http, "http:domain:2130706433", ""}, {http, "http:domain:192.0.2.01", ""}, {http, "http:domain:*.0.1", ""},
		{http, "http:domain:*.192.0.2.1", ""}, {http, "http:domain:1.example", "http:domain:1.example"}, {http, "msg:publish", ""},

		{msg, "msg:publish", "msg:publish"}, {msg, "msg:subscribe", "msg:subscribe"}, {msg, "msg:publish:a.*.>", "msg:publish:a.*.>"},
		{msg, "msg:subscribe:A.b", "msg:subscribe:A.b"}, {msg, "msg:publish:>", "msg:publish:>"}, {msg, "msg:publish:a:b", "msg:publish:a:b"},
		{msg, "msg:receive", ""}, {msg, "msg:publish:", ""}, {msg, "msg:publish:.", ""}, {msg, "msg:publish:a..b", ""}, {msg, "msg:publish:>.a", ""},
		{msg, "msg:publish:a*", ""}, {msg, "msg:publish:a.>b", ""}, {msg, "msg:publish:a b", ""}, {msg, "msg:publish:a\n", ""}, {msg, "msg:publish:a.", ""},
	} {
		got, err := wasmatrix.ParsePermission(c.typ, c.perm)
		want, code := wasmatrix.Permission(c.want), wasmatrix.Code("")
		switch c.want {
		case "":
			code = wasmatrix.CodeValidation
		case "E1":
			want, code = "", wasmatrix.CodeInvalidRequest
		}
		if wasmatrix.CodeOf(err) != code || got != want {
			t.Errorf("%s %q is %q, %v, want %q, %q", c.typ, c.perm, got, err, want, code)
		}
	}
}

func FuzzParsePermission(f *testing.F) {
	for _, p := range []string{
		"kv:read:users/", "kv:write", "http:request", "http:domain:*.Example.com", "http:domain:::ffff:1.2.3.4", "http:domain:2001:db8::1",
		"http:domain:K.com", "msg:publish:a.*.>", "msg:subscribe:>", "", "::",
	} {
		for _, typ := range wasmatrix.ProviderTypes {
			f.Add(string(typ), p, "a.b")
		}
	}
	f.Fuzz(func(t *testing.T, typ, s, subject string) {
		p, err := wasmatrix.ParsePermission(wasmatrix.ProviderType(typ), s)
		if err != nil {
			if code := wasmatrix.CodeOf(err); p != "" || code != wasmatrix.CodeValidation && code != wasmatrix.CodeInvalidRequest {
				t.Fatalf("%q, %v", p, err)
			}
			return
		}
		// It has one form, and that means what was written.
		again, err := wasmatrix.ParsePermission(wasmatrix.ProviderType(typ), string(p))
		if err != nil || again != p {
			t.Fatalf("%q is kept as %q, which is %q, %v", s, p, again, err)
		}
		written := wasmatrix.RulesOf(wasmatrix.ProviderType(typ), []wasmatrix.Permission{wasmatrix.Permission(s)})
		kept := wasmatrix.RulesOf(wasmatrix.ProviderType(typ), []wasmatrix.Permission{p})
		granted := 0
		for a := wasmatrix.AccessKVRead; a <= wasmatrix.AccessSubscribe; a++ {
			if written.Allow(a, subject) != kept.Allow(a, subject) {
				t.Fatalf("%q and %q differ on %s %q", s, p, a, subject)
			}
			_, arg, _ := strings.Cut(strings.TrimPrefix(string(p), a.String()), ":")
			if kept.Allow(a, arg) || kept.Allow(a, subject) {
				granted++
			}
		}
		if granted > 1 {
			t.Fatalf("%q grants access of %d kinds", p, granted)
		}
	})
}

func TestValidateTopic(t *testing.T) {
	for s, want := range map[string]struct{ plain, wild bool }{
		"a": {true, true}, "a.b.c": {true, true}, "A-1_$": {true, true}, "ä.ö": {true, true}, strings.Repeat("a", 255): {true, true},
		"*": {false, true}, ">": {false, true}, "a.*.b": {false, true}, "a.>": {false, true}, "*.*.>": {false, true},
		"": {}, ".": {}, "a.": {}, ".a": {}, "a..b": {}, ">.a": {}, "a.>.b": {}, "a*": {}, "*a": {}, "a>": {}, ">>": {}, "**": {},
		"a b": {}, " ": {}, "a\tb": {}, "a\x7f": {}, "a\x00": {}, strings.Repeat("a", 256): {},
	} {
		plain, wild := wasmatrix.ValidateTopic(s, false), wasmatrix.ValidateTopic(s, true)
		if (plain == nil) != want.plain || (wild == nil) != want.wild {
			t.Errorf("%q: %v; with wildcards %v", s, plain, wild)
		}
		for _, err := range []error{plain, wild} {
			if err != nil && wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
				t.Errorf("%q: %v", s, err)
			}
		}
	}
}

// TestP4_KVPermissionsByPrefix compares with a model that looks at each byte.
func TestP4_KVPermissionsByPrefix(t *testing.T) {
	accesses := []wasmatrix.Access{wasmatrix.AccessKVRead, wasmatrix.AccessKVWrite, wasmatrix.AccessKVDelete}
	rapid.Check(t, func(t *rapid.T) {
		perms := rapid.SliceOfN(rapid.StringMatching(`kv:(read|write|delete)(:[ab:/]{1,3})?`), 0, 5).Draw(t, "permissions")
		rules := rulesOf(wasmatrix.ProviderKV, perms...)
		key := rapid.StringMatching(`[ab:/]{0,4}`).Draw(t, "key")
		for _, a := range accesses {
			want := slices.ContainsFunc(perms, func(p string) bool {
				prefix, narrowed := strings.CutPrefix(p, a.String()+":")
				if !narrowed {
					return p == a.String()
				}
				for i := range len(prefix) {
					if i >= len(key) || key[i] != prefix[i] {
						return false
					}
				}
				return true
			})
			if rules.Allow(a, key) != want {
				t.Fatalf("%q allow %s %q: %v", perms, a, key, !want)
			}
		}
		if rules.Allow(wasmatrix.AccessHTTP, key) || rules.Allow(wasmatrix.AccessPublish, key) || rules.Allow(wasmatrix.AccessSubscribe, key) {
			t.Fatalf("%q allow what is no kv", perms)
		}
	})
}

// TestP4_HTTPPermissionsByDomain compares with a model that looks at labels.
func TestP4_HTTPPermissionsByDomain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perms := rapid.SliceOfN(rapid.StringMatching(`http:(request|domain:(\*\.)?(a|b|ab)(\.(a|b)){0,2})`), 0, 4).Draw(t, "permissions")
		host := rapid.StringMatching(`(a|b|ab|aab)(\.(a|b|ab)){0,3}`).Draw(t, "host")
		want, narrowed := slices.Contains(perms, "http:request"), false
		for _, p := range perms {
			domain, ok := strings.CutPrefix(p, "http:domain:")
			if !ok {
				continue
			}
			if !narrowed {
				want, narrowed = false, true
			}
			labels, rule := strings.Split(host, "."), strings.Split(domain, ".")
			if rule[0] == "*" {
				n := len(labels) - len(rule) + 1
				want = want || n > 0 && slices.Equal(labels[n:], rule[1:])
			} else {
				want = want || slices.Equal(labels, rule)
			}
		}
		if got := rulesOf(wasmatrix.ProviderHTTP, perms...).Allow(wasmatrix.AccessHTTP, host); got != want {
			t.Fatalf("%q allow %q: %v", perms, host, got)
		}
	})
}

// words lists all topics of one to n of the tokens; those in last may only come
// last.
func words(n int, tokens, last []string) []string {
	var all []string
	if n > 1 {
		for _, rest := range words(n-1, tokens, last) {
			for _, w := range tokens {
				all = append(all, w+"."+rest)
			}
		}
	}
	return slices.Concat(all, tokens, last)
}

// matches is how NATS matches a topic that has no wildcards.
func matches(pattern, topic []string) bool {
	switch {
	case len(pattern) == 0 || len(topic) == 0:
		return len(pattern) == len(topic)
	case pattern[0] == ">":
		return true
	default:
		return (pattern[0] == "*" || pattern[0] == topic[0]) && matches(pattern[1:], topic[1:])
	}
}

// TestP4_MessagingPermissionsByTopic holds every pattern against every
// subscription of up to four tokens: it is allowed if and only if all topics that
// it would receive are.
func TestP4_MessagingPermissionsByTopic(t *testing.T) {
	topics := words(5, []string{"a", "b", "c"}, nil) // c is what no pattern names
	patterns := words(4, []string{"a", "b", "*"}, []string{">"})
	received := make([][]bool, len(patterns))
	for n, p := range patterns {
		received[n] = make([]bool, len(topics))
		for k, topic := range topics {
			received[n][k] = matches(strings.Split(p, "."), strings.Split(topic, "."))
		}
	}
	if len(topics) != 363 || len(patterns) != 160 {
		t.Fatalf("%d topics, %d patterns", len(topics), len(patterns))
	}
	for n, p := range patterns {
		rules := rulesOf(wasmatrix.ProviderMessaging, "msg:subscribe:"+p, "msg:publish:"+p)
		for m, sub := range patterns {
			want := true
			for k := range topics {
				want = want && (received[n][k] || !received[m][k])
			}
			if got := rules.Allow(wasmatrix.AccessSubscribe, sub); got != want {
				t.Errorf("msg:subscribe:%s allows to subscribe to %s: %v", p, sub, got)
			}
		}
		for k, topic := range topics {
			if got := rules.Allow(wasmatrix.AccessPublish, topic); got != received[n][k] {
				t.Errorf("msg:publish:%s allows to publish to %s: %v", p, topic, got)
			}
		}
	}
	all := rulesOf(wasmatrix.ProviderMessaging, "msg:publish")
	if !all.Allow(wasmatrix.AccessPublish, "x.y") || all.Allow(wasmatrix.AccessSubscribe, "x.y") {
		t.Error("msg:publish is to publish to any topic, and nothing else")
	}
}

func TestRulesOfWhatDoesNotParseAllowNothing(t *testing.T) {
	for _, typ := range append(slices.Clone(wasmatrix.ProviderTypes), "disk", "") {
		for _, perms := range [][]string{nil, {""}, {"kv"}, {"kv:fly", "http:domain:", "msg:publish:"}, {"kv:read:", "http:request:x", "msg:subscribe:a..b"}} {
			r := rulesOf(typ, perms...)
			for a := wasmatrix.AccessKVRead; a <= wasmatrix.AccessSubscribe; a++ {
				if r.Allow(a, "a") || r.Allow(a, "") {
					t.Errorf("%q of type %q allow %s", perms, typ, a)
				}
			}
		}
	}
}

// TestAllowAllocatesNothing: it is asked for every call of every guest.
func TestAllowAllocatesNothing(t *testing.T) {
	kv := rulesOf(wasmatrix.ProviderKV, "kv:read:a/", "kv:read:b/", "kv:write")
	http := rulesOf(wasmatrix.ProviderHTTP, "http:domain:*.example.com", "http:domain:example.org", "http:domain:192.0.2.1")
	msg := rulesOf(wasmatrix.ProviderMessaging, "msg:subscribe:a.*.c.>", "msg:subscribe:x.>", "msg:publish:a.*.c.d")
	allowed := false
	if n := testing.AllocsPerRun(100, func() {
		allowed = kv.Allow(wasmatrix.AccessKVRead, "b/key") && kv.Allow(wasmatrix.AccessKVWrite, "c") &&
			http.Allow(wasmatrix.AccessHTTP, "a.b.example.com") && http.Allow(wasmatrix.AccessHTTP, "192.0.2.1") &&
			msg.Allow(wasmatrix.AccessSubscribe, "a.b.c.*.e") && msg.Allow(wasmatrix.AccessPublish, "a.b.c.d") &&
			!kv.Allow(wasmatrix.AccessKVDelete, "b/key") && !http.Allow(wasmatrix.AccessHTTP, "example.com") && !msg.Allow(wasmatrix.AccessSubscribe, "a.>")
	}); n != 0 || !allowed {
		t.Errorf("%v allocations, as expected: %v", n, allowed)
	}
}

func rulesOf(typ wasmatrix.ProviderType, perms ...string) *wasmatrix.Rules {
	return wasmatrix.RulesOf(typ, grant(typ, perms...).Permissions)
}

func BenchmarkAllow(b *testing.B) {
	for _, c := range []struct {
		rules   *wasmatrix.Rules
		access  wasmatrix.Access
		subject string
	}{
		{rulesOf(wasmatrix.ProviderKV, "kv:read"), wasmatrix.AccessKVRead, "users/1"},
		{rulesOf(wasmatrix.ProviderKV, "kv:read:a/", "kv:read:users/"), wasmatrix.AccessKVRead, "users/1"},
		{rulesOf(wasmatrix.ProviderHTTP, "http:domain:*.example.com"), wasmatrix.AccessHTTP, "api.example.com"},
		{rulesOf(wasmatrix.ProviderMessaging, "msg:subscribe:orders.*.>"), wasmatrix.AccessSubscribe, "orders.eu.*.new"},
	} {
		b.Run(fmt.Sprint(c.access), func(b *testing.B) {
			for b.Loop() {
				if !c.rules.Allow(c.access, c.subject) {
					b.Fatal("not allowed")
				}
			}
		})
	}
}
