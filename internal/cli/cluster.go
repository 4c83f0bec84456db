package cli

import "github.com/spf13/cobra"

func (e *Env) cluster() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cluster",
		Short:   "Look after the nodes of a cluster",
		Long:    "Looks after a cluster, through a node of it that runs on this machine.",
		GroupID: groupCluster,
	}
	onlyCommands(cmd)
	cmd.AddCommand(
		e.clusterStatus(), e.clusterJobs(), e.clusterScrub(), e.clusterSuspend(), e.clusterResume(),
		e.clusterToken(), e.clusterTokens(), e.clusterWithdraw(),
		e.clusterDrain(), e.clusterUndrain(), e.clusterWeight(), e.clusterForget(), e.clusterRecover(),
	)
	return cmd
}
