package wasmatrix_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

func TestP18_ValidateProvider(t *testing.T) {
	const kv, http, msg = wasmatrix.ProviderKV, wasmatrix.ProviderHTTP, wasmatrix.ProviderMessaging
	many := map[string]string{}
	for n := range 33 {
		many[fmt.Sprint("key", n)] = "x"
	}
	zone := wasmatrix.Constraint{Key: "zone", Values: []string{"a"}}
	ok := func(id wasmatrix.ProviderID, typ wasmatrix.ProviderType, config map[string]string) wasmatrix.Provider {
		return wasmatrix.Provider{ID: id, Type: typ, Config: config}
	}
	one := func(k, v string) map[string]string { return map[string]string{k: v} }
	for what, c := range map[string]struct {
		provider wasmatrix.Provider
		want     wasmatrix.Code
		field    string
	}{
		"plain":                 {ok("store", kv, nil), "", ""},
		"default":               {ok("http", http, nil), "", ""},
		"placed":                {wasmatrix.Provider{ID: "p", Type: msg, Constraints: []wasmatrix.Constraint{zone}}, "", ""},
		"no ID":                 {ok("", kv, nil), wasmatrix.CodeInvalidRequest, ""},
		"bad ID":                {ok("a b", kv, nil), wasmatrix.CodeInvalidRequest, ""},
		"no type":               {ok("p", "", nil), wasmatrix.CodeValidation, "type"},
		"unknown type":          {ok("p", "disk", nil), wasmatrix.CodeValidation, "type"},
		"default of other type": {ok("kv", http, nil), wasmatrix.CodeValidation, "type"},
		"bad constraint":        {wasmatrix.Provider{ID: "p", Type: kv, Constraints: []wasmatrix.Constraint{{Key: "zone"}}}, wasmatrix.CodeValidation, "constraints"},
		"too many constraints":  {wasmatrix.Provider{ID: "p", Type: kv, Constraints: slices.Repeat([]wasmatrix.Constraint{zone}, wasmatrix.MaxConstraints+1)}, wasmatrix.CodeValidation, "constraints"},
		"too many keys":         {ok("p", kv, many), wasmatrix.CodeValidation, "config"},
		"unknown key":           {ok("p", kv, map[string]string{"max_keys": "5", "zzz": "", "colour": "red"}), wasmatrix.CodeValidation, "config.colour"},
		"key of another type":   {ok("p", http, one("max_keys", "5")), wasmatrix.CodeValidation, "config.max_keys"},
		"endless value":         {ok("p", kv, one("url", "redis://"+strings.Repeat("x", 5000))), wasmatrix.CodeValidation, "config.url"},

		"redis":            {ok("p", kv, one("url", "rediss://user:pw@[::1]:6379/3")), "", ""},
		"redis, no host":   {ok("p", kv, one("url", "redis:///3")), wasmatrix.CodeValidation, "config.url"},
		"http for a store": {ok("p", kv, one("url", "http://host")), wasmatrix.CodeValidation, "config.url"},
		"no URL":           {ok("p", kv, one("url", "")), wasmatrix.CodeValidation, "config.url"},
		"keys 0":           {ok("p", kv, one("max_keys", "0")), wasmatrix.CodeValidation, "config.max_keys"},
		"keys of words":    {ok("p", kv, one("max_keys", "many")), wasmatrix.CodeValidation, "config.max_keys"},
		"keys negative":    {ok("p", kv, one("max_keys", "-1")), wasmatrix.CodeValidation, "config.max_keys"},
		"keys too many":    {ok("p", kv, one("max_keys", "100000001")), wasmatrix.CodeValidation, "config.max_keys"},
		"value too large":  {ok("p", kv, one("max_value", "1025KiB")), wasmatrix.CodeValidation, "config.max_value"},
		"bytes overflow":   {ok("p", kv, one("max_bytes", "99999999999999999999")), wasmatrix.CodeValidation, "config.max_bytes"},

		"addresses":        {ok("p", http, one("allow_addresses", "10.0.0.0/8, ::1,fd00::/8")), "", ""},
		"no addresses":     {ok("p", http, one("allow_addresses", "")), "", ""},
		"bad address":      {ok("p", http, one("allow_addresses", "10.0.0.0/8,localhost")), wasmatrix.CodeValidation, "config.allow_addresses"},
		"empty address":    {ok("p", http, one("allow_addresses", "::1,")), wasmatrix.CodeValidation, "config.allow_addresses"},
		"bad prefix":       {ok("p", http, one("allow_addresses", "10.0.0.0/33")), wasmatrix.CodeValidation, "config.allow_addresses"},
		"hosts":            {ok("p", http, one("allow_hosts", "Example.com, *.example.org,192.0.2.1")), "", ""},
		"bad host":         {ok("p", http, one("allow_hosts", "example.com,*")), wasmatrix.CodeValidation, "config.allow_hosts"},
		"timeout 0":        {ok("p", http, one("timeout", "0s")), wasmatrix.CodeValidation, "config.timeout"},
		"timeout endless":  {ok("p", http, one("timeout", "61m")), wasmatrix.CodeValidation, "config.timeout"},
		"timeout unitless": {ok("p", http, one("timeout", "30")), wasmatrix.CodeValidation, "config.timeout"},
		"no redirects":     {ok("p", http, one("max_redirects", "0")), "", ""},
		"redirects":        {ok("p", http, one("max_redirects", "101")), wasmatrix.CodeValidation, "config.max_redirects"},
		"connections 0":    {ok("p", http, one("max_connections", "0")), wasmatrix.CodeValidation, "config.max_connections"},
		"no bool":          {ok("p", http, one("send_identity", "maybe")), wasmatrix.CodeValidation, "config.send_identity"},

		"nats":              {ok("p", msg, one("url", "nats://token@a:4222, tls://user:pw@b:4222")), "", ""},
		"one bad":           {ok("p", msg, one("url", "nats://a:4222,b:4222")), wasmatrix.CodeValidation, "config.url"},
		"message too large": {ok("p", msg, one("max_message", "2MiB")), wasmatrix.CodeValidation, "config.max_message"},
		"pending 0":         {ok("p", msg, one("max_pending", "0")), wasmatrix.CodeValidation, "config.max_pending"},
		"pending bytes 0":   {ok("p", msg, one("max_pending_bytes", "0")), wasmatrix.CodeValidation, "config.max_pending_bytes"},
	} {
		err := wasmatrix.ValidateProvider(&c.provider)
		if e := wasmatrix.AsError(err); wasmatrix.CodeOf(err) != c.want || e != nil && e.Details[wasmatrix.DetailField] != c.field {
			t.Errorf("%s: %v, %+v", what, err, e)
		}
	}
}

