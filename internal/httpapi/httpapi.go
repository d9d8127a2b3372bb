// Package httpapi is the HTTP edge: echo routes, the JSON and XML codec, who is
// asking, conditions and pages, the one place where an error becomes a status,
// and the request log. No rule of the product lives here: a handler decodes,
// calls the marketplace and encodes.
package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/singleflight"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/marketplace"
	"github.com/flavorsync/flavorsync/internal/match"
	"github.com/flavorsync/flavorsync/internal/ucloud"
)

// Promoted is what the promoted routes call. PromotedFlavors may answer the same
// slice again and again; it is never modified here.
type Promoted interface {
	PromotedFlavors(ctx context.Context) ([]flavor.Flavor, error)
	PromotedFlavor(ctx context.Context, id string) (flavor.Flavor, error)
	CreatePromoted(ctx context.Context, p flavor.Principal, patch flavor.Patch) (flavor.Flavor, error)
	ChangePromoted(ctx context.Context, p flavor.Principal, id string, patch flavor.Patch) (flavor.Flavor, error)
	DeletePromoted(ctx context.Context, p flavor.Principal, id string, uninstall bool) error
}

// Private is what the routes of one region's flavors call, with the caller's
// own Keystone token ("" where none was sent).
type Private interface {
	Regions(ctx context.Context) ([]string, error)
	RegionFlavors(ctx context.Context, p flavor.Principal, region string, token flavor.Secret) ([]flavor.Flavor, error)
	RegionFlavor(ctx context.Context, p flavor.Principal, region string, token flavor.Secret, id string) (flavor.Flavor, error)
	CreateRegionFlavor(ctx context.Context, p flavor.Principal, region string, token flavor.Secret, patch flavor.Patch) (flavor.Flavor, error)
	ChangeRegionFlavor(ctx context.Context, p flavor.Principal, region string, token flavor.Secret, id string, patch flavor.Patch) (flavor.Flavor, error)
	DeleteRegionFlavor(ctx context.Context, p flavor.Principal, region string, token flavor.Secret, id string) error
}

// Views are the catalogue in the words of others.
type Views interface {
	GLUE2(ctx context.Context, p flavor.Principal, region string) ([]byte, error)
	Match(ctx context.Context, p flavor.Principal, wanted []match.Requirement, limit int) ([]marketplace.Match, error)
}

// Infrastructures is what the infrastructure routes call.
type Infrastructures interface {
	Infrastructures(ctx context.Context, p flavor.Principal) ([]flavor.Region, error)
	Infrastructure(ctx context.Context, p flavor.Principal, name string) (flavor.Region, error)
	CreateInfrastructure(ctx context.Context, p flavor.Principal, patch flavor.RegionPatch) (flavor.Region, error)
	ChangeInfrastructure(ctx context.Context, p flavor.Principal, name string, patch flavor.RegionPatch) (flavor.Region, error)
	DeleteInfrastructure(ctx context.Context, p flavor.Principal, name string, force bool) error
}

// Public is what the routes of the public flavors call.
type Public interface {
	Flavors(ctx context.Context, p flavor.Principal, f marketplace.Filter) (marketplace.Listing, error)
	Flavor(ctx context.Context, p flavor.Principal, id, node string, fresh bool) (flavor.Flavor, error)
	// Seen tells what the nodes of a flavor rest on.
	Seen(ctx context.Context) (unreachable []string, age time.Duration, err error)
	CreateFlavor(ctx context.Context, p flavor.Principal, patch flavor.Patch) (flavor.Flavor, error)
	ChangeFlavor(ctx context.Context, p flavor.Principal, id, node string, patch flavor.Patch, later bool) (flavor.Flavor, *flavor.Operation, error)
	DeleteFlavor(ctx context.Context, p flavor.Principal, id, node string) error
}

// Products is what the routes of the products call. Products may answer the same
// slice again and again; it is never modified here.
type Products interface {
	Products(ctx context.Context) ([]flavor.Offer, error)
	Product(ctx context.Context, id string) (flavor.Offer, error)
	ChangeProduct(ctx context.Context, p flavor.Principal, id string, patch flavor.ProductPatch) (flavor.Offer, error)
	EndProduct(ctx context.Context, p flavor.Principal, id string) error
}

// Market is all of the marketplace that is served; *marketplace.Market is one.
type Market interface {
	Promoted
	Private
	Infrastructures
	Public
	Products
	Operations
	Compliance
	Views
	Audit
	Status
}

// Authenticator tells who sent a credential; *identity.Chain is one. Its errors
// are flavor.CodeUnauthorized and flavor.CodeUnavailable.
type Authenticator interface {
	Authenticate(ctx context.Context, cred identity.Credential) (flavor.Principal, error)
}

var (
	_ Market        = (*marketplace.Market)(nil)
	_ Authenticator = (*identity.Chain)(nil)
)

