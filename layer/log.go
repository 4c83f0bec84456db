package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/strata-storage/strata/block"
)

// LogOptions are the options of Log.
type LogOptions struct {
	_      struct{} `doc:"Writes a line for every request: what it was, for whom, how long it took and how it ended." long:"A line holds op, offset, length, flags, duration, export, peer and error, each where there is one. Lines of requests that failed have the level WARN, others INFO. A request for extents is logged when its answer has been read, with the number of extents. What is out of range is refused without a line."`
	File   string   `name:"file" arg:"1" unit:"path" doc:"The file that lines are appended to, made if it is missing; without one they go to the log of the program."`
	Format string   `name:"format" enum:"text|json" default:"text" doc:"The form of the lines in the file."`
	Ops    []string `name:"ops" doc:"The operations to log: read, write, zero, trim, flush, extents; all if none is named."`

	// Logger receives the lines instead of a file. If there is neither,
	// slog.Default does.
	Logger *slog.Logger
}

// Log returns dev with a log of its requests. A log may be slow, so it clears
// Info().NoWait if it logs reads or writes. Lines that cannot be written are
// lost; requests never fail because of them.
func Log(dev block.Device, o LogOptions) (block.Device, error) {
	ops, err := parseOps(o.Ops)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	l := &logger{log: o.Logger}
	if err := l.open(o); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	hooked, err := Hook(dev, Hooks{Ops: ops, Replace: l.around})
	if err != nil {
		l.closer.Close()
		return nil, fmt.Errorf("log: %w", err)
	}
	l.Pass = block.Pass{Device: hooked}
	return l, nil
}

type logger struct {
	block.Pass
	log    *slog.Logger
	closer io.Closer
}

func (l *logger) open(o LogOptions) error {
	l.closer = io.NopCloser(nil)
	switch {
	case o.Format != "" && o.Format != "text" && o.Format != "json":
		return fmt.Errorf("format is %q, must be text or json", o.Format)
	case o.File != "" && o.Logger != nil:
		return errors.New("both a file and a Logger are given")
	case o.File == "" && o.Format != "":
		return errors.New("a format needs a file")
	case o.File == "" && o.Logger == nil:
		l.log = slog.Default()
	}
	if o.File == "" {
		return nil
	}
	f, err := os.OpenFile(o.File, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	l.closer = f
	if o.Format == "json" {
		l.log = slog.New(slog.NewJSONHandler(f, nil))
	} else {
		l.log = slog.New(slog.NewTextHandler(f, nil))
	}
	return nil
}

func (l *logger) Close() error {
	err := l.Device.Close()
	if errors.Is(err, block.ErrClosed) {
		return err
	}
	return errors.Join(err, l.closer.Close())
}

func (l *logger) around(ctx context.Context, r *Request, next func(context.Context) error) error {
	begin := time.Now()
	err := next(ctx)
	if r.Op == OpExtents && err == nil {
		r.Extents = l.extents(ctx, *r, begin)
		return nil
	}
	l.line(ctx, r, begin, err)
	return err
}

// extents is r.Extents, logged when it ends.
func (l *logger) extents(ctx context.Context, r Request, begin time.Time) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		count, failed := 0, error(nil)
		defer func() { l.line(ctx, &r, begin, failed, slog.Int("extents", count)) }()
		for e, err := range r.Extents {
			if failed = err; err == nil {
				count++
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (l *logger) line(ctx context.Context, r *Request, begin time.Time, err error, more ...slog.Attr) {
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
	}
	if !l.log.Enabled(ctx, level) {
		return
	}
	took := time.Since(begin)
	attrs := append(make([]slog.Attr, 0, 10), slog.String("op", r.Op.String()))
	if r.Op != OpFlush {
		attrs = append(attrs, slog.Int64("offset", r.Off), slog.Int64("length", r.Len))
	}
	if s := flagNames(r.Flags); s != "" {
		attrs = append(attrs, slog.String("flags", s))
	}
	attrs = append(attrs, slog.Duration("duration", took))
	attrs = append(attrs, more...)
	caller := block.CallerOf(ctx)
	if caller.Export != "" {
		attrs = append(attrs, slog.String("export", caller.Export))
	}
	if caller.Peer != "" {
		attrs = append(attrs, slog.String("peer", caller.Peer))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	l.log.LogAttrs(ctx, level, "request", attrs...)
}

func flagNames(f block.Flags) string {
	var names []string
	for _, n := range []struct {
		flag block.Flags
		name string
	}{{block.FUA, "fua"}, {block.NoHole, "no_hole"}, {block.FastZero, "fast_zero"}} {
		if f&n.flag != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}