// TestProviderConfig: what is said counts, and what is not has a default that
// would be valid if it were said.
func TestProviderConfig(t *testing.T) {
	same := func(got, want any, err error) {
		t.Helper()
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	kv, err := wasmatrix.KVConfigOf(nil)
	same(kv, wasmatrix.KVConfig{MaxKeys: 100_000, MaxBytes: 256 << 20, MaxValue: 1 << 20}, err)
	kv, err = wasmatrix.KVConfigOf(map[string]string{"url": "redis://h", "max_keys": "7", "max_bytes": "8MiB", "max_value": "9KiB"})
	same(kv, wasmatrix.KVConfig{URL: "redis://h", MaxKeys: 7, MaxBytes: 8 << 20, MaxValue: 9 << 10}, err)

	http, err := wasmatrix.HTTPConfigOf(nil)
	same(http, wasmatrix.HTTPConfig{Timeout: 30 * time.Second, MaxRequest: 16 << 20, MaxResponse: 64 << 20, MaxRedirects: 5, MaxConnections: 64}, err)
	http, err = wasmatrix.HTTPConfigOf(map[string]string{
		"allow_addresses": "10.1.2.3/8,::1", "allow_hosts": "*.Example.com,2001:DB8::0", "timeout": "2s", "max_request": "1KiB",
		"max_response": "0", "max_redirects": "0", "max_connections": "3", "send_identity": "true", "send_trace": "true",
	})
	same(http, wasmatrix.HTTPConfig{
		AllowAddresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		AllowHosts:     []string{"*.example.com", "2001:db8::"},
		Timeout:        2 * time.Second, MaxRequest: 1 << 10, MaxConnections: 3, SendIdentity: true, SendTrace: true,
	}, err)

	msg, err := wasmatrix.MessagingConfigOf(nil)
	same(msg, wasmatrix.MessagingConfig{MaxMessage: 1 << 20, MaxPending: 1024, MaxBytes: 4 << 20}, err)
	msg, err = wasmatrix.MessagingConfigOf(map[string]string{"url": "nats://a,tls://b", "max_message": "1KiB", "max_pending": "5", "max_pending_bytes": "6KiB"})
	same(msg, wasmatrix.MessagingConfig{URL: "nats://a,tls://b", MaxMessage: 1 << 10, MaxPending: 5, MaxBytes: 6 << 10}, err)
}

func TestPublicProviderConfigHidesSecrets(t *testing.T) {
	for given, want := range map[string]string{
		"redis://h:6379/1":                            "redis://h:6379/1",
		"redis://user:s3cret@h":                       "redis://user:xxxxx@h",
		"rediss://:s3cret@h/2":                        "rediss://:xxxxx@h/2",
		"nats://s3cret@h":                             "nats://xxxxx@h", // a token
		"nats://u:s3cret@a, tls://u:s3cret@b,c":       "nats://u:xxxxx@a,tls://u:xxxxx@b,c",
		"redis://user:s3cr%40et@h":                    "redis://user:xxxxx@h",
		"redis://s3cret:%zz@h":                        "xxxxx", // no URL: who knows what it holds
		"nats://a:4222,nats://b:4222,nats://s3cret@c": "nats://a:4222,nats://b:4222,nats://xxxxx@c",
	} {
		config := map[string]string{"url": given, "max_keys": "5"}
		before := maps.Clone(config)
		got := wasmatrix.PublicProviderConfig(config)
		if got["url"] != want || got["max_keys"] != "5" || len(got) != 2 {
			t.Errorf("%s becomes %v", given, got)
		}
		if !maps.Equal(config, before) {
			t.Errorf("the caller's config became %v", config)
		}
	}
	if got := wasmatrix.PublicProviderConfig(nil); len(got) != 0 {
		t.Errorf("nothing becomes %v", got)
	}
}

func TestDefaultProvidersAreThere(t *testing.T) {
	store := &wasmatrix.Provider{ID: "a-store", Type: wasmatrix.ProviderKV}
	stopped := &wasmatrix.Provider{ID: "http", Type: wasmatrix.ProviderHTTP, Stopped: true, Revision: 3}
	s := view{providers: []*wasmatrix.Provider{store, stopped}}
	var ids []string
	for _, p := range wasmatrix.AllProviders(s) {
		ids = append(ids, string(p.ID))
		one, ok := wasmatrix.ProviderOf(s, p.ID)
		if !ok || one.ID != p.ID || one.Type != p.Type || one.Stopped != p.Stopped || one.Revision != p.Revision {
			t.Errorf("%+v is listed and found as %+v", p, one)
		}
	}
	if !slices.Equal(ids, []string{"a-store", "http", "kv", "messaging"}) {
		t.Errorf("there are %q", ids)
	}
	if p, _ := wasmatrix.ProviderOf(s, "http"); p != stopped {
		t.Errorf("the default one that was changed is %+v", p)
	}
	if p, ok := wasmatrix.ProviderOf(s, "other"); ok {
		t.Errorf("there is %+v", p)
	}
	for _, typ := range wasmatrix.ProviderTypes {
		p, _ := wasmatrix.ProviderOf(view{}, wasmatrix.DefaultProvider(typ))
		if p == nil || p.Type != typ || p.Stopped {
			t.Errorf("of type %s there is %+v by default", typ, p)
			continue
		}
		if err := wasmatrix.ValidateProvider(p); err != nil {
			t.Error(err)
		}
	}
}

func TestPlaceProviders(t *testing.T) {
	node := func(id wasmatrix.NodeID, zone string, status wasmatrix.NodeStatus, draining bool) *wasmatrix.Node {
		return &wasmatrix.Node{ID: id, Addr: string(id) + ":1", Labels: map[string]string{"zone": zone}, Status: status, Draining: draining}
	}
	s := view{
		providers: []*wasmatrix.Provider{
			{ID: "edge", Type: wasmatrix.ProviderHTTP, Constraints: []wasmatrix.Constraint{{Key: "zone", Values: []string{"a"}}}},
			{ID: "nowhere", Type: wasmatrix.ProviderKV, Constraints: []wasmatrix.Constraint{{Key: "zone", Values: []string{"c"}}}},
		},
		nodes: []*wasmatrix.Node{
			node("n1", "a", wasmatrix.NodeUp, false), node("n2", "a", wasmatrix.NodeDown, false),
			node("n3", "a", wasmatrix.NodeUp, true), node("n4", "b", wasmatrix.NodeUp, false),
		},
	}
	got := map[wasmatrix.ProviderID]wasmatrix.PlacedProvider{}
	for _, p := range wasmatrix.PlaceProviders(s) {
		got[p.ID] = p
	}
	if len(got) != 5 || !got["kv"].Everywhere || len(got["kv"].Hosts) != 0 {
		t.Errorf("%+v", got)
	}
	if p := got["edge"]; p.Everywhere || !slices.Equal(p.Hosts, []wasmatrix.ProviderHost{{Node: "n1", Addr: "n1:1"}, {Node: "n3", Addr: "n3:1"}}) {
		t.Errorf("%+v", p)
	}
	if p := got["nowhere"]; p.Everywhere || len(p.Hosts) != 0 {
		t.Errorf("%+v", p)
	}
}

// TestHidesSecret: whatever the API shows with a secret left out is known as such,
// and what has no secret is not taken for it.
func TestHidesSecret(t *testing.T) {
	for _, url := range []string{
		"redis://:secret@h:6379/0", "rediss://user:secret@h", "nats://token@h", "nats://a,nats://u:secret@b", "nats://u:p@a, tls://b", "redis://h:6379/%zz",
	} {
		shown := wasmatrix.PublicProviderConfig(map[string]string{"url": url})["url"]
		if !wasmatrix.HidesSecret(shown) {
			t.Errorf("%q, shown as %q, is not known to be redacted", url, shown)
		}
		if wasmatrix.HidesSecret(url) {
			t.Errorf("%q passes for redacted", url)
		}
	}
	for _, value := range []string{"", "redis://h:6379/0", "nats://a,nats://b", "*.example.com,10.0.0.0/8", "64MiB"} {
		if wasmatrix.HidesSecret(value) {
			t.Errorf("%q passes for redacted", value)
		}
	}
}
