package vm

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
)

// An archive is a file system for Linux to begin with, in the format "newc".
type archive struct {
	w    io.Writer
	have map[string]bool
	err  error
}

func newArchive(w io.Writer) *archive {
	return &archive{w: w, have: map[string]bool{".": true, "/": true}}
}

const (
	modeDir  = 0o040755
	modeFile = 0o100755
)

// entry writes one file or folder.
func (a *archive) entry(name string, mode int, content []byte) {
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		len(a.have), mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.pad([]byte(header + name + "\x00"))
	a.pad(content)
}

// pad writes p and fills up to a multiple of four.
func (a *archive) pad(p []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(append(p[:len(p):len(p)], make([]byte, -len(p)&3)...))
	}
}

// dir makes a folder and those above it, once.
func (a *archive) dir(name string) {
	if a.have[name] {
		return
	}
	a.dir(path.Dir(name))
	a.have[name] = true
	a.entry(name, modeDir, nil)
}

// file writes a file of the machine under another name, without a slash in
// front. What is there already stays.
func (a *archive) file(name string, content []byte) {
	if a.have[name] {
		return
	}
	a.dir(path.Dir(name))
	a.have[name] = true
	a.entry(name, modeFile, content)
}

func (a *archive) copy(name, from string) {
	p, err := os.ReadFile(from)
	if err != nil {
		a.err = err
		return
	}
	a.file(name, p)
}

var library = regexp.MustCompile(`/\S+\.so\S*`)

// program copies a program with the libraries that it needs.
func (a *archive) program(name, from string) {
	a.copy(name, from)
	// It fails for one that needs none.
	out, _ := exec.Command("ldd", from).Output()
	for _, lib := range library.FindAllString(string(out), -1) {
		a.copy(filepath.Clean(lib)[1:], lib)
	}
}

// close ends the archive.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil)
	return a.err
}
