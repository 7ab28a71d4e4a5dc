package wasmatrix

import (
	"net/url"
	"strings"
)

// hidden stands for what is secret in a URL, where that is shown. It is what
// [url.URL.Redacted] puts in the place of a password.
const hidden = "xxxxx"

// PublicProviderConfig is config without the secrets of its URLs, for people. A
// user without a password may be a token, and is hidden as well.
func PublicProviderConfig(config map[string]string) map[string]string {
	out := make(map[string]string, len(config))
	for k, v := range config {
		if k == "url" {
			var parts []string
			for s := range strings.SplitSeq(v, ",") {
				parts = append(parts, redacted(strings.TrimSpace(s)))
			}
			v = strings.Join(parts, ",")
		}
		out[k] = v
	}
	return out
}

func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return hidden
	}
	if _, ok := u.User.Password(); u.User != nil && !ok {
		u.User = url.User(hidden)
	}
	return u.Redacted()
}

// HidesSecret reports whether a value is one or several URLs, with commas between,
// as [PublicProviderConfig] shows them where they have a secret. A password that is
// what stands for one is not told from it.
func HidesSecret(value string) bool {
	for s := range strings.SplitSeq(value, ",") {
		s = strings.TrimSpace(s)
		if s == hidden {
			return true
		}
		u, err := url.Parse(s)
		if err != nil || u.User == nil {
			continue
		}
		if password, ok := u.User.Password(); ok && password == hidden || !ok && u.User.Username() == hidden {
			return true
		}
	}
	return false
}
