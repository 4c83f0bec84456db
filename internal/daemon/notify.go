package daemon

import (
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// SystemdNotifier returns a function that tells systemd the state of the
// service, as sd_notify(3) does. Without NOTIFY_SOCKET in the environment the
// function does nothing. What cannot be told is lost: the service goes on.
func SystemdNotifier(getenv func(string) string) func(state string) {
	path := getenv("NOTIFY_SOCKET")
	if path == "" {
		return func(string) {}
	}
	return func(state string) {
		// A path that begins with @ is an abstract name, to package net too.
		c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			return
		}
		defer c.Close()
		c.SetWriteDeadline(time.Now().Add(time.Second))
		c.Write([]byte(state))
	}
}

// reloading is what systemd wants to hear before a reload of a service of
// type notify-reload.
func reloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)
}
