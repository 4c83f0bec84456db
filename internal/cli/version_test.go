package cli

import (
	"runtime/debug"
	"testing"
)

// TestVersionOf: there is a version whatever the build tells.
func TestVersionOf(t *testing.T) {
	t.Parallel()
	const commit = "0123456789abcdef0123456789abcdef01234567"
	for _, tt := range []struct{ module, commit, want string }{
		{"", "", "devel"},
		{"(devel)", "", "devel"},
		{"(devel)", commit, "devel-0123456789ab"},
		{"", commit, "devel-0123456789ab"},
		{"v1.2.3", "", "v1.2.3"},
		{"v0.0.0-20260101000000-0123456789ab", commit, "v0.0.0-20260101000000-0123456789ab"},
	} {
		info := &debug.BuildInfo{Main: debug.Module{Version: tt.module}}
		if tt.commit != "" {
			info.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: tt.commit}}
		}
		if got := versionOf(info); got != tt.want {
			t.Errorf("module %q, commit %q: %q, want %q", tt.module, tt.commit, got, tt.want)
		}
	}
}
