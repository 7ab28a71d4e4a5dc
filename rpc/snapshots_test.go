package rpc_test

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/rpc/rpctest"
)

func saveSnapshot(t *testing.T, cl *client.Client, group string) ([]byte, error) {
	t.Helper()
	saved, err := cl.Cluster.SaveSnapshot(t.Context(), &api.SaveSnapshotRequest{Group: group})
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	var all []byte
	for saved.Receive() {
		all = append(all, saved.Msg().Data...)
	}
	return all, saved.Err()
}

func restoreSnapshot(t *testing.T, cl *client.Client, group string, all []byte) (*api.RestoreSnapshotResponse, error) {
	t.Helper()
	restore, err := cl.Cluster.RestoreSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(all, 200_000) {
		if restore.Send(&api.RestoreSnapshotRequest{Data: part, Group: group}) != nil {
			break // the answer says why
		}
	}
	return restore.CloseAndReceive()
}

// TestSnapshotsOfEveryGroup go to and from its leader, whoever that is and
// whichever server is asked, in one hop.
func TestSnapshotsOfEveryGroup(t *testing.T) {
	c := newCluster(t, 3)
	var hops atomic.Int32
	for _, s := range c.Servers {
		s.Before(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			hops.Add(1)
			next.ServeHTTP(w, r)
		})
	}
	for _, group := range []string{"", rpctest.HostedGroup} {
		for leader := range c.Servers {
			for hosted := range c.Servers {
				c.SetLeader(leader)
				c.SetHostedLeader(hosted)
				for asked := range c.Servers {
					for name, opts := range protocols {
						cl := c.Client(func(cfg *client.Config) { cfg.Options = opts; cfg.RetryFor = -1 }, asked)
						hops.Store(0)
						all, err := saveSnapshot(t, cl, group)
						if err != nil {
							t.Fatalf("%s: saving %q at server %d, led by %d and %d: %v", name, group, asked, leader, hosted, err)
						}
						if len(all) != rpctest.SnapshotSize+len(group) || !strings.HasSuffix(string(all), group) || hops.Load() > 2 {
							t.Errorf("%s: %d bytes were saved, in %d requests", name, len(all), hops.Load())
						}
						hops.Store(0)
						res, err := restoreSnapshot(t, cl, group, all)
						if err != nil {
							t.Fatalf("%s: restoring %q at server %d, led by %d and %d: %v", name, group, asked, leader, hosted, err)
						}
						if want := wasmatrix.DigestOf(append([]byte(group), all...)).String(); "sha256:"+res.StateHash != want || hops.Load() > 2 {
							t.Errorf("%s: restored %v, want %s of %d bytes, in %d requests", name, res, want, len(all), hops.Load())
						}
					}
				}
			}
		}
	}
}

func TestSnapshotsOfNoGroup(t *testing.T) {
	c := newCluster(t, 2)
	for asked := range c.Servers {
		cl := c.Client(once, asked)
		_, err := saveSnapshot(t, cl, "none")
		wantCode(t, "saving", err, wasmatrix.CodeValidation, "")
		_, err = restoreSnapshot(t, cl, "none", []byte("x"))
		wantCode(t, "restoring", err, wasmatrix.CodeValidation, "")
		_, err = saveSnapshot(t, cl, "%")
		wantCode(t, "saving what is no name", err, wasmatrix.CodeInvalidRequest, "")
		_, err = restoreSnapshot(t, cl, "", nil)
		wantCode(t, "restoring nothing", err, wasmatrix.CodeInvalidRequest, "")
		restore, err := cl.Cluster.RestoreSnapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range []string{rpctest.HostedGroup, "other"} {
			_ = restore.Send(&api.RestoreSnapshotRequest{Data: []byte("x"), Group: group})
		}
		_, err = restore.CloseAndReceive()
		wantCode(t, "restoring of two groups", err, wasmatrix.CodeInvalidRequest, "")
	}
}

// TestAHostedGroupsLeaderIsWaitedFor as that of the control plane is.
func TestAHostedGroupsLeaderIsWaitedFor(t *testing.T) {
	c := newCluster(t, 2)
	for _, elected := range []int{0, 1} {
		for what, f := range map[string]func(*client.Client) error{
			"save": func(cl *client.Client) error {
				_, err := saveSnapshot(t, cl, rpctest.HostedGroup)
				return err
			},
			"restore": func(cl *client.Client) error {
				_, err := restoreSnapshot(t, cl, rpctest.HostedGroup, make([]byte, 2_000_000))
				return err
			},
		} {
			c.SetHostedLeader(-1)
			done := make(chan error, 1)
			go func() { done <- f(c.Client(once, 1)) }()
			select {
			case err := <-done:
				t.Fatalf("%s without a leader: %v", what, err)
			case <-time.After(50 * time.Millisecond): // it could have failed by now, and waits
			}
			c.SetHostedLeader(elected)
			if err := <-done; err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	short := newCluster(t, 2, func(cfg *rpc.Config) { cfg.LeaderWait = 50 * time.Millisecond })
	short.SetHostedLeader(-1)
	_, err := saveSnapshot(t, short.Client(once, 1), rpctest.HostedGroup)
	wantCode(t, "saving in the end", err, wasmatrix.CodeNoLeader, "")
}
