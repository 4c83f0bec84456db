package spell

import "testing"

// TestDidYouMean: a near name is suggested; few names are listed if none is.
func TestDidYouMean(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		known []string
		want  string
	}{
		{"conkat", []string{"concat", "cow"}, `; did you mean "concat"?`},
		{"ocw", []string{"concat", "cow"}, `; did you mean "cow"?`},
		{"--readonly", []string{"--read-only", "--tls"}, `; did you mean "--read-only"?`},
		{"zzz", []string{"cow", "concat", "mem"}, `; there is "concat", "cow" and "mem"`},
		{"zzz", make([]string, 13), ""},
		{"zzz", nil, ""},
	} {
		if got := DidYouMean(c.name, c.known); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
