package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/group"
	"github.com/wasmatrix/wasmatrix/cluster/identity"
)

// A survivor goes on alone, or with those that it is told of, by the peers file that an
// operator has put into the control group's directory. Hosted groups have lost their
// majorities with that group, and follow: each gets a copy before the control group
// takes the file over, so that wherever the process ends, all of them have gone on or
// will with the next start.

// startControl opens the control group, with the peers file handed down.
func (c *Cluster) startControl() error {
	path := filepath.Join(c.control.dir, group.PeersFile)
	copies, err := c.handDown(path)
	if err != nil {
		return err
	}
	if err := c.control.start(nil); err != nil {
		if _, there := os.Stat(path); there == nil {
			// The file was refused, and may be taken away.
			for _, f := range copies {
				err = errors.Join(err, os.Remove(f))
			}
		}
		return err
	}
	return nil
}

// handDown gives the hosted groups that have begun a copy of the peers file, and
// returns where they are. There is none where there is no file.
func (c *Cluster) handDown(path string) (copies []string, err error) {
	peers, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "read the peers file: %w", err)
	}
	for _, h := range c.hosted {
		if !h.acceptor.kept.Opened {
			continue
		}
		f := filepath.Join(h.dir, group.PeersFile)
		if err := identity.Replace(f, peers); err != nil {
			return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "group %s: hand the peers file down: %w", h.conf.Name, err)
		}
		copies = append(copies, f)
	}
	return copies, nil
}
