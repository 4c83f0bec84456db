package blocktest

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
)

func TestParse(t *testing.T) {
	const script = "write 4096 512 seed=7 fua\nflush\nread 0 1 nowait\nzero 1024 8192 fua nohole fastzero\ntrim 0 -5\nextents 0 1048576\n"
	h, err := Parse("# a comment\n\n" + strings.ReplaceAll(script, "flush", "  flush # now"))
	if err != nil {
		t.Fatal(err)
	}
	if got := h.String(); got != script {
		t.Errorf("got\n%s", got)
	}
	for script, want := range map[string]string{
		"flush\nwrit 0 1":               `line 2: unknown operation "writ"`,
		"read 0":                        "line 1: read needs an offset and a length",
		"read x 1":                      `offset "x" is not a number`,
		"read 0 1.5":                    `length "1.5" is not a number`,
		"read 0 67108865":               "length 67108865 of a read, want 0 to 67108864",
		"write 0 -1":                    "length -1 of a write",
		"write 0 1 seed=-1":             `seed "-1" is not a number`,
		"read 0 1 fua":                  `unknown word "fua" behind read`,
		"trim 0 1 seed=1":               `unknown word "seed=1"`,
		"flush 1":                       `flush takes no arguments, found "1"`,
		"zero 99999999999999999999 1":   "is not a number of bytes",
		strings.Repeat("x", 128<<10):    "line 1: ",
		"read 0 1\n\n\nextents 1 2 fua": "line 4: ",
	} {
		if _, err := Parse(script); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", script, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("write 4096 512 seed=7 fua\nflush\nzero 1 2 nohole\n")
	f.Add("# nothing\n\ntrim -1 9223372036854775807")
	f.Fuzz(func(t *testing.T, script string) {
		h, err := Parse(script)
		if err != nil {
			return
		}
		again, err := Parse(h.String())
		if err != nil || !reflect.DeepEqual(h, again) {
			t.Fatalf("%q became %q: %v", h, again, err)
		}
		for _, op := range h {
			if op.Len > 1<<20 && op.Kind&(Read|Write) != 0 {
				return
			}
		}
		if err := h.Run(context.Background(), NewDevice(block.Info{Size: 64 << 10, MinBlock: 2})); err != nil {
			t.Fatalf("%v on the reference device", err)
		}
	})
}

func TestGenerate(t *testing.T) {
	for _, info := range []block.Info{
		{Size: 1 << 20},
		{Size: 128<<10 + 1},
		{Size: 1 << 20, MinBlock: 4096, MaxBlock: 8192},
		{Size: 1 << 50},
		{Size: 1 << 20, ReadOnly: true},
	} {
		h := Generate(5, info, 400)
		if !reflect.DeepEqual(h, Generate(5, info, 400)) {
			t.Errorf("%+v: two histories from one seed", info)
		}
		var kinds Kind
		for _, op := range h {
			kinds |= op.Kind
			if err := info.CheckRange(op.Off, op.Len); err != nil {
				t.Errorf("%v: %v", op, err)
			}
			if op.Kind&(Read|Write) != 0 && info.MaxBlock > 0 && op.Len > int64(info.MaxBlock) {
				t.Errorf("%v is longer than MaxBlock", op)
			}
		}
		if kinds != Any {
			t.Errorf("%+v: only %v", info, kinds)
		}
	}
	if h := Generate(1, block.Info{}, 10); len(h) != 0 {
		t.Errorf("%d operations for an empty device", len(h))
	}
}

// TestShrink: of a random history nothing is left but what the failure needs.
func TestShrink(t *testing.T) {
	info := block.Info{Size: 1 << 20}
	run := func(h History) error {
		d := &twisted{Pass: block.Pass{Device: NewDevice(info)}}
		trimmed := false
		d.trim = func(ctx context.Context, off, n int64, flags block.Flags) error {
			trimmed = true
			return d.Device.Trim(ctx, off, n, flags)
		}
		d.write = func(ctx context.Context, p []byte, off int64, flags block.Flags) error {
			if trimmed && flags&block.FUA != 0 && len(p) > 512 {
				p = p[:len(p)-1]
			}
			return d.Device.WriteAt(ctx, p, off, flags)
		}
		return h.Run(t.Context(), d)
	}
	h := Generate(3, info, 200)
	err := run(h)
	if !errors.Is(err, ErrBroken) {
		t.Fatalf("the history does not fail: %v", err)
	}
	short, shortErr := h.Shrink(info, err, run)
	if len(short) != 2 || short[0].Kind != Trim || short[1].Kind != Write || short[1].Len > 1024 || short[1].Flags != block.FUA {
		t.Errorf("left\n%v", short)
	}
	if !errors.Is(shortErr, ErrBroken) || !errors.Is(run(short), ErrBroken) {
		t.Errorf("what is left fails with %v", shortErr)
	}
}

// TestExplain: a failing history of the suite is printed as a script that
// fails, and the file named by BLOCKTEST_HISTORY is run instead of all others.
func TestExplain(t *testing.T) {
	s := &suite{seeds: 3, patience: 1 << 40, open: func(testing.TB) block.Device {
		d := &twisted{Pass: block.Pass{Device: NewDevice(block.Info{Size: 1 << 20})}}
		d.zero = func(context.Context, int64, int64, block.Flags) error { return nil }
		return d
	}}
	p := &probe{suite: s, t: t, ctx: t.Context()}
	err := testHistory(p)
	if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "BLOCKTEST_HISTORY=$PWD/h.txt go test -run '^TestExplain$'") {
		t.Fatalf("got %v", err)
	}
	_, script, _ := strings.Cut(err.Error(), "this is enough:\n")
	script, _, _ = strings.Cut(script, "To run it again")
	h, parseErr := Parse(script)
	if parseErr != nil || len(h) > 3 {
		t.Fatalf("script %q: %v", script, parseErr)
	}
	if err := p.play(h); !errors.Is(err, ErrBroken) {
		t.Errorf("the script gives %v", err)
	}
}

func TestFill(t *testing.T) {
	const size = 5000
	whole := filled(0, size, 9)
	for _, s := range []span{{0, 1}, {1, 7}, {3, 600}, {511, 513}, {8, 4096}, {4997, 3}} {
		if !bytes.Equal(filled(s.off, s.n, 9), whole[s.off:s.off+s.n]) {
			t.Errorf("%d bytes at %d depend on where the buffer begins", s.n, s.off)
		}
	}
	for i := 0; i < size; i += 8 {
		if block.IsZero(whole[i : i+8]) {
			t.Errorf("the word at %d is zero", i)
		}
	}
	if bytes.Equal(whole, filled(0, size, 10)) {
		t.Error("two seeds give the same bytes")
	}
}
