package httpapi

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

const (
	requestIDHeader   = "X-Request-Id"
	unreachableHeader = "X-Flavorsync-Unreachable"
)

// edge is the only middleware: it stands around every request, gives it its id,
// turns errors and panics into answers, and writes its line into the log.
func (s *Server) edge(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		k := &call{Context: c, s: s, ctx: r.Context(), started: time.Now(), format: negotiate(r.Header["Accept"])}
		k.takeQuery()
		if s.cfg.Span != nil {
			var ended func(Answered)
			k.ctx, ended = s.cfg.Span(r)
			defer func() {
				ended(Answered{Method: r.Method, Route: k.pattern(), Status: c.Response().Status, RequestID: k.id, Provider: k.who.Provider})
			}()
		}
		if r.ContentLength != 0 {
			k.limitBody(s.bodyTimeout)
		}
		k.id = requestID(r.Header.Get(requestIDHeader))
		h := c.Response().Header()
		h[requestIDHeader] = k.headerValue(requestIDValue, k.id)
		s.common(h, r)
		if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
			// net/http has dropped a Content-Length beside it, by which somebody
			// before us may have found another end: nothing follows on this
			// connection (RFC 9112, 6.1).
			h["Connection"] = closing
		}
		answered, err := k.shared()
		if !answered && err == nil {
			err = k.run(next)
		}
		if err != nil && !c.Response().Committed {
			k.fail(err)
		}
		k.log(err)
		if c.Response().Committed && errors.Is(err, errPanic) && c.Response().Status < http.StatusInternalServerError {
			// Half an answer went out before the panic: cut the connection, so
			// that nobody takes it for a whole one.
			panic(http.ErrAbortHandler)
		}
		return nil
	}
}

var errPanic = errors.New("panic")

// run is next, with a panic as its error.
func (k *call) run(next echo.HandlerFunc) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			err = fmt.Errorf("%w: %v", errPanic, p)
			k.s.cfg.Log.LogAttrs(k.ctx, slog.LevelError, "panic",
				slog.String("request_id", k.id),
				slog.String("panic", k.redact(fmt.Sprint(p))),
				slog.String("stack", string(debug.Stack())))
		}
	}()
	return next(k)
}

// requestID is the client's own where it is sane, so that one id goes through
// all the logs, else a new one.
func requestID(theirs string) string {
	if theirs != "" && len(theirs) <= 64 && strings.Trim(theirs, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == "" {
		return theirs
	}
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails
	return "req-" + hex.EncodeToString(raw[:])
}

// log writes the one line of this request.
func (k *call) log(err error) {
	r, response := k.Request(), k.Response()
	if k.s.cfg.Observe != nil {
		k.s.cfg.Observe(shortened(r.Method, 16), k.pattern(), response.Status, cmp.Or(k.answered, time.Since(k.started)))
	}
	level := slog.LevelInfo
	if response.Status >= http.StatusInternalServerError && !errors.Is(err, context.Canceled) {
		level = slog.LevelError
	}
	if !k.s.cfg.Log.Enabled(k.ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs,
		slog.String("method", shortened(r.Method, 16)),
		slog.String("route", k.pattern()),
		slog.String("path", shortened(withoutToken(r.URL.Path), 512)),
		slog.Int("status", response.Status),
		slog.Float64("duration_ms", float64(time.Since(k.started).Microseconds())/1000),
		slog.String("request_id", k.id),
		slog.Int64("bytes", response.Size),
	)
	attrs = k.appendRemote(attrs)
	if k.who.Provider != "" {
		attrs = append(attrs, slog.String("caller", k.who.Provider+"/"+k.who.ID))
	}
	if k.trace != nil {
		if ids := k.trace.RequestIDs(); len(ids) > 0 {
			attrs = append(attrs, slog.Any("nova_request_ids", ids))
		}
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", k.redact(causes(err))))
	}
	k.s.cfg.Log.LogAttrs(k.ctx, level, "request", attrs...)
}

// appendRemote tells where the request comes from: the connection's other end, or,
// from a proxy of ours, the address that it names.
func (k *call) appendRemote(attrs []slog.Attr) []slog.Attr {
	peer := k.Request().RemoteAddr
	if len(k.s.proxies) > 0 {
		if a, ok := parseHop(peer); ok && a.String() != k.RealIP() {
			return append(attrs, slog.String("remote", k.RealIP()), slog.String("proxy", peer))
		}
	}
	return append(attrs, slog.String("remote", peer))
}

// withoutToken is path up to an access_token that a client has put into it, by
// an encoded question mark or as a fragment.
func withoutToken(path string) string {
	if i := strings.Index(strings.ToLower(path), "access_token"); i >= 0 && len(strings.ToLower(path)) == len(path) {
		return path[:i] + "***"
	} else if i >= 0 {
		return "***"
	}
	return path
}

// causes is err's text, with the failures of the nodes.
func causes(err error) string {
	all := []string{err.Error()}
	if e, ok := errors.AsType[*flavor.Error](err); ok {
		for _, n := range e.Nodes {
			if n.Err != nil {
				all = append(all, n.Node+": "+n.Err.Error())
			}
		}
	}
	return strings.Join(all, "; ")
}

// pattern is the canonical route, "" where none matched.
func (k *call) pattern() string {
	if k.route == nil {
		return ""
	}
	return k.route.pattern
}

// shortened keeps a hostile request from filling the log.
func shortened(text string, limit int) string {
	if len(text) > limit {
		return text[:limit] + "…"
	}
	return text
}
