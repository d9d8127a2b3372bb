package identity

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Who watches the metrics sees which identity provider fails its callers. What is
// remembered is no question.
func TestObserver(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	watched := WithObserver(func(_ context.Context, c Call) {
		mu.Lock()
		defer mu.Unlock()
		if c.Started.IsZero() || c.Took < 0 {
			t.Errorf("%+v", c)
		}
		seen = append(seen, c.Provider+" "+c.Outcome)
	})
	s := newIDM(t, text(http.StatusOK, ownerOfTrento))
	cloud := &keystone{answer: operator}
	chain, err := New([]ProviderConfig{keyrock(s), {Type: TypeKeystone}}, WithClock(new(clock).now), WithKeystone(cloud), onLoopback, watched)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(chain.Close)
	_, _ = token(chain, "one")
	_, _ = token(chain, "one")
	s.says(text(http.StatusUnauthorized, ""))
	cloud.answer = func(context.Context, flavor.Secret) (map[string]any, time.Time, error) {
		return nil, time.Time{}, flavor.Errorf(flavor.CodeKeystone, "no")
	}
	_, _ = token(chain, "two")
	s.says(text(http.StatusInternalServerError, ""))
	cloud.answer = func(context.Context, flavor.Secret) (map[string]any, time.Time, error) {
		return nil, time.Time{}, flavor.Errorf(flavor.CodeUnreachable, "down")
	}
	_, _ = token(chain, "three")
	want := "keyrock ok, keyrock refused, keystone refused, keyrock unavailable, keystone unavailable"
	if got := strings.Join(seen, ", "); got != want {
		t.Errorf("told is %q, not %q", got, want)
	}
}
