package exportname

import "testing"

func FuzzParse(f *testing.F) {
	for _, s := range []string{"vm1", "vm1?client=00000000000000ff.2", "vm1?client=ff.2", "?client=0000000000000000.1", "a?client=00000000000000ff.02"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		volume, client, number, err := Parse(name)
		switch {
		case err != nil:
		case client == 0 && (volume != name || number != 0):
			t.Errorf("%q became %q, %d, %d", name, volume, client, number)
		case client != 0 && Make(volume, client, number) != name:
			t.Errorf("%q became %q", name, Make(volume, client, number))
		}
	})
}

func TestParse(t *testing.T) {
	t.Parallel()
	if v, c, n, err := Parse(Make("vm1", 1<<63, 7)); v != "vm1" || c != 1<<63 || n != 7 || err != nil {
		t.Error(v, c, n, err)
	}
	for _, bad := range []string{"vm1?client=", "vm1?client=12.1", "vm1?client=00000000000000ff", "vm1?client=00000000000000ff.0", "vm1?client=00000000000000fF.1"} {
		if _, _, _, err := Parse(bad); err == nil {
			t.Errorf("%q has been understood", bad)
		}
	}
}
