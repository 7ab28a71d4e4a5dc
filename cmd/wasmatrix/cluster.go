package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

func (c *cli) clusterCommand() *cobra.Command {
	return group("cluster", "Show and change the cluster",
		"Show and change the servers' Raft group and the agents that gossip knows.",
		c.clusterStatusCommand(), c.clusterMembersCommand(), c.clusterPeersCommand(), c.clusterLeaderCommand(),
		c.clusterJoinCommand(), c.clusterLeaveCommand(), c.clusterTransferCommand(), c.clusterRemovePeerCommand(),
		c.snapshotCommand())
}

func (c *cli) clusterStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "status",
		Short:             "Show the state of the cluster as the server asked sees it",
		Example:           "  wasmatrix cluster status\n  wasmatrix cluster status --addr 10.0.0.2:7480",
		Args:              wants(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
			s, err := cl.Cluster.GetStatus(ctx, &api.GetStatusRequest{})
			if err != nil {
				return err
			}
			if c.json() {
				return c.writeJSON(s)
			}
			return c.statusText(s)
		}),
	}
}

func (c *cli) statusText(s *api.GetStatusResponse) error {
	f := &fields{}
	f.add("Cluster", s.GetClusterId())
	leader := s.GetLeaderId()
	switch {
	case leader == "":
		leader = "none"
	case s.GetLeaderAddress() != "":
		leader += " at " + s.GetLeaderAddress()
	}
	f.add("Leader", leader)
	f.add("Voters", fmt.Sprintf("%d, of which %d more may fail", s.GetVoters(), max(0, s.GetFailureTolerance())))
	f.add("Nodes", fmt.Sprintf("%d up, %d down", s.GetNodesUp(), s.GetNodesDown()))
	f.add("Instances", count(s.GetInstances()))
	for _, name := range allStatusNames() {
		if n := s.GetInstancesByStatus()[name]; n > 0 {
			f.add("  "+name, count(n))
		}
	}
	f.add("Server", s.GetServerId())
	f.add("State", s.GetState())
	f.add("Version", s.GetVersion())
	f.add("Started", moment(s.GetStartedAt()))
	f.add("Term", count(s.GetTerm()))
	f.add("Commit index", count(s.GetCommitIndex()))
	f.add("Applied index", count(s.GetAppliedIndex()))
	f.add("Last index", count(s.GetLastIndex()))
	if s.GetLastContact() != nil && s.GetState() != "leader" {
		f.add("Last contact", s.GetLastContact().AsDuration().Round(time.Millisecond).String()+" ago")
	}
	f.add("State hash", fmt.Sprintf("%s at %d", s.GetStateHash(), s.GetStateIndex()))
	for _, g := range s.GetGroups() {
		groupFields(f, g)
	}
	return f.write(c.out)
}

// groupFields shows a server's part in the Raft group of a provider.
func groupFields(f *fields, g *api.HostedGroup) {
	f.add("Group", g.GetName())
	leader := g.GetLeaderId()
	if leader == "" {
		leader = "none"
	}
	f.add("  leader", leader)
	f.add("  voters", count(g.GetVoters()))
	f.add("  state", g.GetState())
	f.add("  term", count(g.GetTerm()))
	f.add("  commit index", count(g.GetCommitIndex()))
	f.add("  applied index", count(g.GetAppliedIndex()))
	f.add("  state hash", fmt.Sprintf("%s at %d", g.GetStateHash(), g.GetStateIndex()))
	f.add("  namespaces", count(g.GetNamespaces()))
	f.add("  keys", count(g.GetKeys()))
	f.add("  bytes", wasmatrix.FormatBytes(g.GetBytes()))
}

func (c *cli) clusterMembersCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "members",
		Short:             "List the agents that gossip knows",
		Example:           "  wasmatrix cluster members",
		Args:              wants(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
			res, err := cl.Cluster.ListMembers(ctx, &api.ListMembersRequest{})
			if err != nil {
				return err
			}
			if c.json() {
				return c.writeJSON(res)
			}
			t := newTable("NAME", "ROLE", "STATUS", "GOSSIP", "API", "VERSION")
			for _, m := range res.GetMembers() {
				t.add(m.GetName(), m.GetRole(), m.GetStatus(), m.GetGossipAddress(), dash(m.GetApiAddress()), dash(m.GetVersion()))
			}
			return c.writeTable(t)
		}),
	}
}

func (c *cli) clusterPeersCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "peers",
		Short:             "List the servers of the Raft group",
		Example:           "  wasmatrix cluster peers",
		Args:              wants(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
			res, err := cl.Cluster.ListPeers(ctx, &api.ListPeersRequest{})
			if err != nil {
				return err
			}
			if c.json() {
				return c.writeJSON(res)
			}
			t := newTable("SERVER", "STATE", "VOTER", "STATUS", "RAFT", "API", "LAST INDEX", "LAST CONTACT", "VERSION")
			for _, p := range res.GetPeers() {
				state, contact := "follower", "-"
				if p.GetLeader() {
					state = "leader"
				} else if p.GetLastContact() != nil {
					contact = p.GetLastContact().AsDuration().Round(time.Millisecond).String()
				}
				status := "unhealthy"
				if p.GetHealthy() {
					status = "healthy"
				}
				t.add(p.GetServerId(), state, yesNo(p.GetVoter()), status, p.GetRaftAddress(), dash(p.GetApiAddress()),
					count(p.GetLastIndex()), contact, dash(p.GetVersion()))
			}
			return c.writeTable(t)
		}),
	}
}

