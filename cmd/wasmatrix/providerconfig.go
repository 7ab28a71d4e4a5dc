package main

import (
	"strings"

	"github.com/wasmatrix/wasmatrix"
)

// maxConfigFile bounds a file that holds one value of a configuration, in bytes.
const maxConfigFile = 4096

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
		if wasmatrix.HidesSecret(v) {
			return nil, usagef("--config %s: the password in %q stands for one that is not shown; give the password itself", k, v)
		}
	}
	return config, nil
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
