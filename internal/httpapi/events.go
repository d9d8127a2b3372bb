package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flavorsync/flavorsync/internal/events"
	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Events is what the events' route calls; *events.Hub is one.
type Events interface {
	Begin(ctx context.Context, after int64) (int64, error)
	Behind(ctx context.Context, after int64) (found []flavor.Event, lost int64, more <-chan struct{}, err error)
	Page(ctx context.Context, p flavor.Principal, f flavor.EventFilter, after int64, limit int) (page []flavor.Event, next, lost int64, err error)
}

var _ Events = (*events.Hub)(nil)

const (
	eventStream = "text/event-stream"
	// defaultEvents is how many events a page has without ?limit.
	defaultEvents = 100
	// streamsPerCaller bounds how many streams one caller has open at one time.
	streamsPerCaller = 64
	// comeBack is when who has lost a stream is to try again, in ms: the
	// specification leaves it to the browser where it is not said.
	comeBack = "3000"
)

// streaming is how long streams take over what.
type streaming struct {
	heartbeat time.Duration // how long nothing is said
	verify    time.Duration // how long a credential is believed
	write     time.Duration // how long a client may take to read what it is sent
}

var ourStreaming = streaming{heartbeat: 15 * time.Second, verify: time.Minute, write: 20 * time.Second}

// noBuffer asks nginx not to keep a stream back.
var noBuffer = []string{"no"}

// getEvents follows the events as they come, or lists them where Accept asks for
// JSON or XML.
func getEvents(k *call) error {
	f, err := k.eventFilter()
	if err != nil {
		return err
	}
	after, there, err := k.lastEventID()
	if err != nil {
		return err
	}
	if preferred(k.Request().Header["Accept"], append([]string{eventStream}, mediaTypes[:]...)) > 0 {
		return k.listEvents(f, after)
	}
	if !there {
		after = events.Now
	}
	return k.followEvents(f, after)
}

// eventFilter is ?type= and ?region=, each one or several with commas between them.
func (k *call) eventFilter() (f flavor.EventFilter, err error) {
	types, _, err := k.queryValue("type")
	if err != nil {
		return f, err
	}
	regions, _, err := k.queryValue("region")
	if err != nil {
		return f, err
	}
	for name := range strings.SplitSeq(types, ",") {
		if name == "" {
			continue
		}
		if !slices.Contains(flavor.EventTypes, flavor.EventType(name)) {
			return f, flavor.Invalid("type: %.64q is no type of events", name)
		}
		f.Types = append(f.Types, flavor.EventType(name))
	}
	for name := range strings.SplitSeq(regions, ",") {
		if name == "" {
			continue
		}
		if !flavor.ValidRegionName(name) {
			return f, flavor.Invalid("region: %.100q cannot be the name of a region", name)
		}
		f.Regions = append(f.Regions, name)
	}
	return f, nil
}

// lastEventID is the id of the last event that the client has seen: of the header
// that a browser sends when it comes back, else of the query that it began with.
func (k *call) lastEventID() (id int64, there bool, err error) {
	value, there, err := k.queryValue("last_event_id")
	if err != nil {
		return 0, false, err
	}
	if header := k.Request().Header.Get("Last-Event-ID"); header != "" {
		value, there = header, true
	}
	if value == "" {
		return 0, false, nil
	}
	id, err = strconv.ParseInt(value, 10, 64)
	if err != nil || id < 0 {
		return 0, true, flavor.Invalid("last_event_id: must be the id of an event, as the stream tells it, or 0 for the oldest that is kept")
	}
	return id, there, nil
}

// listEvents answers with those that are there already.
func (k *call) listEvents(f flavor.EventFilter, after int64) error {
	limit := defaultEvents
	if value, there, err := k.queryValue("limit"); err != nil {
		return err
	} else if there {
		if limit, err = parseLimit(value, events.MaxPage); err != nil {
			return err
		}
	}
	begin, err := k.s.cfg.Events.Begin(k.ctx, after)
	if err != nil {
		return err
	}
	page, next, lost, err := k.s.cfg.Events.Page(k.ctx, k.who, f, begin, limit)
	if err != nil {
		return err
	}
	return k.answer(encodeEvents(k.format, page, next, lost > 0 || begin < after))
}

// encodeEvents is {"events": [...], "last_event_id": next}, or <events>, with
// "lost": true where some are not kept any more.
func encodeEvents(as format, page []flavor.Event, next int64, lost bool) []byte {
	b := make([]byte, 0, 64+256*len(page))
	if as == asJSON {
		b = append(b, `{"events": [`...)
		for i := range page {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(b, events.JSON(page[i])...)
		}
		b = strconv.AppendInt(append(b, `], "last_event_id": `...), next, 10)
		if lost {
			b = append(b, `, "lost": true`...)
		}
		return append(b, '}')
	}
	b = strconv.AppendInt(append(append(b, xmlDeclaration...), `<events last_event_id="`...), next, 10)
	b = append(b, '"')
	if lost {
		b = append(b, ` lost="true"`...)
	}
	b = append(b, '>')
	for _, e := range page {
		b = strconv.AppendInt(append(b, `<event id="`...), e.ID, 10)
		b = appendElement(append(b, `">`...), "at", events.Time(e.At))
		b = appendElement(b, "type", string(e.Type))
		for _, t := range []namedText{{"flavor", e.Flavor}, {"name", e.Name}, {"region", e.Region}} {
			if t.value != "" {
				b = appendElement(b, t.name, t.value)
			}
		}
		if e.Type == flavor.NodeInstalled {
			b = appendElement(b, "created", strconv.FormatBool(e.Created))
		}
		if e.Message != "" {
			b = appendElement(b, "message", e.Message)
		}
		b = append(b, "</event>"...)
	}
	return append(b, "</events>"...)
}

