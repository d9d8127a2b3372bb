// Package ucloud makes this service a provider of UCloud, as far as products
// go. UCloud's Core shows its users a product where two halves meet: the
// provider lists a reference to it when Core asks (support.go), and has told
// Core its definition before (push.go).
//
// It follows two generations of the protocol: V1, of UCloud 2021 to 2023, and
// V2, since 2023.
package ucloud

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Offers is where the products come from.
type Offers interface {
	// Products are all promoted flavors that are products, retired ones too, in
	// the order of flavor.CompareOffers. It answers the same slice until
	// something changes: change nothing of it.
	Products(ctx context.Context) ([]flavor.Offer, error)
	// ProductsNow are Products with every change that was finished before, by
	// whichever process; Products may be a second or two behind those of others.
	ProductsNow(ctx context.Context) ([]flavor.Offer, error)
}

// Provider is a provider of UCloud. A nil one is none: it lists nothing, lets
// nobody in, and its push is off. Its methods are safe for concurrent use.
type Provider struct {
	cfg  Config
	key  *rsa.PublicKey
	log  *slog.Logger
	core *core // nil where the push is off
	gen  generation

	salt     [32]byte // makes the tokens' hashes worthless outside this process
	verified *lru.Cache[digest, time.Time]

	listed atomic.Pointer[listing]
	marked atomic.Pointer[marks]

	newID func() string

	ending  context.Context // ends with Close; a push then stops
	end     context.CancelFunc
	running sync.WaitGroup // pushes
}

// New makes the provider that cfg describes, nil where it describes none. Its
// error is that of cfg.Validate. Close it.
func New(cfg Config) (*Provider, error) {
	if !cfg.Configured() {
		return nil, cfg.Validate()
	}
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Provider{cfg: cfg, log: cfg.Log, newID: uuid.NewString}
	p.key, _ = parsePublicKey(cfg.PublicKey) // Validate has tried it
	p.ending, p.end = context.WithCancel(context.Background())
	rand.Read(p.salt[:])
	p.verified, _ = lru.New[digest, time.Time](maxVerified) // fails for a size below 1 only
	if cfg.Push != Off {
		p.core, p.gen = newCore(cfg), generations[cfg.Push]
	}
	return p, nil
}

// Close ends the pushes under way, which the next process or start goes on with,
// and what is kept open to Core.
func (p *Provider) Close() {
	if !p.pushes() {
		return
	}
	p.end()
	p.running.Wait()
	p.core.client.CloseIdleConnections()
}

// Configured says whether this is a provider of UCloud at all.
func (p *Provider) Configured() bool { return p != nil }

// Serves says whether id, of a path that Core calls, is this provider's.
func (p *Provider) Serves(id string) bool { return p != nil && id == p.cfg.ProviderID }

// pushes says whether products are pushed to Core.
func (p *Provider) pushes() bool { return p != nil && p.core != nil }
