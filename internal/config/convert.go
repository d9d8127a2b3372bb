package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"github.com/flavorsync/flavorsync/internal/identity"
)

// convert is the one place that says which YAML value becomes which Go type.
// Left to itself the decoder takes 60 for 60 ns and 3.7 for 3. The errors show
// no value: it might be a password in the wrong place.
func convert(from, to reflect.Value) (any, error) {
	kind := from.Kind()
	switch to.Type() {
	case reflect.TypeFor[time.Duration]():
		if kind == reflect.Int64 && from.Type() == to.Type() {
			return from.Interface(), nil
		}
		if kind != reflect.String {
			return nil, errors.New("must be a time with its unit, such as 60s or 500ms")
		}
		d, err := time.ParseDuration(from.String())
		if err != nil {
			return nil, errors.New("is no time: write a number with its unit, such as 60s or 500ms")
		}
		return d, nil
	case reflect.TypeFor[identity.Texts]():
		if kind == reflect.String {
			return identity.Texts{from.String()}, nil
		}
	case reflect.TypeFor[netip.Prefix]():
		if kind != reflect.String {
			return nil, errors.New("must be a network, such as 10.0.0.0/8")
		}
		return network(from.String())
	}
	ok, want := true, ""
	switch to.Kind() {
	case reflect.String:
		ok, want = kind == reflect.String, "text: put it in quotes"
	case reflect.Bool:
		ok, want = kind == reflect.Bool, "true or false"
	case reflect.Int:
		ok, want = from.CanInt() && !to.OverflowInt(from.Int()), "a whole number"
	case reflect.Float64:
		ok, want = from.CanFloat() || from.CanInt(), "a number"
	case reflect.Slice:
		ok, want = kind == reflect.Slice, "a list, such as [a, b]"
	case reflect.Struct, reflect.Map:
		ok, want = kind == reflect.Map, "a map, such as {key: value}"
	}
	if !ok {
		return nil, fmt.Errorf("must be %s", want)
	}
	return from.Interface(), nil
}

func network(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		if a, err := netip.ParseAddr(text); err == nil {
			return p, fmt.Errorf("%s is an address: write the network %s", a, netip.PrefixFrom(a, a.BitLen()))
		}
		return p, fmt.Errorf("%q is no network: write it as in 10.0.0.0/8 or fd00::/8", text)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%s is an address inside a network: write the network %s", p, p.Masked())
	}
	return p, nil
}