func (c *cli) clusterLeaderCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "leader",
		Short:             "Show the leader",
		Long:              "Show the leader that the server asked knows of. Without one, fail with NO_LEADER.",
		Example:           "  wasmatrix cluster leader",
		Args:              wants(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
			s, err := cl.Cluster.GetStatus(ctx, &api.GetStatusRequest{})
			if err != nil {
				return err
			}
			if s.GetLeaderId() == "" {
				return wasmatrix.Errorf(wasmatrix.CodeNoLeader, "server %s knows of no leader in term %d", s.GetServerId(), s.GetTerm())
			}
			if c.json() {
				return c.writeJSON(&api.GetStatusResponse{
					ClusterId: s.GetClusterId(), LeaderId: s.GetLeaderId(), LeaderAddress: s.GetLeaderAddress(), Term: s.GetTerm(),
				})
			}
			t := newTable("LEADER", "API", "TERM")
			t.add(s.GetLeaderId(), dash(s.GetLeaderAddress()), count(s.GetTerm()))
			return c.writeTable(t)
		}),
	}
}

func (c *cli) clusterJoinCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "join ADDR...",
		Short: "Make an agent join the cluster of others",
		Long: `Make the agent that is asked contact others at their gossip addresses. A server
becomes a voter of their cluster once it has caught up.`,
		Example:           "  wasmatrix cluster join --addr 10.0.0.4:7480 10.0.0.1:7482",
		Args:              wants("ADDR..."),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, a := range args {
				if err := config.CheckJoinAddr(a); err != nil {
					return usagef("ADDR %s", err)
				}
			}
			return c.call(func(ctx context.Context, cl *client.Client, args []string) error {
				res, err := cl.Cluster.Join(ctx, &api.JoinRequest{Addresses: args})
				if err != nil {
					return err
				}
				if c.json() {
					return c.writeJSON(res)
				}
				_, err = fmt.Fprintf(c.out, "contacted %d of %d\n", res.GetContacted(), len(args))
				return err
			})(cmd, args)
		},
	}
}

func (c *cli) clusterLeaveCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "leave",
		Short:             "Make a server leave the cluster and end",
		Long:              "Make the server that is asked leave the Raft group and the gossip, and end its process.",
		Example:           "  wasmatrix cluster leave --addr 10.0.0.4:7480",
		Args:              wants(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: c.call(func(ctx context.Context, cl *client.Client, _ []string) error {
			res, err := cl.Cluster.Leave(ctx, &api.LeaveRequest{})
			if err != nil {
				return err
			}
			if c.json() {
				return c.writeJSON(res)
			}
			_, err = fmt.Fprintln(c.out, "the server is leaving")
			return err
		}),
	}
}

func (c *cli) clusterTransferCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "transfer-leadership [SERVER]",
		Short:             "Give the leadership to another server",
		Long:              "Give the leadership to a server, by its ID or name, or to the one that is most up to date.",
		Example:           "  wasmatrix cluster transfer-leadership\n  wasmatrix cluster transfer-leadership b",
		Args:              wants("[SERVER]"),
		ValidArgsFunction: c.peerIDs(),
		RunE: c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			req := &api.TransferLeadershipRequest{}
			if len(args) > 0 {
				req.Server = args[0]
			}
			res, err := cl.Cluster.TransferLeadership(ctx, req)
			if err != nil {
				return err
			}
			if c.json() {
				return c.writeJSON(res)
			}
			_, err = fmt.Fprintln(c.out, res.GetLeaderId())
			return err
		}),
	}
}

func (c *cli) clusterRemovePeerCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove-peer SERVER",
		Short: "Remove a server from the Raft group",
		Long: `Remove a server, by its ID or name, from the Raft group: one that is dead and will
not come back. One that lives should be made to leave.`,
		Example:           "  wasmatrix cluster remove-peer c.5d3f0a91",
		Args:              wants("SERVER"),
		ValidArgsFunction: c.peerIDs(),
		RunE: c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			res, err := cl.Cluster.RemovePeer(ctx, &api.RemovePeerRequest{Server: args[0]})
			if err != nil {
				return err
			}
			if c.json() {
				return c.writeJSON(res)
			}
			_, err = fmt.Fprintln(c.out, res.GetServerId())
			return err
		}),
	}
}

func (c *cli) peerIDs() cobra.CompletionFunc {
	return once(false, c.ask(func(ctx context.Context, cl *client.Client) ([]string, error) {
		res, err := cl.Cluster.ListPeers(ctx, &api.ListPeersRequest{})
		var ids []string
		for _, p := range res.GetPeers() {
			ids = append(ids, p.GetServerId())
		}
		return ids, err
	}))
}
