package flavor

// Policy says what happens to promoted flavors by itself: in the whole
// federation, and where a region or a flavor is told otherwise.
type Policy struct {
	PolicyPart
	Regions map[string]PolicyPart // by name
	Flavors map[string]PolicyPart // by id or name
}

// PolicyPart is what is said in one place; nil is nothing.
type PolicyPart struct {
	Install *bool // every promoted flavor is wanted in every region
	Repair  *bool // what we created and somebody altered or deleted is made as it was
}

// Installs says whether f is wanted in region without anybody asking for it.
func (p Policy) Installs(f Flavor, region string) bool {
	return p.says(f, region, func(part PolicyPart) *bool { return part.Install })
}

// Repairs says whether f's node in region is repaired.
func (p Policy) Repairs(f Flavor, region string) bool {
	return p.says(f, region, func(part PolicyPart) *bool { return part.Repair })
}

// says is what the policy answers for one flavor in one region: a no of the region
// or of the flavor counts before a yes of the other, and either before what is
// said of the whole federation.
func (p Policy) says(f Flavor, region string, of func(PolicyPart) *bool) bool {
	answer := of(p.PolicyPart) != nil && *of(p.PolicyPart)
	told := false
	for _, part := range []PolicyPart{p.Regions[region], p.Flavors[f.ID], p.Flavors[f.Name]} {
		switch said := of(part); {
		case said == nil:
		case !*said:
			return false
		default:
			told = true
		}
	}
	return answer || told
}
