package identity

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

func hashOf(t *testing.T, password string, cost int) flavor.Secret {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return flavor.Secret(hash)
}

// counted is a chain of accounts, and the hashes that were compared.
func counted(t *testing.T, now *clock, users ...Account) (*Chain, *atomic.Int64) {
	t.Helper()
	chain := newChain(t, now, ProviderConfig{Type: TypeAccounts, Users: users})
	n := new(atomic.Int64)
	chain.basics[0].(*accounts).bcrypt = func(hash, password []byte) error {
		n.Add(1)
		return bcrypt.CompareHashAndPassword(hash, password)
	}
	return chain, n
}

func login(c *Chain, user string, password flavor.Secret) (flavor.Principal, error) {
	return c.Authenticate(context.Background(), Credential{Kind: Basic, User: user, Password: password})
}

func TestAccounts(t *testing.T) {
	longest := strings.Repeat("x", 72)
	chain, _ := counted(
		t, new(clock),
		Account{Name: "manager", PasswordHash: hashOf(t, "manager-secret", 4), Roles: []string{"user", "InfrastructureManager", "user"}},
		Account{Name: "spain2", PasswordHash: flavor.Secret(strings.Replace(string(hashOf(t, "spain2-secret", 4)), "$2a$", "$2y$", 1)), Regions: []string{"Trento", "Spain2", "Trento"}},
		Account{Name: "Ünï cödé", PasswordHash: hashOf(t, "pä ss:wörd", 4)},
		Account{Name: "empty", PasswordHash: hashOf(t, "", 4)},
		Account{Name: "longest", PasswordHash: hashOf(t, longest, 4)},
	)
	for _, c := range []struct {
		user     string
		password flavor.Secret
		want     flavor.Principal
	}{
		{"manager", "manager-secret", flavor.Principal{ID: "manager", Name: "manager", Provider: "accounts", Roles: []string{"InfrastructureManager", "user"}, Manager: true}},
		{"spain2", "spain2-secret", flavor.Principal{ID: "spain2", Name: "spain2", Provider: "accounts", Regions: []string{"Spain2", "Trento"}}},
		{"Ünï cödé", "pä ss:wörd", flavor.Principal{ID: "Ünï cödé", Name: "Ünï cödé", Provider: "accounts"}},
		{"longest", flavor.Secret(longest), flavor.Principal{ID: "longest", Name: "longest", Provider: "accounts"}},
	} {
		for range 2 { // by bcrypt, then from memory
			got, err := login(chain, c.user, c.password)
			if err != nil {
				t.Fatalf("%s: %v", c.user, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		}
	}
	for _, c := range []struct {
		user     string
		password flavor.Secret
	}{
		{"manager", "spain2-secret"}, {"spain2", "manager-secret"}, {"manager", ""}, {"manager", "manager-secret "}, {"manager", "Manager-secret"},
		{"Manager", "manager-secret"}, {"manager ", "manager-secret"}, {"nobody", "manager-secret"}, {"", ""}, {"", "manager-secret"},
		{"longest", flavor.Secret(longest + "y")},       // bcrypt sees 72 bytes only
		{"manager", "manager-secret\x00manager-secret"}, // bcrypt takes it for the password
	} {
		_, err := login(chain, c.user, c.password)
		expectCode(t, err, flavor.CodeUnauthorized)
		if c.password != "" && strings.Contains(fmt.Sprintf("%v %#v", err, err), string(c.password)) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

// A right password costs one bcrypt in five minutes, a wrong one one each time,
// and one that is right for somebody else does not count.
func TestAccountsMemory(t *testing.T) {
	now := new(clock)
	chain, bcrypts := counted(t, now, Account{Name: "a", PasswordHash: hashOf(t, "p", 4)}, Account{Name: "b", PasswordHash: hashOf(t, "q", 4)})
	for i, c := range []struct {
		after    time.Duration
		user     string
		password flavor.Secret
		want     flavor.Code
		bcrypts  int64
	}{
		{0, "a", "p", "", 1},
		{0, "a", "p", "", 1},
		{0, "b", "p", flavor.CodeUnauthorized, 2},
		{0, "b", "p", flavor.CodeUnauthorized, 3},
		{0, "a", "q", flavor.CodeUnauthorized, 4},
		{5*time.Minute - 1, "a", "p", "", 4},
		{1, "a", "p", "", 5},
		{0, "b", "q", "", 6},
		{0, "a", "p", "", 6},
		{0, "b", "q", "", 6},
	} {
		now.advance(c.after)
		_, err := login(chain, c.user, c.password)
		expectCode(t, err, c.want)
		if n := bcrypts.Load(); n != c.bcrypts {
			t.Fatalf("step %d: %d bcrypts, want %d", i, n, c.bcrypts)
		}
	}
}

// The time of an answer must not tell which users exist: an unknown one costs a
// bcrypt of a cost that a user has, always the same for the name.
func TestAccountsUnknownUserCostsTheSame(t *testing.T) {
	chain, _ := counted(t, new(clock), Account{Name: "a", PasswordHash: hashOf(t, "p", 4)}, Account{Name: "b", PasswordHash: hashOf(t, "p", 5)})
	var costs []int
	chain.basics[0].(*accounts).bcrypt = func(hash, _ []byte) error {
		cost, err := bcrypt.Cost(hash)
		costs = append(costs, cost)
		return err // as if the password were that user's
	}
	seen := make(map[int]bool)
	for i := range 64 {
		name := fmt.Sprint("nobody", i)
		costs = nil
		for range 2 {
			_, err := login(chain, name, "p")
			expectCode(t, err, flavor.CodeUnauthorized)
		}
		if len(costs) != 2 || costs[0] != costs[1] {
			t.Fatalf("%s cost %v", name, costs)
		}
		seen[costs[0]] = true
	}
	if !seen[4] || !seen[5] {
		t.Errorf("unknown names cost %v only: a user of the other cost stands out", seen)
	}
}

// A flood of logins leaves processors for the rest, and a crowd with the right
// password costs a bcrypt for each slot at most.
func TestAccountsCrowd(t *testing.T) {
	for _, c := range []struct {
		password    flavor.Secret
		want        flavor.Code
		crowd, most int64
	}{{"p", "", 1000, int64(cap(slots))}, {"wrong", flavor.CodeUnauthorized, 100, 100}} {
		chain, bcrypts := counted(t, new(clock), Account{Name: "a", PasswordHash: hashOf(t, "p", 4)})
		a := chain.basics[0].(*accounts)
		compare := a.bcrypt
		var running, most atomic.Int64
		a.bcrypt = func(hash, password []byte) error {
			n := running.Add(1)
			defer running.Add(-1)
			for {
				m := most.Load()
				if n <= m || most.CompareAndSwap(m, n) {
					break
				}
			}
			return compare(hash, password)
		}
		var done sync.WaitGroup
		for range c.crowd {
			done.Go(func() {
				if _, err := login(chain, "a", c.password); flavor.CodeOf(err) != c.want {
					t.Errorf("one of the crowd got %v", err)
				}
			})
		}
		done.Wait()
		if n := most.Load(); n > int64(runtime.GOMAXPROCS(0)) {
			t.Errorf("%d bcrypts ran at once", n)
		}
		if n := bcrypts.Load(); n > c.most {
			t.Errorf("the crowd with %q cost %d bcrypts, want at most %d", string(c.password), n, c.most)
		}
	}
}

// Who hangs up while waiting for a slot waits no longer.
func TestAccountsCallerLeaves(t *testing.T) {
	chain, bcrypts := counted(t, new(clock), Account{Name: "a", PasswordHash: hashOf(t, "p", 4)})
	for range cap(slots) {
		slots <- struct{}{}
	}
	gone, leave := context.WithCancel(context.Background())
	leave()
	_, err := chain.Authenticate(gone, Credential{Kind: Basic, User: "a", Password: "p"})
	expectCode(t, err, flavor.CodeUnavailable)
	for range cap(slots) {
		<-slots
	}
	if n := bcrypts.Load(); n != 0 {
		t.Errorf("%d bcrypts ran for a caller who was gone", n)
	}
	if _, err := login(chain, "a", "p"); err != nil {
		t.Error("the slots were not given back:", err)
	}
}

// A flood of guesses from everywhere waits in a line that has an end: who comes
// after it is sent away at once, and told to come back; who is remembered gets in.
func TestAccountsQueueHasAnEnd(t *testing.T) {
	chain, _ := counted(t, new(clock), Account{Name: "ann", PasswordHash: hashOf(t, "right", 4)})
	if _, err := login(chain, "ann", "right"); err != nil {
		t.Fatal(err)
	}
	var checked atomic.Int64
	begun, goOn := make(chan struct{}), make(chan struct{})
	chain.basics[0].(*accounts).bcrypt = func([]byte, []byte) error {
		checked.Add(1)
		begun <- struct{}{}
		<-goOn
		return bcrypt.ErrMismatchedHashAndPassword
	}
	var flood sync.WaitGroup
	for i := range cap(slots) + mayWait {
		flood.Go(func() {
			if _, err := login(chain, fmt.Sprint("nobody", i), "guess"); flavor.CodeOf(err) != flavor.CodeUnauthorized {
				t.Errorf("a guess that waited: %v", err)
			}
		})
	}
	for range cap(slots) {
		<-begun
	}
	for waiting.Load() < mayWait {
		runtime.Gosched()
	}
	_, err := login(chain, "nobody", "guess")
	if e, ok := errors.AsType[*flavor.Error](err); !ok || e.Code != flavor.CodeUnavailable || e.RetryAfter <= 0 {
		t.Errorf("one guess too many: %v", err)
	}
	if _, err := login(chain, "ann", "right"); err != nil {
		t.Errorf("who is remembered: %v", err)
	}
	if n := checked.Load(); n != int64(cap(slots)) {
		t.Errorf("%d bcrypts at once, of %d", n, cap(slots))
	}
	go func() {
		for range mayWait {
			<-begun
		}
	}()
	close(goOn)
	flood.Wait()
	if n := checked.Load(); n != int64(cap(slots)+mayWait) || waiting.Load() != 0 {
		t.Errorf("%d passwords were checked, %d still wait", n, waiting.Load())
	}
}
