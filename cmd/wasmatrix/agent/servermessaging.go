package agent

import (
	"context"

	"github.com/wasmatrix/wasmatrix/capability/messaging"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
)

// openMessaging starts the embedded messaging, unless it is turned off.
func (s *server) openMessaging(ctx context.Context) error {
	if !s.cfg.Server.Messaging.Enabled {
		return nil
	}
	ports := s.cfg.Ports
	for key, port := range map[string]int{"ports.messaging": ports.Messaging, "ports.messaging_routes": ports.MessagingRoutes} {
		// It would tell in its own words.
		l, err := listen(ctx, s.cfg, port, key)
		if err != nil {
			return err
		}
		_ = l.Close()
	}
	m, err := messaging.OpenServer(messaging.ServerConfig{
		Name: s.cfg.Name, Bind: s.cfg.BindAddr, ClientPort: ports.Messaging, RoutePort: ports.MessagingRoutes,
		Advertise: s.cfg.AdvertiseAddr, Logger: s.log.Named("messaging"),
	})
	if err != nil {
		return err
	}
	s.messaging = m
	s.onClose(func() {
		if err := m.Close(); err != nil {
			s.log.Warn("closing the messaging", "error", err)
		}
	})
	return nil
}

// routeMessaging has this server's messaging and that of the others form one, for
// as long as ctx lasts.
func (s *server) routeMessaging(ctx context.Context) {
	if s.messaging == nil || !s.nameMessaging(ctx) {
		return
	}
	changed := s.cluster.MembersChanged()
	for {
		var routes []string
		for _, m := range s.cluster.Members() {
			// Who is dead may come back at the same address, and is dialled until it does.
			if m.Role == gossip.RoleServer && m.Status != gossip.StatusLeft && m.RouteAddr() != "" {
				routes = append(routes, m.RouteAddr())
			}
		}
		if err := s.messaging.SetPeers(routes); err != nil {
			s.log.Warn("the messaging's routes were not changed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// nameMessaging gives the messaging the cluster's name as soon as there is one, so
// that it routes to servers of this cluster only. It reports false where ctx ends
// first.
func (s *server) nameMessaging(ctx context.Context) bool {
	for {
		changed := s.machine.Changed()
		if id := s.machine.State().Cluster(); id != "" {
			if err := s.messaging.SetCluster(string(id)); err != nil {
				s.log.Error("the messaging could not be given its cluster", "error", err)
				return false
			}
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}
