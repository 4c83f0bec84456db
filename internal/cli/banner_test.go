package cli

import "testing"

// TestCommand: commands that are shown work in the shell that started the
// program.
func TestCommand(t *testing.T) {
	t.Parallel()
	for program, want := range map[string]string{
		"":                    "strata",
		"strata":              "strata",
		"./strata":            "./strata",
		"/opt/x-1/bin/strata": "/opt/x-1/bin/strata",
		"/a b/strata":         "'/a b/strata'",
		"it's/strata":         `'it'\''s/strata'`,
		"$HOME/strata":        "'$HOME/strata'",
	} {
		if got := (&Env{Program: program}).command(); got != want {
			t.Errorf("%q: %s, want %s", program, got, want)
		}
	}
}