// Config is what a Server needs. Market, Identity, Events, Log and Ready are required.
type Config struct {
	Market   Market
	Identity Authenticator
	Events   Events
	UCloud   UCloud // nil: this is no provider of UCloud
	// HealthOnly answers /healthz and /readyz, and nothing else: of a process that
	// looks after the regions alone.
	HealthOnly bool
	Log        *slog.Logger
	Ready      func(context.Context) error // nil error: the database is migrated and answers
	OpenAPI    []byte                      // served at /openapi.yaml; 404 where nil
	XSD        []byte                      // served at /flavorsync.xsd; 404 where nil

	// TLS is how Serve encrypts; nil is plain HTTP.
	TLS *tls.Config

	// TrustedProxies are the networks of proxies before us: from there, and only
	// from there, X-Forwarded-For and X-Forwarded-Proto are believed.
	TrustedProxies []netip.Prefix

	// AllowOrigins are the origins, such as https://dash.example.org, whose pages
	// may call from a browser; * is all of them.
	AllowOrigins []string

	RequestsPerSecond     int // for each caller; 0 is no limit
	FailedLoginsPerMinute int // for each address with basic credentials; 0 is no limit
	FailedTokensPerMinute int // for each address with tokens; 0 is no limit
	Connections           int // open at once; 0 is no limit
	ConnectionsPerAddress int // of each address but this machine's and the trusted proxies'; 0 is no limit

	// Observe, where it is not nil, is told of every answered request: its
	// method, the pattern of its route ("" for none), its status and its time; of
	// a stream, the time until it began.
	Observe func(method, route string, status int, took time.Duration)

	// Span, where it is not nil, begins the span of every request: ctx is the
	// request's from then on, and ended is told what it came to.
	Span func(*http.Request) (ctx context.Context, ended func(Answered))

	// ShutdownGrace is how long Serve waits at its end for the requests that
	// run; 30 s where it is 0.
	ShutdownGrace time.Duration
}

// Answered is what a request came to, as Config.Span is told.
type Answered struct {
	Method, Route string // the pattern, "" where none matched
	Status        int
	RequestID     string
	Provider      string // the identity provider that vouches for the caller; "" for nobody
}

// Time and size limits of one connection. An answer may take long (several
// regions, each within the engine's time limit), so writing has ample time, and
// there is no http.Server.ReadTimeout: it would end the context of a handler
// that runs longer, so the body has a time limit of its own.
const (
	readHeaderTimeout = 10 * time.Second
	bodyTimeout       = 30 * time.Second
	writeTimeout      = 5 * time.Minute
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	shutdownGrace     = 30 * time.Second
	readyTimeout      = 5 * time.Second
)

// Server answers the HTTP API. It is an http.Handler, safe for concurrent use.
type Server struct {
	cfg      Config
	echo     *echo.Echo
	proxies  proxies
	cors     *cors          // nil: no other origin's pages
	vary     []string       // of every answer
	callers  *callerLimits  // nil: no limit
	logins   *failureLimits // nil: no limit
	tokens   *failureLimits // nil: no limit
	ready    singleflight.Group
	resource resourceLocks
	streams  *streams
	promoted [formats]renderedList
	listings *renderedListings
	// references are what UCloud's Core reads of the products.
	references taggedBody
	// How long a client may take to send a head and a body, and to read an answer.
	readHeaderTimeout, bodyTimeout, writeTimeout time.Duration
	streaming                                    streaming
}

// New makes a Server of cfg.
func New(cfg Config) *Server {
	s := &Server{
		cfg: cfg, echo: echo.New(), proxies: cfg.TrustedProxies, cors: newCORS(cfg.AllowOrigins),
		listings:          newRenderedListings(maxListings),
		readHeaderTimeout: readHeaderTimeout, bodyTimeout: bodyTimeout, writeTimeout: writeTimeout,
		resource: newResourceLocks(), streams: newStreams(), streaming: ourStreaming,
	}
	s.vary = varyOf(s.cors)
	if s.cfg.UCloud == nil {
		s.cfg.UCloud = (*ucloud.Provider)(nil)
	}
	if cfg.RequestsPerSecond > 0 {
		s.callers = newCallerLimits(cfg.RequestsPerSecond)
	}
	if cfg.FailedLoginsPerMinute > 0 {
		s.logins = newFailureLimits(cfg.FailedLoginsPerMinute, "too many failed logins from your address: wait, then try again")
	}
	if cfg.FailedTokensPerMinute > 0 {
		s.tokens = newFailureLimits(cfg.FailedTokensPerMinute, "too many tokens from your address were refused: wait, then try again with a good one")
	}
	// What RealIP answers, here and wherever an address is kept or counted.
	s.echo.IPExtractor = s.proxies.client
	s.echo.Use(s.edge)
	s.register()
	return s
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	trimSlash(r)
	s.echo.ServeHTTP(w, r)
}

// handshakes leaves out of the log that somebody began to speak TLS and did not go
// on: whoever scans the internet does that all day long.
type handshakes struct{ slog.Handler }

func (h handshakes) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "http: TLS handshake error") {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// Serve answers the connections of l until ctx ends, then takes no new ones and
// lets the running requests finish within ShutdownGrace; streams it ends. It closes l. The error
// is nil after a complete shutdown.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:   s,
		ConnState: s.connections().changed,
		TLSConfig: s.cfg.TLS,
		HTTP2:     &http2Limits,

		DisableGeneralOptionsHandler: true, // OPTIONS * is answered as any other path
		ReadHeaderTimeout:            s.readHeaderTimeout,
		WriteTimeout:                 s.writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		ErrorLog:                     slog.NewLogLogger(handshakes{s.cfg.Log.Handler()}, slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() {
		if s.cfg.TLS == nil {
			failed <- server.Serve(l)
		} else {
			failed <- server.ServeTLS(l, "", "")
		}
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("while serving on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.endStreams()
	grace := s.cfg.ShutdownGrace
	if grace == 0 {
		grace = shutdownGrace
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		return fmt.Errorf("requests were still running %s after the end of %s: %w", grace, l.Addr(), errors.Join(err, server.Close()))
	}
	return nil
}
