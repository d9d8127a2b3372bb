package flavor

import "slices"

// Action is one thing that somebody may ask for, as the table of rights and the
// audit name it.
type Action string

// The actions.
const (
	ReadService Action = "service.read" // health and descriptions
	ReadSelf    Action = "self.read"    // who one is
	ReadStatus  Action = "status.read"  // how the federation is

	ReadPromoted   Action = "promoted.read"
	CreatePromoted Action = "promoted.create"
	ChangePromoted Action = "promoted.change"
	DeletePromoted Action = "promoted.delete"

	ReadProducts  Action = "product.read"
	ChangeProduct Action = "product.change"
	EndProduct    Action = "product.end"
	ReadPush      Action = "push.read"
	RunPush       Action = "push.run"

	ListRegions        Action = "region.list"
	ReadGLUE2          Action = "region.glue2"
	ReadRegionFlavors  Action = "region_flavor.read"
	CreateRegionFlavor Action = "region_flavor.create"
	ChangeRegionFlavor Action = "region_flavor.change"
	DeleteRegionFlavor Action = "region_flavor.delete"

	ListInfrastructures  Action = "infrastructure.list" // one's own
	ReadInfrastructure   Action = "infrastructure.read"
	CreateInfrastructure Action = "infrastructure.create"
	ChangeInfrastructure Action = "infrastructure.change"
	DeleteInfrastructure Action = "infrastructure.delete"
	ForgetInfrastructure Action = "infrastructure.forget" // with ?force, uncalled
	TrustInfrastructure  Action = "infrastructure.trust"  // with callers' own tokens

	ReadFlavors   Action = "flavor.read" // the public ones
	ReadPrivate   Action = "flavor.read_private"
	AskRegions    Action = "flavor.ask_regions" // now, also those that hung
	CreateFlavor  Action = "flavor.create"
	ChangeFlavor  Action = "flavor.change" // its parts are the next three
	PublishFlavor Action = "flavor.publish"
	PromoteFlavor Action = "flavor.promote"
	InstallFlavor Action = "flavor.install"
	DeleteFlavor  Action = "flavor.delete" // from a region
	DropFlavor    Action = "flavor.drop"   // which no region has

	ReadOperations  Action = "operation.read" // what one may see of them
	CancelOperation Action = "operation.cancel"
	ReadCompliance  Action = "compliance.read"

	Match     Action = "match"
	ReadAudit Action = "audit.read"

	ReadEvents       Action = "event.read"
	ReadRegionEvents Action = "event.read_region" // what fails and drifts in a region, and why

	CallAsCore Action = "ucloud.call"
)

// Who is a kind of caller.
type Who int

// The kinds of caller that an action may be for.
const (
	Nobody      Who = iota // what the table of rights does not name
	Anybody                // without a credential
	User                   // any user
	TokenHolder            // any user whose Keystone token the region's Nova accepts
	Owner                  // of each region that is touched, or a manager
	Manager
	Core // UCloud's, by its own token
)

// Right says who may do something.
type Right struct {
	Who     Who
	Refusal Code // of who may not: CodeForbidden where it is ""
	Changes bool // something: the audit tells of it
}

// rights is the table of who may do what. What is not in it is for nobody.
// Whether the caller's Keystone token allows something is Nova's to say, and
// what can be done in the state of things the marketplace's.
var rights = map[Action]Right{
	ReadService: {Who: Anybody},
	ReadSelf:    {Who: User},
	ReadStatus:  {Who: User},

	ReadPromoted:   {Who: User},
	CreatePromoted: {Who: Manager, Refusal: CodeManagerOnly, Changes: true},
	ChangePromoted: {Who: Manager, Refusal: CodeManagerOnly, Changes: true},
	DeletePromoted: {Who: Manager, Refusal: CodeManagerOnly, Changes: true},

	ReadProducts:  {Who: User},
	ChangeProduct: {Who: Manager, Refusal: CodeManagerOnly, Changes: true},
	EndProduct:    {Who: Manager, Refusal: CodeManagerOnly, Changes: true},
	ReadPush:      {Who: Manager, Refusal: CodeManagerOnly},
	RunPush:       {Who: Manager, Refusal: CodeManagerOnly, Changes: true},

	ListRegions:        {Who: User},
	ReadGLUE2:          {Who: User},
	ReadRegionFlavors:  {Who: TokenHolder},
	CreateRegionFlavor: {Who: TokenHolder, Changes: true},
	ChangeRegionFlavor: {Who: TokenHolder, Changes: true},
	DeleteRegionFlavor: {Who: TokenHolder, Changes: true},

	ListInfrastructures:  {Who: User},
	ReadInfrastructure:   {Who: Owner},
	CreateInfrastructure: {Who: Owner, Changes: true},
	ChangeInfrastructure: {Who: Owner, Changes: true},
	DeleteInfrastructure: {Who: Owner, Changes: true},
	ForgetInfrastructure: {Who: Manager, Refusal: CodeManagerOnly, Changes: true},
	TrustInfrastructure:  {Who: Manager, Changes: true},

	ReadFlavors:   {Who: User},
	ReadPrivate:   {Who: Owner},
	AskRegions:    {Who: Owner},
	CreateFlavor:  {Who: Owner, Changes: true},
	ChangeFlavor:  {Who: User, Changes: true},
	PublishFlavor: {Who: Owner, Changes: true},
	PromoteFlavor: {Who: Manager, Refusal: CodePromote, Changes: true},
	InstallFlavor: {Who: Owner, Changes: true},
	DeleteFlavor:  {Who: Owner, Changes: true},
	DropFlavor:    {Who: Manager, Changes: true},

	ReadOperations:  {Who: User},
	CancelOperation: {Who: User, Changes: true},
	ReadCompliance:  {Who: User},

	Match:     {Who: User},
	ReadAudit: {Who: Manager, Refusal: CodeManagerOnly},

	ReadEvents:       {Who: User},
	ReadRegionEvents: {Who: Owner},

	CallAsCore: {Who: Core},
}

// RightTo is who may do a; the zero Right, nobody's, where the table does not
// name it.
func RightTo(a Action) Right { return rights[a] }

// Can says whether p, who is known, may do a: for what is an owner's, in every
// one of these regions. Without a region an owner's action is open to all until
// it is known which it touches.
func (p Principal) Can(a Action, regions ...string) bool {
	switch rights[a].Who {
	case Anybody, User, TokenHolder:
		return true
	case Owner:
		return p.Manager || !slices.ContainsFunc(regions, func(r string) bool { return !slices.Contains(p.Regions, r) })
	case Manager:
		return p.Manager
	}
	return false
}

// May is Can, with the refusal as an error that says what is lacking.
func (p Principal) May(a Action, regions ...string) error {
	if p.Can(a, regions...) {
		return nil
	}
	right := rights[a]
	switch right.Who {
	case Owner:
		for _, r := range regions {
			if !slices.Contains(p.Regions, r) {
				return Forbidden("%s does not own the region %s", p.Name, r)
			}
		}
	case Manager:
		code := right.Refusal
		if code == "" {
			code = CodeForbidden
		}
		return Errorf(code, "%s is no manager, and only a manager may do this (%s)", p.Name, a)
	}
	return Forbidden("%s may not do this (%s): nobody is allowed to", p.Name, a)
}
