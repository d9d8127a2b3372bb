package flavor_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

func small() flavor.Spec {
	return flavor.Spec{Name: "small", VCPUs: 1, RAM: 512, Disk: 10, RxTxFactor: 1, ExtraSpecs: map[string]string{"hw:cpu_policy": "shared"}}
}

// A wrong size under a known name must be told field by field, or an operator
// cannot see why his flavor is refused.
func TestDifferencesNameEveryField(t *testing.T) {
	found := flavor.Spec{
		Name: "Small", VCPUs: 2, RAM: 513, Disk: 11, Swap: 1, Ephemeral: 2, RxTxFactor: 1.5, Description: "x",
		ExtraSpecs: map[string]string{"hw:cpu_policy": "dedicated", "gpu": "1"},
	}
	var got []string
	for _, d := range small().Differences(found) {
		got = append(got, d.String())
	}
	want := []string{
		`name is "Small", not "small"`, "vcpus is 2, not 1", "ram is 513, not 512", "disk is 11, not 10", "swap is 1, not 0",
		"ephemeral is 2, not 0", "rxtx_factor is 1.5, not 1", `description is "x", not ""`,
		`extra_specs.gpu is "1", not absent`, `extra_specs.hw:cpu_policy is "dedicated", not "shared"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Nova on MariaDB gives 1.1 back as 1.1 of single precision, and no extra specs
// as none: neither may look like drift.
func TestEqualAsNovaStores(t *testing.T) {
	a, b := small(), small()
	a.RxTxFactor, b.RxTxFactor = 1.1, float64(float32(1.1))
	a.ExtraSpecs, b.ExtraSpecs = nil, map[string]string{}
	if !a.Equal(b) {
		t.Error(a.Differences(b))
	}
}

// What Nova would refuse, or take and never give back, must be refused here
// first, with the field's name.
func TestValidateRefuses(t *testing.T) {
	for name, change := range map[string]func(*flavor.Spec){
		"name: must have 1 to 255":                         func(s *flavor.Spec) { s.Name = "" },
		"name: must have 1 to 255 characters, not 256":     func(s *flavor.Spec) { s.Name = strings.Repeat("é", 256) },
		"name: must not begin or end":                      func(s *flavor.Spec) { s.Name = "   " },
		"name: must not hold the control character U+000A": func(s *flavor.Spec) { s.Name = "a\nb" },
		"name: must not hold the control character U+0000": func(s *flavor.Spec) { s.Name = "a\x00b" },
		"name: Nova takes no character outside":            func(s *flavor.Spec) { s.Name = "a😀" },
		"name: is not UTF-8":                               func(s *flavor.Spec) { s.Name = "a\xff" },
		"vcpus: must be from 1 to 2147483647":              func(s *flavor.Spec) { s.VCPUs = 0 },
		"ram: must be from 1":                              func(s *flavor.Spec) { s.RAM = -1 },
		"disk: must be from 0":                             func(s *flavor.Spec) { s.Disk = -1 },
		"swap: must be from 0 to 2147483647":               func(s *flavor.Spec) { s.Swap = math.MaxInt32 + 1 },
		"ephemeral: must be from 0":                        func(s *flavor.Spec) { s.Ephemeral = -5 },
		"rxtx_factor: must be from 1 to 3.4":               func(s *flavor.Spec) { s.RxTxFactor = 0.9 },
		"rxtx_factor: must be from 1 to":                   func(s *flavor.Spec) { s.RxTxFactor = math.NaN() },
		"description: must have at most 65535":             func(s *flavor.Spec) { s.Description = strings.Repeat("x", 65536) },
		"description: Nova takes one line":                 func(s *flavor.Spec) { s.Description = "soft\u00adhyphen" },
		"extra_specs: the key":                             func(s *flavor.Spec) { s.ExtraSpecs = map[string]string{"a/b": "1"} },
		"extra_specs.k: must have at most 255":             func(s *flavor.Spec) { s.ExtraSpecs = map[string]string{"k": strings.Repeat("x", 256)} },
	} {
		s := small()
		change(&s)
		err := s.Validate()
		if flavor.CodeOf(err) != flavor.CodeInvalid || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Names that Nova takes are taken: operators use slashes and their own scripts.
func TestValidateTakesWhatNovaTakes(t *testing.T) {
	for _, name := range []string{"a/b?c#d%e;f", "大きい", "a b", strings.Repeat("é", 255)} {
		s := small()
		s.Name = name
		if err := s.Validate(); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// An id that Nova can never be asked for again, or that leaves the path, is refused.
func TestValidateID(t *testing.T) {
	for _, id := range []string{"", ".", "..", "detail", "a/b", "a\x00", " a", "a ", "é", strings.Repeat("a", 256)} {
		if flavor.CodeOf(flavor.ValidateID(id)) != flavor.CodeInvalid {
			t.Errorf("%q was taken", id)
		}
	}
	for _, id := range []string{"1", "a b", "m1.tiny", "...", strings.Repeat("a", 255)} {
		if err := flavor.ValidateID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestRegionValidate(t *testing.T) {
	good := flavor.Region{
		Name: "Spain2", KeystoneURL: "https://cloud.example.org:5000", Username: "u", Password: "p", Tenant: "t",
		UserDomain: "Default", ProjectDomain: "Default",
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*flavor.Region){
		"name":         func(r *flavor.Region) { r.Name = "a b" },
		"name: a":      func(r *flavor.Region) { r.Name = strings.Repeat("a", 65) },
		"name: a r":    func(r *flavor.Region) { r.Name = "a/b" },
		"keystone_url": func(r *flavor.Region) { r.KeystoneURL = "ftp://x" },
		"nova_url":     func(r *flavor.Region) { r.NovaURL = "http://user:secret@x/" },
		"password":     func(r *flavor.Region) { r.Password = "" },
		"username":     func(r *flavor.Region) { r.Username = "a\nb" },
	} {
		r := good
		change(&r)
		if err := r.Validate(); flavor.CodeOf(err) != flavor.CodeInvalid || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: shows the secret: %v", field, err)
		}
	}
}

// A password must not be printed by whoever prints the struct around it.
func TestSecretPrintsAsStars(t *testing.T) {
	r := flavor.Region{Password: "hunter2"}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "region", r, "password", r.Password)
	for _, text := range []string{fmt.Sprint(r), fmt.Sprintf("%+v %#v %s %q", r, r, r.Password, r.Password), log.String()} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the password is in %s", text)
		}
	}
}

// The cause of a failure is for the log; the message is for the client.
func TestErrorfKeepsTheCauseOutOfTheMessage(t *testing.T) {
	err := flavor.Errorf(flavor.CodeUnreachable, "asking %s: %w", "Trento", io.ErrUnexpectedEOF)
	if err.Message != "asking Trento" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, %v", err.Message, err)
	}
	if code := flavor.CodeOf(fmt.Errorf("more: %w", err)); code != flavor.CodeUnreachable {
		t.Errorf("got %s", code)
	}
	if code := flavor.CodeOf(io.EOF); code != flavor.CodeInternal {
		t.Errorf("got %s", code)
	}
}
