// Package identity is who may talk in a cluster: an [Authority] that is made with the
// cluster, certificates of nodes, and tokens that nodes join with.
//
// Each node has a key of its own and a certificate that names cluster and node. Nodes
// speak TLS 1.3 to each other, and both sides show theirs. Addresses are not in it:
// they may change.
//
// A [Token] carries what a machine must know to join: which cluster, by which
// authority it is to be recognised, and a secret that is worth one certificate. So a
// node cannot join a cluster by accident that only happens to answer, nor tell the
// secret to a stranger.
//
// Certificates do not expire. A cluster that has run for years shall not stop one
// night, and machines whose clock is wrong shall reach the others. Who is not to talk
// any more is expelled: its certificate is refused by name.
//
// Whoever has the authority can make nodes. It is a secret of the cluster.
package identity

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// NewCluster returns the name of a new cluster, 32 hexadecimal digits.
func NewCluster() string {
	b := make([]byte, clusterBytes)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

const clusterBytes = 16

func checkCluster(cluster string) error {
	b, err := hex.DecodeString(cluster)
	if err != nil || len(b) != clusterBytes || strings.ToLower(cluster) != cluster {
		return fmt.Errorf("identity: %.64q is not the name of a cluster, expected %d hexadecimal digits", cluster, 2*clusterBytes)
	}
	return nil
}

// maxNode is how long the name of a node may be.
const maxNode = 63

func checkNode(node string) error {
	bad := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}
	if node == "" || len(node) > maxNode || strings.ContainsFunc(node, bad) {
		return fmt.Errorf("identity: %.64q is not the name of a node, expected 1 to %d of a-z, 0-9 and -", node, maxNode)
	}
	return nil
}
