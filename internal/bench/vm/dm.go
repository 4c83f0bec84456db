package vm

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's device mapper, by its ioctls: the program dmsetup would take most
// of the time that a change takes.

const (
	dmCreate  = 3
	dmRemove  = 4
	dmSuspend = 6
	dmLoad    = 9
	dmStatus  = 12
	dmMessage = 14

	dmHeader      = 312 // struct dm_ioctl
	dmSpec        = 40  // struct dm_target_spec
	dmBuffer      = 16 << 10
	dmSuspendFlag = 1 << 1
)

// The offsets in struct dm_ioctl.
const (
	dmDataSize  = 12
	dmDataStart = 16
	dmTargets   = 20
	dmFlags     = 28
	dmDev       = 40
	dmName      = 48
	dmNameSize  = 128
)

const sector = 512

// dmRequest makes the buffer of a request.
func dmRequest(name string, flags uint32, payload []byte) ([]byte, error) {
	if len(name) >= dmNameSize || dmHeader+len(payload) > dmBuffer {
		return nil, fmt.Errorf("device mapper: a name of %d and data of %d bytes", len(name), len(payload))
	}
	p := make([]byte, dmBuffer)
	binary.NativeEndian.PutUint32(p, 4) // version of the interface
	binary.NativeEndian.PutUint32(p[dmDataSize:], dmBuffer)
	binary.NativeEndian.PutUint32(p[dmDataStart:], dmHeader)
	binary.NativeEndian.PutUint32(p[dmFlags:], flags)
	copy(p[dmName:], name)
	copy(p[dmHeader:], payload)
	return p, nil
}

// dmTable is the payload that loads a table of one target.
func dmTable(sectors int64, target, args string) []byte {
	p := make([]byte, (dmSpec+len(args)+1+7)&^7)
	binary.NativeEndian.PutUint64(p[8:], uint64(sectors))
	binary.NativeEndian.PutUint32(p[20:], uint32(len(p)))
	copy(p[24:40], target)
	copy(p[dmSpec:], args)
	return p
}

// A mapper is the device mapper of the machine.
type mapper struct{ control *os.File }

func openMapper() (*mapper, error) {
	f, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &mapper{f}, nil
}

func (m *mapper) do(command uintptr, p []byte) error {
	request := 3<<30 | dmHeader<<16 | 0xfd<<8 | command // _IOWR
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, m.control.Fd(), request, uintptr(unsafe.Pointer(&p[0])))
	if errno != 0 {
		name := strings.TrimRight(string(p[dmName:dmName+dmNameSize]), "\x00")
		return fmt.Errorf("device mapper: command %d for %s: %w", command, name, errno)
	}
	return nil
}

func (m *mapper) simple(command uintptr, name string, flags uint32, payload []byte) ([]byte, error) {
	p, err := dmRequest(name, flags, payload)
	if err != nil {
		return nil, err
	}
	return p, m.do(command, p)
}

// create makes a device of one target and returns its path.
func (m *mapper) create(name string, sectors int64, target, format string, args ...any) (string, error) {
	p, err := m.simple(dmCreate, name, 0, nil)
	if err != nil {
		return "", err
	}
	if err := m.replace(name, sectors, target, format, args...); err != nil {
		m.remove(name)
		return "", err
	}
	return fmt.Sprintf("/dev/dm-%d", unix.Minor(binary.NativeEndian.Uint64(p[dmDev:]))), nil
}

// load gives a device a table, which it uses when it is resumed.
func (m *mapper) load(name string, sectors int64, target, format string, args ...any) error {
	p, err := dmRequest(name, 0, dmTable(sectors, target, fmt.Sprintf(format, args...)))
	if err != nil {
		return err
	}
	binary.NativeEndian.PutUint32(p[dmTargets:], 1)
	if err := m.do(dmLoad, p); err != nil {
		return fmt.Errorf("%w: %s %s", err, target, fmt.Sprintf(format, args...))
	}
	return nil
}

func (m *mapper) replace(name string, sectors int64, target, format string, args ...any) error {
	if err := m.load(name, sectors, target, format, args...); err != nil {
		return err
	}
	return m.resume(name)
}

func (m *mapper) suspend(name string) error {
	_, err := m.simple(dmSuspend, name, dmSuspendFlag, nil)
	return err
}

func (m *mapper) resume(name string) error {
	_, err := m.simple(dmSuspend, name, 0, nil)
	return err
}

func (m *mapper) remove(name string) error {
	_, err := m.simple(dmRemove, name, 0, nil)
	return err
}

// message tells the target at the beginning of a device something.
func (m *mapper) message(name, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	payload := append(make([]byte, 8), text...)
	_, err := m.simple(dmMessage, name, 0, append(payload, 0))
	if err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	return nil
}

// status is what the target of a device says of itself.
func (m *mapper) status(name string) ([]string, error) {
	p, err := m.simple(dmStatus, name, 0, nil)
	if err != nil {
		return nil, err
	}
	start := int(binary.NativeEndian.Uint32(p[dmDataStart:]))
	if start < dmHeader || start+dmSpec > len(p) {
		return nil, fmt.Errorf("device mapper: a status at %d", start)
	}
	text, _, _ := strings.Cut(string(p[start+dmSpec:]), "\x00")
	return strings.Fields(text), nil
}

// quiesced calls f while a device is suspended.
func (m *mapper) quiesced(name string, f func() error) error {
	if err := m.suspend(name); err != nil {
		return err
	}
	if err := f(); err != nil {
		m.resume(name)
		return err
	}
	return m.resume(name)
}
