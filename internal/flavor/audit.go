package flavor

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"
)

// Actor is in whose name a request changes things.
type Actor struct {
	Provider  string // the identity provider that vouches
	ID, Name  string // as it knows them
	Address   string // where the request came from
	RequestID string
	Action    Action // what was asked for
}

// Caller is who a is among all providers' users.
func (a Actor) Caller() string { return a.Provider + "/" + a.ID }

// acting is the Actor of a context, and whether anything was written down of
// what was done in its name.
type acting struct {
	Actor
	acted atomic.Bool
}

type actingKey struct{}

// WithActor is ctx in whose name a is: what is changed under it is audited as
// a's doing.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actingKey{}, &acting{Actor: a})
}

// WithoutActor is ctx in nobody's name: for what is noticed on the way, and is
// no deed of who asked.
func WithoutActor(ctx context.Context) context.Context {
	return context.WithValue(ctx, actingKey{}, (*acting)(nil))
}

// ActorOf is in whose name ctx is; false for nobody's.
func ActorOf(ctx context.Context) (Actor, bool) {
	a, _ := ctx.Value(actingKey{}).(*acting)
	if a == nil {
		return Actor{}, false
	}
	return a.Actor, true
}

// Acted notes that the audit tells of something done in ctx's name.
func Acted(ctx context.Context) {
	if a, _ := ctx.Value(actingKey{}).(*acting); a != nil {
		a.acted.Store(true)
	}
}

// HasActed says whether Acted was called under ctx.
func HasActed(ctx context.Context) bool {
	a, _ := ctx.Value(actingKey{}).(*acting)
	return a != nil && a.acted.Load()
}

// Object is what an entry of the audit is about.
type Object string

// The objects of the audit.
const (
	AuditedFlavor         Object = "flavor"  // of the catalogue
	AuditedNode           Object = "node"    // a region's own flavor, as one of the catalogue
	AuditedProduct        Object = "product" // of a flavor of the catalogue
	AuditedInfrastructure Object = "infrastructure"
	AuditedRegionFlavor   Object = "region_flavor" // in a region's Nova
	AuditedOperation      Object = "operation"     // what is wanted of a region
	AuditedPush           Object = "push"          // of products to UCloud
	AuditedCall           Object = "call"          // that was refused, or failed
)

// Outcome is what came of something that was asked for. The words are CADF's,
// the audit format of OpenStack, with refusals apart.
type Outcome string

// The outcomes.
const (
	Pending Outcome = "pending" // begun at a cloud, which has no transactions: what came of it follows
	Success Outcome = "success"
	Refused Outcome = "refused" // by us: a 4xx
	Failure Outcome = "failure" // a 5xx
)

// Outcomes are all of them.
var Outcomes = []Outcome{Pending, Success, Refused, Failure}

// AuditEntry is one line of the audit. It is written once and never changed.
type AuditEntry struct {
	ID      string // assigned by the store; later ones sort behind
	At      time.Time
	By      Actor
	Object  Object
	Flavor  string // its id, "" where there is none
	Region  string // "" where there is none
	Outcome Outcome
	Message string // of what was refused or failed
	Count   int    // refusals that it stands for; 1 of everything else
	// Before and After are the fields that differ, by name, as Differing has them.
	// Secrets are stars.
	Before, After map[string]string
}

// AuditFilter narrows the audit; what is zero does not.
type AuditFilter struct {
	Provider, Caller, RequestID string
	Action                      Action
	Object                      Object
	Flavor, Region              string
	Outcome                     Outcome
	Since, Until                time.Time // Since at or after, Until before
	Behind                      string    // the ID of an entry: only older ones
	Limit                       int       // of entries
}

// Differing are the fields of before and after that are not the same, a field that
// one of them lacks as "". Where there was nothing before, or is nothing after,
// that side is nil and the other whole.
func Differing(before, after map[string]string) (was, is map[string]string) {
	if before == nil || after == nil {
		return before, after
	}
	for _, fields := range []map[string]string{before, after} {
		for name := range fields {
			if b, a := before[name], after[name]; a != b {
				if was == nil {
					was, is = map[string]string{}, map[string]string{}
				}
				was[name], is[name] = b, a
			}
		}
	}
	return was, is
}

// Audited is s as the audit shows it.
func (s Spec) Audited() map[string]string {
	m := map[string]string{
		"name": s.Name, "vcpus": strconv.Itoa(s.VCPUs), "ram": strconv.Itoa(s.RAM), "disk": strconv.Itoa(s.Disk),
		"swap": strconv.Itoa(s.Swap), "ephemeral": strconv.Itoa(s.Ephemeral),
		"rxtx_factor": strconv.FormatFloat(s.RxTxFactor, 'g', -1, 64),
	}
	if s.Description != "" {
		m["description"] = s.Description
	}
	for key, value := range s.ExtraSpecs {
		m["extra_specs."+key] = value
	}
	return m
}

// Audited is f as the audit shows it, without its nodes, which have lines of
// their own.
func (f Flavor) Audited() map[string]string {
	m := f.Spec.Audited()
	m["promoted"], m["public"], m["retired"] = strconv.FormatBool(f.Promoted), strconv.FormatBool(f.Public), strconv.FormatBool(f.Retired)
	return m
}

// Audited is i as the audit shows it.
func (i Installation) Audited() map[string]string {
	return map[string]string{"id": i.NodeID, "created": strconv.FormatBool(i.Created)}
}

// Audited is p as the audit shows it.
func (p Product) Audited() map[string]string {
	m := map[string]string{
		"ended": strconv.FormatBool(p.Ended), "free_to_use": strconv.FormatBool(p.Free), "hidden_in_grant_applications": strconv.FormatBool(p.Hidden),
	}
	if p.Price != nil {
		m["price"] = p.Price.String()
	}
	for name, value := range map[string]string{
		"category": p.Category, "currency": p.Currency, "period": string(p.Period), "cpu_model": p.CPUModel,
		"memory_model": p.MemoryModel, "gpu_model": p.GPUModel, "description": p.Description,
	} {
		if value != "" {
			m[name] = value
		}
	}
	return m
}

// Audited is r as the audit shows it, without its status. That the secret is
// another shows; what it is does not.
func (r Region) Audited() map[string]string {
	m := map[string]string{"keystone_url": r.KeystoneURL, "trusted": strconv.FormatBool(r.Trusted)}
	if r.AuthType == "" {
		r.AuthType = AuthPassword
	}
	m["auth_type"], m[r.AuthType.Secret()] = string(r.AuthType), r.Password.String()
	for _, f := range r.accountFields() {
		if *f.value != "" {
			m[f.name] = *f.value
		}
	}
	if r.CACertificate != "" {
		m["ca_certificate"] = r.CACertificate
		m["ca_certificate_trusted"] = strconv.FormatBool(r.CACertificateTrusted)
	}
	if r.NovaURL != "" {
		m["nova_url"] = r.NovaURL
		m["nova_url_trusted"] = strconv.FormatBool(r.NovaURLTrusted)
	}
	return m
}
