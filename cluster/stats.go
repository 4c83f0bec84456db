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
