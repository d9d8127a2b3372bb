package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/singleflight"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

const (
	goodFor    = 30 * time.Second // how long an accepted token is remembered at most
	refusedFor = 5 * time.Second  // how long a refused one is
)

type digest [sha256.Size]byte

// verdict is a provider's word on a token: who brings it, or an error.
type verdict struct {
	who flavor.Principal
	err error
	// until is when the word is no longer good: the token's own expiry, or when
	// the provider may know better. Zero where the provider does not say.
	until time.Time
}

// memory is what a provider remembers of the tokens it was shown, by a keyed
// hash of each: accepted ones for goodFor and refused ones for refusedFor, never
// longer than the verdict's own until. That a provider could not be asked is not
// remembered. It is safe for concurrent use.
type memory struct {
	name string // the provider's, for errors
	now  func() time.Time

	// key makes the tokens' hashes worthless outside this process.
	key     [32]byte
	flights singleflight.Group

	mu sync.Mutex
	// Two memories, so that a flood of bad tokens forgets no good one.
	good    *simplelru.LRU[digest, verdict]
	refused *simplelru.LRU[digest, verdict]
}

// newMemory remembers size accepted tokens, and as many refused ones; size is at
// least 1.
func newMemory(name string, size int, now func() time.Time) *memory {
	m := &memory{name: name, now: now}
	m.good, _ = simplelru.NewLRU[digest, verdict](size, nil)
	m.refused, _ = simplelru.NewLRU[digest, verdict](size, nil)
	rand.Read(m.key[:])
	return m
}

// token answers from memory where it can, and else by ask. Callers who bring the
// same unknown token together share one ask; it goes on when the first of them
// leaves, so ask must bound its own time. The Principal is shared: read it only.
func (m *memory) token(ctx context.Context, token flavor.Secret, ask func(context.Context) verdict) (flavor.Principal, error) {
	sum := m.digest(token)
	if v, ok := m.recall(sum); ok {
		return v.who, v.err
	}
	return m.lookUp(ctx, sum, ask)
}

func (m *memory) lookUp(ctx context.Context, sum digest, ask func(context.Context) verdict) (flavor.Principal, error) {
	flight := m.flights.DoChan(string(sum[:]), func() (any, error) {
		// A flight may have landed between our look into the memory and here.
		if v, ok := m.recall(sum); ok {
			return v, nil
		}
		asked := m.now()
		v := ask(context.WithoutCancel(ctx))
		m.remember(sum, asked, v)
		return v, nil
	})
	select {
	case landed := <-flight:
		v := landed.Val.(verdict)
		return v.who, v.err
	case <-ctx.Done():
		return flavor.Principal{}, unavailable("the caller did not wait for the answer of the identity provider %s: %w", m.name, context.Cause(ctx))
	}
}

func (m *memory) digest(token flavor.Secret) digest {
	buf := make([]byte, 0, 2048) // on the stack, for most tokens
	buf = append(buf, m.key[:]...)
	buf = append(buf, token...)
	return sha256.Sum256(buf)
}

func (m *memory) recall(sum digest) (verdict, bool) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, half := range []*simplelru.LRU[digest, verdict]{m.good, m.refused} {
		if v, ok := half.Get(sum); ok {
			if now.Before(v.until) {
				return v, true
			}
			half.Remove(sum)
		}
	}
	return verdict{}, false
}

// remember keeps what is the provider's word on the token. The time counts from
// the question: what a provider revokes ends within goodFor.
func (m *memory) remember(sum digest, asked time.Time, v verdict) {
	half, until := m.good, asked.Add(goodFor)
	switch {
	case v.err == nil:
	case flavor.CodeOf(v.err) == flavor.CodeUnauthorized:
		half, until = m.refused, asked.Add(refusedFor)
	default:
		return
	}
	if v.until.IsZero() || v.until.After(until) {
		v.until = until
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	half.Add(sum, v)
}
