package openstack

import (
	"context"
	"errors"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

// Call is one question to a Keystone or a Nova, as Config.Observe is told of it. A
// list of several pages is one. Nothing of what was sent or answered is in it.
type Call struct {
	Region  string // "" where the federation's Keystone was asked who somebody is
	Service string // Keystone or Nova
	Name    string // what was asked: one of Calls
	Outcome string // how it went: one of Outcomes
	Started time.Time
	Took    time.Duration // the wait for a slot included
}

// What can be asked. authenticate is our service account's, validate_token about a
// caller's token for a region, identify_token about who a caller is.
const (
	callAuthenticate   = "authenticate"
	callValidateToken  = "validate_token"
	callIdentifyToken  = "identify_token"
	callCheck          = "check"
	callListFlavors    = "list_flavors"
	callShowFlavor     = "show_flavor"
	callCreateFlavor   = "create_flavor"
	callDeleteFlavor   = "delete_flavor"
	callDescribeFlavor = "describe_flavor"
	callAddSpecs       = "add_extra_specs"
	callDeleteSpec     = "delete_extra_spec"
	callListAccess     = "list_access"
	callAddAccess      = "add_access"
)

// Calls are all names of a Call.
var Calls = []string{
	callAuthenticate, callValidateToken, callIdentifyToken, callCheck, callListFlavors, callShowFlavor, callCreateFlavor,
	callDeleteFlavor, callDescribeFlavor, callAddSpecs, callDeleteSpec, callListAccess, callAddAccess,
}

// The outcomes of a Call that are not the code of its error.
const (
	outcomeOK        = "ok"
	outcomeTimeout   = "timeout"   // no answer within Config.RegionTimeout
	outcomeBusy      = "busy"      // no slot came free in that time, so nothing was sent
	outcomeCancelled = "cancelled" // who asked had gone
	outcomeRefused   = "refused"   // the credential was not accepted, or may not do this
)

// Outcomes are all that a Call can come to.
var Outcomes = []string{
	outcomeOK, outcomeTimeout, outcomeBusy, outcomeCancelled, outcomeRefused, string(flavor.CodeUnreachable),
	string(flavor.CodeConflict), string(flavor.CodeNotFound), string(flavor.CodeInvalid), string(flavor.CodeInternal),
}

// observe tells Config.Observe of a call that a was about, and that ended in err.
func (c *Clouds) observe(ctx context.Context, a attempt, name string, started time.Time, err error) {
	if c.cfg.Observe == nil {
		return
	}
	service := a.party
	if service == federationKeystone {
		service = keystone
	}
	c.cfg.Observe(ctx, Call{
		Region: a.region, Service: string(service), Name: name, Outcome: a.outcome(err), Started: started, Took: time.Since(started),
	})
}

// outcome is err in one word.
func (a attempt) outcome(err error) string {
	busy, _ := errors.AsType[*busyError](err)
	told := a.explain(err)
	switch code := flavor.CodeOf(told); {
	case err == nil:
		return outcomeOK
	case errors.Is(err, context.Canceled):
		return outcomeCancelled
	case busy != nil:
		return outcomeBusy
	case outgoing.TimedOut(err):
		return outcomeTimeout
	case code == flavor.CodeKeystone, code == flavor.CodeForbidden, errors.Is(told, errRefused):
		return outcomeRefused
	case code == flavor.CodeUnreachable, code == flavor.CodeConflict, code == flavor.CodeNotFound, code == flavor.CodeInvalid:
		return string(code)
	}
	return string(flavor.CodeInternal)
}

// Load is how many calls are under way, and how many wait for a slot.
func (c *Clouds) Load() (running, waiting int) {
	for _, s := range []*slots{c.slots, c.logins} {
		running += len(s.all)
		waiting += int(s.waiting.Load())
	}
	return running, waiting
}
