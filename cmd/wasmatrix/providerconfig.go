package main

import (
	"net/url"
	"strings"

	"github.com/wasmatrix/wasmatrix"
)

// maxConfigFile bounds a file that holds one value of a configuration, in bytes.
const maxConfigFile = 4096

// redacted stands for what is secret in a URL, where that is shown.
const redacted = "xxxxx"

// parseConfig reads KEY=VALUE and KEY=@FILE.
func (c *cli) parseConfig(pairs []string) (map[string]string, error) {
	config, err := parsePairs("--config", pairs)
	if err != nil {
		return nil, err
	}
	for k, v := range config {
		if path, ok := strings.CutPrefix(v, "@"); ok {
			data, err := c.readInput("--config "+k, path, maxConfigFile)
			if err != nil {
				return nil, err
			}
			v = strings.TrimRight(string(data), "\r\n")
			config[k] = v
		}
		if isRedacted(v) {
			return nil, usagef("--config %s: the password %s stands for one that is not shown; give the password itself", k, redacted)
		}
	}
	return config, nil
}

// isRedacted reports whether a value is one or several URLs as
// [wasmatrix.PublicProviderConfig] shows them. A password that is what stands for
// one is not told from it.
func isRedacted(value string) bool {
	for s := range strings.SplitSeq(value, ",") {
		s = strings.TrimSpace(s)
		if s == redacted {
			return true
		}
		u, err := url.Parse(s)
		if err != nil || u.User == nil {
			continue
		}
		if password, ok := u.User.Password(); ok && password == redacted || !ok && u.User.Username() == redacted {
			return true
		}
	}
	return false
}

// checkProvider checks a provider as the servers will, but for its constraints.
func checkProvider(name, typ string, config map[string]string) error {
	return wasmatrix.ValidateProvider(&wasmatrix.Provider{ID: wasmatrix.ProviderID(name), Type: wasmatrix.ProviderType(typ), Config: config})
}

func checkConstraints(constraints []string) error {
	for _, k := range constraints {
		if _, err := wasmatrix.ParseConstraint(k); err != nil {
			return usagef("--constraint: %s", wasmatrix.AsError(err).Message)
		}
	}
	return nil
}