// stream is one client that follows the events.
type stream struct {
	*call
	filter flavor.EventFilter
	out    *http.ResponseController
	at     int64 // the last event that was looked at
	told   int64 // the last id that the client knows
}

// followEvents sends what comes until the client goes, reads too slowly, is not
// known any more, or the service ends. After the head there is nobody to tell why:
// the client comes back, and is told then.
func (k *call) followEvents(f flavor.EventFilter, after int64) error {
	leave, err := k.s.streams.enter(k.who.Provider + "/" + k.who.ID)
	if err != nil {
		return err
	}
	defer leave()
	verified := time.Now()
	begin, err := k.s.cfg.Events.Begin(k.ctx, after)
	if err != nil {
		return err
	}
	h := k.Response().Header()
	h["Content-Type"] = []string{eventStream}
	h["Cache-Control"] = noStore
	h["X-Accel-Buffering"] = noBuffer
	k.Response().WriteHeader(http.StatusOK)
	k.answered = time.Since(k.started)
	if k.Request().Method == http.MethodHead {
		return nil
	}
	s := &stream{call: k, filter: f, out: http.NewResponseController(k.Response()), at: begin, told: begin}
	// Where the client is, so that it can come back before the first event.
	head := strconv.AppendInt([]byte("retry: "+comeBack+"\nid: "), begin, 10)
	head = append(head, "\n\n"...)
	if begin < after {
		head = appendMessage(head, begin, events.Lost, events.LostJSON(after, begin))
	}
	if err := s.send(head); err != nil {
		return nil // the client has gone
	}
	return s.follow(verified)
}

func (s *stream) follow(verified time.Time) error {
	times := s.s.streaming
	silent := time.NewTimer(times.heartbeat)
	defer silent.Stop()
	verify := time.NewTimer(times.verify)
	defer verify.Stop()
	for {
		if time.Since(verified) >= times.verify {
			verified = time.Now()
			who, err := s.s.cfg.Identity.Authenticate(s.ctx, s.cred)
			if err != nil {
				return err // to the log: the client is told when it comes back
			}
			s.who = who
			verify.Reset(times.verify)
		}
		found, lost, more, err := s.s.cfg.Events.Behind(s.ctx, s.at)
		if err != nil {
			return err
		}
		if text := s.messages(found, lost); len(text) > 0 {
			if s.send(text) != nil {
				return nil
			}
			silent.Reset(times.heartbeat)
		}
		if len(found) > 0 || lost > 0 {
			select {
			case <-s.ctx.Done():
				return nil
			case <-s.s.streams.ended:
				return nil
			default:
				continue
			}
		}
		select {
		case <-more:
		case <-verify.C:
		case <-silent.C:
			if s.send(s.beat()) != nil {
				return nil
			}
			silent.Reset(times.heartbeat)
		case <-s.s.streams.ended:
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
}

// messages are those of found that the caller may see and asked for, and what is
// lost before them.
func (s *stream) messages(found []flavor.Event, lost int64) (text []byte) {
	if lost > 0 {
		text = appendMessage(text, s.at+lost, events.Lost, events.LostJSON(s.at, s.at+lost))
		s.at += lost
		s.told = s.at
	}
	for _, e := range found {
		s.at = e.ID
		if seen, ok := e.For(s.who); ok && s.filter.Passes(seen) {
			text = appendMessage(text, e.ID, string(e.Type), events.JSON(seen))
			s.told = e.ID
		}
	}
	return text
}

// beat is a comment, and the place of a client to whom nothing has been said of
// what has happened since, lest what is kept goes on beyond it. An id alone is no
// message: no client sees one.
func (s *stream) beat() []byte {
	if s.told == s.at {
		return []byte(":\n\n")
	}
	s.told = s.at
	return append(strconv.AppendInt([]byte(":\nid: "), s.at, 10), "\n\n"...)
}

// send fails where the client does not read it in time.
func (s *stream) send(text []byte) error {
	if err := s.out.SetWriteDeadline(time.Now().Add(s.s.streaming.write)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.Response().Write(text); err != nil {
		return err
	}
	return s.out.Flush()
}

func appendMessage(b []byte, id int64, kind string, data []byte) []byte {
	b = strconv.AppendInt(append(b, "id: "...), id, 10)
	b = append(append(b, "\nevent: "...), kind...)
	return append(append(append(b, "\ndata: "...), data...), "\n\n"...)
}
