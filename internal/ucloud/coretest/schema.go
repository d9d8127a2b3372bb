package coretest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// kind is the type of a field in JSON.
type kind int

const (
	text    kind = iota // one line
	natural             // a whole number from 0 on, written as one
	boolean
	object
)

// field is one that a Core looks at. Others are ignored.
type field struct {
	name     string
	kind     kind
	required bool
	enum     []string // of a text
	max      int      // characters of a text; 0: any number
	fields   []field  // of an object
}

var periods = []string{"ONCE", "PERIODIC_MINUTE", "PERIODIC_HOUR", "PERIODIC_DAY"}

var sizes = []field{
	{name: "cpu", kind: natural}, {name: "memoryInGigs", kind: natural}, {name: "gpu", kind: natural},
	{name: "cpuModel", max: 128}, {name: "memoryModel", max: 128}, {name: "gpuModel", max: 128},
}

// schemaV2 is stricter than a Core where what is left out means something else
// to one than to another: the two switches of a category.
var schemaV2 = slices.Concat(sizes, []field{
	{name: "type", required: true, enum: []string{"compute"}},
	{name: "name", required: true},
	{name: "description"},
	{name: "productType", required: true, enum: []string{"COMPUTE"}},
	{name: "price", kind: natural, required: true},
	{name: "fraction", kind: object, fields: []field{{name: "numerator", kind: natural, required: true}, {name: "denominator", kind: natural, required: true}}},
	{name: "hiddenInGrantApplications", kind: boolean},
	{name: "category", kind: object, required: true, fields: []field{
		{name: "name", required: true},
		{name: "provider", required: true},
		{name: "productType", required: true, enum: []string{"COMPUTE"}},
		{name: "accountingUnit", kind: object, required: true, fields: []field{
			{name: "name", required: true}, {name: "namePlural", required: true},
			{name: "floatingPoint", kind: boolean, required: true}, {name: "displayFrequencySuffix", kind: boolean, required: true},
		}},
		{name: "accountingFrequency", required: true, enum: periods},
		{name: "freeToUse", kind: boolean, required: true},
		{name: "allowSubAllocations", kind: boolean, required: true},
	}},
})

func checkV2(item map[string]json.RawMessage) error { return check(item, schemaV2) }

var schemaV1 = slices.Concat(sizes, []field{
	{name: "type", required: true, enum: []string{"compute"}},
	{name: "name", required: true},
	{name: "description"},
	{name: "pricePerUnit", kind: natural, required: true},
	{name: "category", kind: object, required: true, fields: []field{{name: "name", required: true}, {name: "provider", required: true}}},
	{name: "priority", kind: natural},
	{name: "version", kind: natural},
	{name: "freeToUse", kind: boolean},
	{name: "unitOfPrice", enum: []string{
		"CREDITS_PER_UNIT", "PER_UNIT", "CREDITS_PER_MINUTE", "CREDITS_PER_HOUR", "CREDITS_PER_DAY", "UNITS_PER_MINUTE", "UNITS_PER_HOUR", "UNITS_PER_DAY",
	}},
	{name: "chargeType", enum: []string{"ABSOLUTE", "DIFFERENTIAL_QUOTA"}},
	{name: "hiddenInGrantApplications", kind: boolean},
	{name: "productType", enum: []string{"COMPUTE"}},
})

func checkV1(item map[string]json.RawMessage) error {
	if err := check(item, schemaV1); err != nil {
		return err
	}
	unit, charge, price := word(item["unitOfPrice"]), word(item["chargeType"]), string(item["pricePerUnit"])
	if periodic := strings.HasSuffix(unit, "_MINUTE") || strings.HasSuffix(unit, "_HOUR") || strings.HasSuffix(unit, "_DAY"); periodic && charge == "DIFFERENTIAL_QUOTA" {
		return errors.New("chargeType: must be ABSOLUTE with a price for a period")
	}
	if unit != "" && !strings.HasPrefix(unit, "CREDITS_") && price != "1" {
		return errors.New("pricePerUnit: must be 1 where nothing is paid in credits")
	}
	return nil
}

func word(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s) // "" for none
	return s
}

// check tells the first field of item that is not as in fields.
func check(item map[string]json.RawMessage, fields []field) error {
	for _, f := range fields {
		raw, there := item[f.name]
		if !there || string(raw) == "null" {
			if f.required {
				return fmt.Errorf("%s: is missing", f.name)
			}
			continue
		}
		if err := f.check(raw); err != nil {
			return fmt.Errorf("%s%w", f.name, err)
		}
	}
	return nil
}

func (f field) check(raw json.RawMessage) error {
	switch f.kind {
	case natural:
		if _, err := strconv.ParseUint(string(raw), 10, 63); err != nil {
			return errors.New(": must be a whole number, not below 0")
		}
	case boolean:
		if s := string(raw); s != "true" && s != "false" {
			return errors.New(": must be true or false")
		}
	case object:
		var inner map[string]json.RawMessage
		if json.Unmarshal(raw, &inner) != nil {
			return errors.New(": must be an object")
		}
		if err := check(inner, f.fields); err != nil {
			return fmt.Errorf(".%w", err)
		}
	case text:
		var s string
		switch {
		case json.Unmarshal(raw, &s) != nil:
			return errors.New(": must be a string")
		case f.required && s == "", f.enum != nil && !slices.Contains(f.enum, s):
			return fmt.Errorf(": %q is unknown", s)
		case f.max > 0 && len([]rune(s)) > f.max, strings.ContainsFunc(s, unicode.IsControl):
			return fmt.Errorf(": must be one line of at most %d characters", f.max)
		}
	}
	return nil
}
