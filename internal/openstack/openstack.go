// Package openstack talks to Keystone and Nova of many regions: one Clouds for
// the process, one Compute for each region and caller. There are two ways in:
// the caller's own Keystone token (Delegated) and the service account an owner
// registered with a region (Service). Every error it returns is a *flavor.Error
// that names the region; none holds a byte of a foreign answer, a token or a
// password.
package openstack

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Config says where the federation's Keystone is and how far calls may go.
type Config struct {
	KeystoneURL   string         // the federation's own; with or without /v3
	RegionTimeout time.Duration  // for one whole operation; 0 is 10 s
	MaxInFlight   int            // HTTP calls at once, over all regions; 0 is 32
	PerRegion     int            // HTTP calls at once to one region; 0 is 4
	AllowHTTP     bool           // plain http may be called
	AllowNetworks []netip.Prefix // loopback, link-local and private networks that may be called
	Unguarded     bool           // no check of addresses: the demo and tests
	Log           *slog.Logger   // nil: slog.Default
}

// Clouds holds what all regions share: connections, slots and sessions.
type Clouds struct {
	cfg Config
}

// New makes the Clouds of a process. It calls nobody.
func New(cfg Config) *Clouds { return &Clouds{cfg: cfg} }

// Close ends idle connections, and waits for undos that still run.
func (c *Clouds) Close() {}

// Forget drops the service-account session of a region that is no more.
func (c *Clouds) Forget(region string) {}

// Service is r with its service account. It calls nobody yet.
func (c *Clouds) Service(r flavor.Region) *Compute { return &Compute{region: r.Name} }

// Delegated is r with the caller's own Keystone token.
func (c *Clouds) Delegated(ctx context.Context, r flavor.Region, token flavor.Secret) (*Compute, error) {
	return nil, unfinished()
}

// Compute is Nova of one region, as one caller may use it.
type Compute struct {
	region string
}

func unfinished() error { return flavor.Errorf(flavor.CodeInternal, "not there yet") }

// List is every flavor of the region, with extra specs.
func (c *Compute) List(ctx context.Context) ([]flavor.NovaFlavor, error) { return nil, unfinished() }

// Get is the flavor whose id is exactly id.
func (c *Compute) Get(ctx context.Context, id string) (flavor.NovaFlavor, error) {
	return flavor.NovaFlavor{}, unfinished()
}

// Create makes f with its description and extra specs, or nothing.
func (c *Compute) Create(ctx context.Context, f flavor.NovaFlavor) (flavor.NovaFlavor, error) {
	return flavor.NovaFlavor{}, unfinished()
}

// Delete removes the flavor whose id is exactly id.
func (c *Compute) Delete(ctx context.Context, id string) error { return unfinished() }

// Describe replaces the description.
func (c *Compute) Describe(ctx context.Context, id, description string) error { return unfinished() }

// SetExtraSpecs makes the extra specs exactly specs.
func (c *Compute) SetExtraSpecs(ctx context.Context, id string, specs map[string]string) error {
	return unfinished()
}

// Access is the ids of the projects that may use a non-public flavor.
func (c *Compute) Access(ctx context.Context, id string) ([]string, error) { return nil, unfinished() }

// Grant lets projects use a non-public flavor.
func (c *Compute) Grant(ctx context.Context, id string, projects []string) error {
	return unfinished()
}

// Check authenticates and asks one cheap call.
func (c *Compute) Check(ctx context.Context) flavor.RegionStatus { return flavor.RegionStatus{} }
