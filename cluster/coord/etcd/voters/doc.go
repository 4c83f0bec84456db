// Package voters sees to it that a few of many nodes vote on what the cluster
// agrees on, whichever nodes there are: 1 of up to 2, 3 of up to 6, 5 of more.
//
// [Next] decides and [Keep] carries out, on the node that leads an election. Nodes
// neither add nor promote themselves: those that do so at the same time block each
// other. They follow the entry that Keep writes, a [Record]: who is in it starts a
// member, who is not stops it and deletes its data, and all learn from it where the
// voters can be reached.
//
// The package knows no etcd. What it needs of it is a [Cluster].
package voters
