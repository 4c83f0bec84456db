package source_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/source"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary is its own other process: with the environment variable set
// it plays a part instead of running tests.
const partVariable = "STRATA_SOURCE_PART"

func TestMain(m *testing.M) {
	if part := os.Getenv(partVariable); part != "" {
		if err := play(part, os.Args[1]); err != nil {
			fmt.Println(err)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// play does what part says with the file at path, and prints what came of it.
func play(part, path string) error {
	ctx := context.Background()
	if part == "limited" {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1000, Max: 1000}); err != nil {
			return err
		}
	}
	if part == "exec" {
		fmt.Println("starting")
		_, err := source.Exec(ctx, source.ExecOptions{Command: []string{"/bin/sh", "-c", `echo $$ > "$0"; exec sleep 1000`, path}})
		return err
	}
	d, err := source.File(ctx, source.FileOptions{Path: path, ReadOnly: part == "reader"})
	if err != nil {
		return err
	}
	if part == "writer" {
		// Every page holds the number of the round that wrote it.
		for round := 1; ; round++ {
			p := []byte(strings.Repeat(fmt.Sprintf("%08d", round), 512))
			for off := int64(0); off < d.Info().Size; off += int64(len(p)) {
				if err := d.WriteAt(ctx, p, off, block.NoWait); err != nil {
					if err = d.WriteAt(ctx, p, off, 0); err != nil {
						return err
					}
				}
			}
			if err := d.Flush(ctx); err != nil {
				return err
			}
			fmt.Println(round)
		}
	}
	fmt.Println("open")
	return d.Close()
}

// start begins part in another process. Its lines come from the scanner.
func start(t *testing.T, part, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), partVariable+"="+part)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// outcome runs part in another process to its end and returns its one line.
func outcome(t *testing.T, part, path string) string {
	t.Helper()
	cmd, lines := start(t, part, path)
	lines.Scan()
	line := lines.Text()
	for lines.Scan() {
	}
	cmd.Wait()
	return line
}
