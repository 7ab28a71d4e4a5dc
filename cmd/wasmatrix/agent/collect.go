package agent

import (
	"context"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability/kv"
)

const (
	// collectEvery is how often the leader looks in kv providers outside the servers
	// for what instances that are gone have left; the embedded one looks by itself.
	collectEvery   = 10 * time.Minute
	collectTimeout = time.Minute
)

// collect removes the own data of instances that are gone from kv providers outside
// the servers, for as long as ctx lasts. It is the leader's work.
func (s *server) collect(ctx context.Context) {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, p := range wasmatrix.AllProviders(s.machine.State()) {
			if err := s.collectFrom(ctx, p); err != nil && ctx.Err() == nil {
				s.log.Warn("what gone instances have left was not removed", "provider", p.ID, "error", err)
			}
		}
	}
}

func (s *server) collectFrom(ctx context.Context, p *wasmatrix.Provider) error {
	if p.Type != wasmatrix.ProviderKV || p.Stopped {
		return nil
	}
	conf, err := wasmatrix.KVConfigOf(p.Config)
	if err != nil || conf.URL == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, collectTimeout)
	defer cancel()
	r, err := kv.NewRedis(conf, redisPrefix(s.machine.State().Cluster()))
	if err != nil {
		return err
	}
	defer r.Close()
	removed, err := r.Collect(ctx, s.machine.State())
	if removed > 0 {
		s.log.Info("removed the data of instances that are gone", "provider", p.ID, "namespaces", removed)
	}
	return err
}
