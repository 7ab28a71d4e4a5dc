package agent

import (
	"context"
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
)

func newLogger(name string, cfg config.Log) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name:       name,
		Level:      hclog.LevelFromString(cfg.Level),
		JSONFormat: cfg.Format == "json",
		Output:     os.Stderr,
		// Each sub-logger follows the level of this one, so that SIGHUP reaches all.
		IndependentLevels: false,
	})
}

// reloadLogLevel reads the configuration again at each signal and takes over
// its log level, until ctx ends. then, if not nil, is called with each signal.
func reloadLogLevel(ctx context.Context, opts Options, log hclog.Logger, then func(os.Signal)) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-opts.Reload:
			if then != nil {
				then(sig)
			}
			if len(opts.ConfigPaths) == 0 {
				log.Warn("asked to read the configuration again, but there is no configuration file")
				continue
			}
			cfg, err := config.Load(opts.ConfigPaths...)
			if err != nil {
				log.Error("the configuration was not read again", "error", err)
				continue
			}
			log.SetLevel(hclog.LevelFromString(cfg.Log.Level))
			log.Info("log level reloaded", "level", cfg.Log.Level)
		}
	}
}
