package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/singleflight"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// verifiedFor is how long a password that bcrypt has verified is believed
// without asking bcrypt again.
const verifiedFor = 5 * time.Minute

// maxPassword is bcrypt's limit, in bytes: it would not see what follows.
const maxPassword = 72

// slots bounds the bcrypts at once in this process, so that a flood of logins
// leaves time for the rest.
var slots = make(chan struct{}, runtime.GOMAXPROCS(0))

// mayWait bounds the logins that wait for one of slots. What is beyond is told to
// come back, rather than held in memory until its client has long gone; who is
// remembered does not wait at all.
const mayWait = 256

var waiting atomic.Int64

// accounts are the users of the configuration, with bcrypt passwords.
type accounts struct {
	users  map[string]*account
	hashes [][]byte // of all users, in their order
	key    [32]byte // of the remembered passwords and of the choice among hashes
	now    func() time.Time
	bcrypt func(hash, password []byte) error

	flights singleflight.Group
}

type account struct {
	who      flavor.Principal
	hash     []byte
	verified atomic.Pointer[verified]
}

type verified struct {
	sum   digest // keyed hash of the password
	until time.Time
}

func newAccounts(users []Account, now func() time.Time) *accounts {
	a := &accounts{users: make(map[string]*account, len(users)), now: now, bcrypt: bcrypt.CompareHashAndPassword}
	rand.Read(a.key[:])
	for _, u := range users {
		hash := []byte(u.PasswordHash)
		a.hashes = append(a.hashes, hash)
		a.users[u.Name] = &account{hash: hash, who: flavor.Principal{
			ID: u.Name, Name: u.Name, Provider: TypeAccounts,
			Roles: set(u.Roles), Manager: slices.Contains(u.Roles, RoleManager), Regions: set(u.Regions),
		}}
	}
	return a
}

func (a *accounts) Name() string { return TypeAccounts }

// Basic takes as long for an unknown user as for a wrong password, so that the
// time tells nobody which names exist.
func (a *accounts) Basic(ctx context.Context, user string, password flavor.Secret) (flavor.Principal, error) {
	if len(password) > maxPassword || strings.ContainsRune(string(password), 0) {
		return flavor.Principal{}, flavor.Errorf(flavor.CodeUnauthorized, "the password is longer than %d bytes or holds a NUL, which no account's is", maxPassword)
	}
	sum := a.sum(user, password)
	u, known := a.users[user]
	if known && u.remembers(sum, a.now()) {
		return u.who, nil
	}
	if err := ctx.Err(); err != nil {
		return flavor.Principal{}, unavailable(busy+": %w", err)
	}
	// A crowd with one password waits for one check, which goes on when the first of
	// them leaves.
	flight := a.flights.DoChan(string(sum[:]), func() (any, error) { return nil, a.check(u, user, password, sum) })
	select {
	case landed := <-flight:
		if landed.Err != nil {
			return flavor.Principal{}, landed.Err
		}
		return u.who, nil
	case <-ctx.Done():
		return flavor.Principal{}, unavailable(busy+": %w", context.Cause(ctx))
	}
}

const busy = "too many logins wait for their password to be checked: try again"

// check asks bcrypt, once it is its turn, about u; nil where nobody has that name.
func (a *accounts) check(u *account, user string, password flavor.Secret, sum digest) error {
	if waiting.Add(1) > mayWait {
		waiting.Add(-1)
		return unavailable(busy)
	}
	slots <- struct{}{}
	waiting.Add(-1)
	defer func() { <-slots }()
	if u == nil {
		// One user's hash, always the same for this name: its cost is what
		// the name would cost if it existed. What bcrypt says does not count.
		pick := a.sum(user, "")
		_ = a.bcrypt(a.hashes[binary.BigEndian.Uint64(pick[:8])%uint64(len(a.hashes))], []byte(password))
		return wrongPassword()
	}
	// Another flight may have landed between the look into the memory and here.
	if u.remembers(sum, a.now()) {
		return nil
	}
	if a.bcrypt(u.hash, []byte(password)) != nil {
		return wrongPassword()
	}
	u.verified.Store(&verified{sum: sum, until: a.now().Add(verifiedFor)})
	return nil
}

func wrongPassword() error {
	return flavor.Errorf(flavor.CodeUnauthorized, "the user name or the password is wrong")
}

func (u *account) remembers(sum digest, now time.Time) bool {
	v := u.verified.Load()
	return v != nil && hmac.Equal(v.sum[:], sum[:]) && now.Before(v.until)
}

// sum is the keyed hash of a user's password.
func (a *accounts) sum(user string, password flavor.Secret) digest {
	m := hmac.New(sha256.New, a.key[:])
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(user))))
	m.Write([]byte(user))
	m.Write([]byte(password))
	return digest(m.Sum(nil))
}
