package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/strata-storage/strata/internal/spell"
)

// A Position is a place in a configuration file or in an expression.
type Position struct {
	// File is the path of the file; empty for an expression.
	File string
	// Text is the expression; empty for a file.
	Text string
	// Line and Column count from 1, columns in characters. They are 0 if
	// they are not known.
	Line, Column int
}

// IsValid reports whether the position is known.
func (p Position) IsValid() bool { return p.File != "" || p.Text != "" }

// String is "file:line:column", or "column n of 'expression'".
func (p Position) String() string {
	switch {
	case p.File != "" && p.Line > 0:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	case p.File != "":
		return p.File
	case p.Text == "":
		return ""
	case p.Line > 1:
		return fmt.Sprintf("line %d, column %d of '%s'", p.Line, p.Column, shorten(p.Text))
	case p.Column > 0:
		return fmt.Sprintf("column %d of '%s'", p.Column, shorten(p.Text))
	}
	return "'" + shorten(p.Text) + "'"
}

// echoes reports whether the position is a whole argument of a command that
// names nothing, apart from the export, that the text of the error does not.
func (p Position) echoes(text string) bool {
	if p.File != "" || p.Column != 0 {
		return false
	}
	what := strings.TrimPrefix(p.Text, namedRule.FindString(p.Text))
	return what != "" && regexp.MustCompile(`(^|\W)`+regexp.QuoteMeta(what)+`(\W|$)`).MatchString(text)
}

// shorten keeps what was typed from filling a screen.
func shorten(s string) string { return clip(s, 120) }

// clip returns s or, if it has more than most characters, its beginning.
func clip(s string, most int) string {
	cut, n := 0, 0
	for i := range s {
		if n++; n == most {
			cut = i
		} else if n > most {
			return s[:cut] + "…"
		}
	}
	return s
}

// An Error says what is wrong with a configuration and where.
type Error struct {
	Pos Position
	// Err says what is wrong, without the position.
	Err error
	// Callers are the places of the calls that led to Pos, innermost first.
	Callers []Position
}

// Error is the position, what is wrong, and who called if it happened in a
// function.
func (e *Error) Error() string {
	var b strings.Builder
	text := e.Err.Error()
	if e.Pos.IsValid() && !e.Pos.echoes(text) {
		b.WriteString(e.Pos.String() + ": ")
	}
	b.WriteString(text)
	for i, c := range e.Callers {
		if i == 5 {
			fmt.Fprintf(&b, " (and %d more)", len(e.Callers)-i)
			break
		}
		fmt.Fprintf(&b, " (called from %s)", c)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

func errorAt(pos Position, format string, args ...any) *Error {
	return &Error{Pos: pos, Err: fmt.Errorf(format, args...)}
}

// explain turns an error of the Starlark interpreter into one with a
// position.
func (e *evaluation) explain(err error) error {
	var (
		own      *Error
		syntaxE  syntax.Error
		resolveE resolve.ErrorList
		evalE    *starlark.EvalError
	)
	callers := []Position(nil)
	if errors.As(err, &evalE) {
		callers = e.stack(evalE.CallStack)
	}
	switch {
	case errors.As(err, &own):
		if own.Callers == nil && len(callers) > 1 {
			own.Callers = callers[1:]
		}
		return own
	case errors.As(err, &syntaxE):
		return &Error{Pos: e.position(syntaxE.Pos), Err: errors.New(syntaxE.Msg), Callers: callers}
	case errors.As(err, &resolveE):
		var all []error
		for _, r := range resolveE[:min(len(resolveE), 10)] {
			msg := r.Msg
			if name, ok := strings.CutPrefix(msg, "undefined: "); ok && !strings.Contains(name, " ") {
				msg += spell.DidYouMean(name, e.names())
			}
			all = append(all, &Error{Pos: e.position(r.Pos), Err: errors.New(msg), Callers: callers})
		}
		return errors.Join(all...)
	case evalE != nil && len(callers) > 0:
		return &Error{Pos: callers[0], Err: e.reason(evalE), Callers: callers[1:]}
	}
	return err
}

// maxMessage is how much is shown of what a program says by fail(): it can make
// long strings.
const maxMessage = 1000

// reason is what stopped the evaluation, in our words if we stopped it.
func (e *evaluation) reason(evalE *starlark.EvalError) error {
	if cause := e.ctx.Err(); cause != nil {
		return fmt.Errorf("evaluation was interrupted: %w", cause)
	}
	msg := evalE.Msg
	if rest, ok := strings.CutPrefix(msg, "Starlark computation cancelled: "); ok {
		msg = rest
	}
	return errors.New(clip(msg, maxMessage))
}

// stack lists the places in a call stack, innermost first.
func (e *evaluation) stack(frames starlark.CallStack) []Position {
	var ps []Position
	for i := range frames {
		if p := frames.At(i).Pos; p.Line > 0 {
			ps = append(ps, e.callPosition(p))
		}
	}
	return ps
}

// names are those that are defined everywhere.
func (e *evaluation) names() []string {
	return append(e.predeclared.Keys(), starlark.Universe.Keys()...)
}

// callPosition is the position of a call whose parenthesis is at p, or of p
// if there is no call.
func (e *evaluation) callPosition(p syntax.Position) Position {
	if c := e.calls[siteOf(p)]; c != nil {
		p = syntax.Start(c)
	}
	return e.position(p)
}

// position translates a position of the interpreter.
func (e *evaluation) position(p syntax.Position) Position {
	if e.text != "" {
		pos := Position{Text: e.text, Line: int(p.Line), Column: int(p.Col)}
		if p.Line == 1 {
			pos.Column += e.textOffset
		}
		return pos
	}
	return Position{File: p.Filename(), Line: int(p.Line), Column: int(p.Col)}
}
