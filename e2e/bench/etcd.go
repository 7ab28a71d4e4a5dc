package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
)

var errNoEtcd = errors.New("etcd is not on PATH: install Debian's etcd-server to measure against it")

// startEtcd runs a cluster of three etcd servers on loopback, with its defaults
// (fsync on), until the program ends, and returns their client URLs and process
// IDs.
func startEtcd(p *harness.Program) (endpoints []string, pids []int, err error) {
	bin, err := exec.LookPath("etcd")
	if err != nil {
		return nil, nil, errNoEtcd
	}
	dir := p.TempDir()
	ports := harness.FreePorts(p, 6)
	var cluster []string
	for i := range 3 {
		cluster = append(cluster, fmt.Sprintf("e%d=http://127.0.0.1:%d", i, ports[2*i+1]))
		endpoints = append(endpoints, fmt.Sprintf("http://127.0.0.1:%d", ports[2*i]))
	}
	for i := range 3 {
		client, peer := endpoints[i], fmt.Sprintf("http://127.0.0.1:%d", ports[2*i+1])
		log, err := os.Create(filepath.Join(dir, fmt.Sprintf("e%d.log", i)))
		if err != nil {
			return nil, nil, err
		}
		defer log.Close()
		cmd := exec.Command(bin, "--name", fmt.Sprintf("e%d", i), "--data-dir", filepath.Join(dir, fmt.Sprintf("e%d", i)),
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new")
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			return nil, nil, err
		}
		pids = append(pids, cmd.Process.Pid)
		p.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed on purpose
		})
	}
	cl, err := etcdClient(endpoints)
	if err != nil {
		return nil, nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(p.Context(), harness.Patience)
	defer cancel()
	return endpoints, pids, harness.Until(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := cl.Put(ctx, "ready", "yes")
		return err
	})
}

func etcdClient(endpoints []string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}
