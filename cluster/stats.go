package cluster

import "github.com/strata-storage/strata/cluster/disk"

// DiskStats are figures on the disks of this node, by their IDs.
func (n *Node) DiskStats() map[string]disk.Stats {
	all := make(map[string]disk.Stats, len(n.disks))
	for id, d := range n.disks {
		all[id] = d.disk.Stats()
	}
	return all
}

// Sessions are how many other nodes are connected to this one, counted by their sessions,
// and to how many this one is.
func (n *Node) Sessions() (in, out int) {
	if n.wire != nil {
		in = len(n.wire.Sessions())
	}
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	for _, p := range n.peers.nodes {
		if c := p.link.Current(); c != nil && c.Err() == nil {
			out++
		}
	}
	return in, out
}
