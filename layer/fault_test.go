package layer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/strata-storage/strata/block"
)

func newFault(t testing.TB, o FaultOptions) block.Device {
	t.Helper()
	return must[block.Device](t)(Fault(block.FromBytes(make([]byte, 64<<10)), o))
}

func TestFaultConforms(t *testing.T) {
	t.Parallel()
	conform(t, func(t testing.TB) block.Device {
		return must[block.Device](t)(Fault(disks(block.Info{NoWait: true}, 144<<10)[0], FaultOptions{Nth: 1 << 40}))
	})
}

// failedReads makes n reads of a byte and returns the numbers, from 1, of those
// that failed.
func failedReads(dev block.Device, n int) (numbers []int) {
	for i := 1; i <= n; i++ {
		if dev.ReadAt(context.Background(), make([]byte, 1), 0, 0) != nil {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

func TestFaultChoosesByNumber(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o    FaultOptions
		want []int
	}{
		{FaultOptions{}, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		{FaultOptions{Nth: 3}, []int{3}},
		{FaultOptions{Every: 4}, []int{4, 8}},
		{FaultOptions{Nth: 1, Every: 5}, []int{1, 5, 10}},
		{FaultOptions{Probability: 1}, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		{FaultOptions{Ops: []string{"write"}}, nil},
	} {
		if got := failedReads(newFault(t, c.o), 10); !slices.Equal(got, c.want) {
			t.Errorf("%+v: requests %v failed, want %v", c.o, got, c.want)
		}
	}
}

func TestFaultByProbabilityRepeats(t *testing.T) {
	t.Parallel()
	o := FaultOptions{Probability: 0.25, Seed: 7}
	first := failedReads(newFault(t, o), 1000)
	if len(first) < 200 || len(first) > 300 {
		t.Errorf("%d of 1000 requests failed, want about 250", len(first))
	}
	if !slices.Equal(first, failedReads(newFault(t, o), 1000)) {
		t.Error("the same seed failed other requests")
	}
	o.Seed = 8
	if slices.Equal(first, failedReads(newFault(t, o), 1000)) {
		t.Error("another seed failed the same requests")
	}
	o.Seed = 0
	if slices.Equal(failedReads(newFault(t, o), 1000), failedReads(newFault(t, o), 1000)) {
		t.Error("without a seed the same requests failed")
	}
}

func TestFaultChoosesOperationsAndErrors(t *testing.T) {
	t.Parallel()
	for op := range Op(numOps) {
		dev := newFault(t, FaultOptions{Ops: []string{op.String()}, Error: "ENOSPC"})
		for other, err := range everyRequest(dev) {
			if failed := errors.Is(err, block.ErrNoSpace); failed != (Op(other) == op) {
				t.Errorf("faults in %v: %v returned %v", op, Op(other), err)
			}
		}
	}
	dev := newFault(t, FaultOptions{})
	wantErr(t, dev.WriteAt(t.Context(), make([]byte, 9), 7, 0), syscall.EIO, "injected into a write of 9 bytes at 7: input/output error")
	wantErr(t, dev.Flush(t.Context()), syscall.EIO, "injected into a flush: input/output error")
}

func TestFaultChoosesARange(t *testing.T) {
	t.Parallel()
	dev := newFault(t, FaultOptions{Offset: 1000, Length: 100})
	toEnd := newFault(t, FaultOptions{Offset: 1000})
	for _, c := range []struct {
		off, n      int64
		want, toEnd bool
	}{
		{0, 1000, false, false}, {0, 1001, true, true}, {1050, 1, true, true}, {1099, 1, true, true},
		{1100, 1, false, true}, {0, 64 << 10, true, true},
	} {
		if got := dev.Zero(t.Context(), c.off, c.n, 0) != nil; got != c.want {
			t.Errorf("%d bytes at %d: failed is %v", c.n, c.off, got)
		}
		if got := toEnd.Zero(t.Context(), c.off, c.n, 0) != nil; got != c.toEnd {
			t.Errorf("%d bytes at %d, range up to the end: failed is %v", c.n, c.off, got)
		}
	}
	if dev.Flush(t.Context()) == nil {
		t.Error("a flush did not fail")
	}
}

func TestFaultGoesByAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "inject")
	dev := newFault(t, FaultOptions{File: file, Nth: 2})
	if got := failedReads(dev, 5); got != nil {
		t.Errorf("requests %v failed without the file", got)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := failedReads(dev, 5); !slices.Equal(got, []int{2}) {
		t.Errorf("requests %v failed with the file, want 2", got)
	}
}

func TestFaultCountsARequestOnce(t *testing.T) {
	t.Parallel()
	disk := &waiting{Pass: block.Pass{Device: block.FromBytes(make([]byte, 4096))}}
	dev := must[block.Device](t)(Fault(disk, FaultOptions{Ops: []string{"read"}, Nth: 2}))
	if dev.Info().NoWait {
		t.Error("NoWait is offered, so that requests come twice")
	}
}

func TestFaultRefusesBadOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]FaultOptions{
		`fault: "EOI" is not the name of an error number: write EIO, ENOSPC, EPERM, ENOMEM, EINVAL, ETIMEDOUT or another of the system's`: {Error: "EOI"},
		`fault: "reads" is not an operation: write read, write, zero, trim, flush or extents`:                                             {Ops: []string{"reads"}},
		"fault: error EAGAIN means that a request would block; choose another":                                                            {Error: "EAGAIN"},
		"fault: nth is -1 and every is 0, must not be negative":                                                                           {Nth: -1},
		"fault: probability is 1.5, must be from 0 to 1":                                                                                  {Probability: 1.5},
		"fault: offset is 0 and length is -5, must not be negative":                                                                       {Length: -5},
	} {
		if _, err := Fault(nothing{}, o); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}
