package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLogger returns a logger for etcd that writes to ours what is of that level at
// least.
func zapLogger(l *slog.Logger, least slog.Level, o ...zap.Option) *zap.Logger {
	return zap.New(&core{handler: l.Handler(), least: least}, o...)
}

// lastWords are what an operator should know when etcd ends the process, which it does when
// it cannot write any more.
type lastWords struct {
	log  *slog.Logger
	dir  string
	exit func(code int)
}

var _ zapcore.CheckWriteHook = (*lastWords)(nil)

// OnWrite is called after etcd has said what has failed.
func (w *lastWords) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(e.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok {
			err = fmt.Errorf("%s: %w", e.Message, cause)
		}
	}
	why := "this node ends, as it votes and cannot write what the cluster agrees on"
	if errors.Is(err, syscall.ENOSPC) {
		why += ": there is no room in the file system; make some, and start it again"
	}
	w.log.Error(why, "directory", w.dir, "error", err)
	w.exit(1)
}

// A core is a zapcore.Core that writes to a slog.Handler.
type core struct {
	handler slog.Handler
	least   slog.Level
}

var _ zapcore.Core = (*core)(nil)

// level is what slog calls a level of zap.
func level(l zapcore.Level) slog.Level {
	switch {
	case l < zapcore.InfoLevel:
		return slog.LevelDebug
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}

func (c *core) Enabled(l zapcore.Level) bool {
	return level(l) >= c.least && c.handler.Enabled(context.Background(), level(l))
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{c.handler.WithAttrs(attrs(fields)), c.least}
}

func (c *core) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) {
		return checked
	}
	return checked.AddCore(e, c)
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	r := slog.NewRecord(e.Time, level(e.Level), "etcd: "+e.Message, 0)
	r.AddAttrs(attrs(fields)...)
	err := c.handler.Handle(context.Background(), r)
	if e.Level > zapcore.ErrorLevel && strings.Contains(e.Message, "Was the raft log corrupted, truncated, or lost?") {
		// It panics with that.
		last := slog.NewRecord(e.Time, slog.LevelError, forgotten, 0)
		err = errors.Join(err, c.handler.Handle(context.Background(), last))
	}
	return err
}

// forgotten is what it means that a member lacks what it has agreed to.
const forgotten = "this process ends: what the node has agreed to with others is not in its data directory, which is a copy, and another process is the same node or was"

func (c *core) Sync() error { return nil }

// attrs are the fields of an entry, in their order.
func attrs(fields []zapcore.Field) []slog.Attr {
	var as []slog.Attr
	for _, f := range fields {
		m := zapcore.NewMapObjectEncoder()
		f.AddTo(m)
		for key, value := range m.Fields {
			as = append(as, slog.Any(key, value))
		}
	}
	return as
}
