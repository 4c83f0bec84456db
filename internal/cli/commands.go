package cli

import "github.com/spf13/cobra"

// commands are those of the program, each made anew.
func (e *Env) commands() []*cobra.Command {
	return []*cobra.Command{
		e.serve(), e.demo(), e.checkConfig(), e.status(), e.reload(), e.stop(), e.lockServer(),
		e.node(), e.cluster(), e.volume(),
		e.info(), e.list(), e.copy(), e.bench(), e.snapshot(), e.cow(), e.check(),
		e.layers(), e.cert(), e.version(),
	}
}
