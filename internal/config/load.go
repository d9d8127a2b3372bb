package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"

	"github.com/flavorsync/flavorsync/internal/identity"
)

// Load reads the configuration from the YAML file at path and from environ (as
// os.Environ gives it). The environment goes before the file: database.dsn is
// FLAVORSYNC_DATABASE_DSN, taken as it is; what is not text is read as YAML, so
// a list is FLAVORSYNC_OUTGOING_ALLOW_NETWORKS=[10.0.0.0/8], and an empty
// variable then counts as not set. Other variables are ignored. An empty path
// means the environment and the defaults alone.
//
// All errors come at once, joined; each begins with the setting's path and says
// what to do. None shows a value that may be secret.
func Load(path string, environ []string) (*Config, error) {
	l := loader{from: make(map[string]string), said: make(map[string]bool)}
	c := Default()
	k := koanf.New(".")
	if path != "" {
		text, err := os.ReadFile(path) //nolint:gosec // the operator names it on the command line
		if err != nil {
			return nil, fmt.Errorf("while reading the configuration: %w", err)
		}
		l.merge(k, l.file(text))
	}
	l.merge(k, l.environment(environ))
	l.decode(k, &c)
	l.check(&c)
	if len(l.errs) > 0 {
		slices.SortStableFunc(l.errs, func(a, b settingError) int { return cmp.Compare(a.path, b.path) })
		errs := make([]error, len(l.errs))
		for i, e := range l.errs {
			errs[i] = e
		}
		return nil, fmt.Errorf("while reading the configuration %s:\n%w", cmp.Or(path, "from the environment"), errors.Join(errs...))
	}
	return &c, nil
}

// loader collects what is wrong.
type loader struct {
	from map[string]string // path → the variable that set it
	said map[string]bool   // paths with an error: the first one is the cause of the others
	errs []settingError
}

type settingError struct{ path, source, message string }

func (e settingError) Error() string {
	where := e.path
	if e.source != "" {
		where = strings.TrimSpace(where + " (" + e.source + ")")
	}
	if where == "" {
		return e.message
	}
	return where + ": " + e.message
}

func (l *loader) wrong(path, format string, args ...any) {
	if l.said[path] {
		return
	}
	l.said[path] = true
	source := ""
	for p := path; source == "" && p != ""; p = parent(p) {
		source = l.from[p]
	}
	l.errs = append(l.errs, settingError{path, source, fmt.Sprintf(format, args...)})
}

// parent is the path around path: a.b of a.b.c, a.b of a.b[1].
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

func (l *loader) merge(k *koanf.Koanf, values map[string]any) {
	if err := k.Load(confmap.Provider(values, ""), nil); err != nil {
		l.wrong("", "%v", err)
	}
}

// file is the settings of a YAML file's text.
func (l *loader) file(text []byte) map[string]any {
	value, err := parse(text)
	if err != nil {
		l.wrong("", "%v", err)
		return nil
	}
	settings, ok := value.(map[string]any)
	if !ok && value != nil {
		l.wrong("", "the file must be a map of settings, such as listen: 127.0.0.1:8080")
	}
	return settings
}

// parse is the one document in text. Keys that YAML takes for something else
// than text are refused: of 0123 it would make the key 83.
func parse(text []byte) (any, error) {
	var value, more any
	d := yaml.NewDecoder(bytes.NewReader(text))
	switch err := d.Decode(&value); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("yaml: there must be one document only: remove what follows the line ---")
	}
	return value, textKeys(value)
}

func textKeys(value any) error {
	switch v := value.(type) {
	case map[any]any:
		for key := range v {
			if _, ok := key.(string); !ok {
				return fmt.Errorf("yaml: the key %v is a number or the like: put it in quotes", key)
			}
		}
	case map[string]any:
		for _, inner := range v {
			if err := textKeys(inner); err != nil {
				return err
			}
		}
	case []any:
		for _, inner := range v {
			if err := textKeys(inner); err != nil {
				return err
			}
		}
	}
	return nil
}

// setting is one thing that can be configured: a section or a value.
type setting struct {
	path string
	kind reflect.Type
}

// variable is the setting's name in the environment. Names are made from the
// paths, for max_in_flight cannot be told from max.in.flight the other way.
func (s setting) variable() string {
	return "FLAVORSYNC_" + strings.ToUpper(strings.ReplaceAll(s.path, ".", "_"))
}

// settings are those of the struct t under path, sections before their values.
func settings(t reflect.Type, path string) []setting {
	var all []setting
	for f := range t.Fields() {
		s := setting{strings.TrimPrefix(path+"."+f.Tag.Get("koanf"), "."), f.Type}
		all = append(all, s)
		if f.Type.Kind() == reflect.Struct {
			all = append(all, settings(f.Type, s.path)...)
		}
	}
	return all
}

// environment is the settings in environ.
func (l *loader) environment(environ []string) map[string]any {
	values := make(map[string]string)
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok {
			values[name] = value
		}
	}
	found := make(map[string]any)
	for _, s := range settings(reflect.TypeFor[Config](), "") {
		text, ok := values[s.variable()]
		if !ok || text == "" && s.kind.Kind() != reflect.String {
			continue
		}
		l.from[s.path] = s.variable()
		var value any = text
		if s.kind.Kind() != reflect.String {
			var err error
			if value, err = parse([]byte(text)); err != nil {
				l.wrong(s.path, "is not YAML: %v", err)
				continue
			}
			if _, isMap := value.(map[string]any); s.kind.Kind() == reflect.Struct && !isMap {
				l.wrong(s.path, "must be a map, such as {key: value}")
				continue
			}
		}
		section := found
		keys := strings.Split(s.path, ".")
		for _, key := range keys[:len(keys)-1] {
			inner, ok := section[key].(map[string]any)
			if !ok {
				inner = make(map[string]any)
				section[key] = inner
			}
			section = inner
		}
		section[keys[len(keys)-1]] = value
	}
	return found
}

// decode fills c with what k holds.
func (l *loader) decode(k *koanf.Koanf, c *Config) {
	raw := k.Raw()
	providers := raw["identity"]
	delete(raw, "identity")
	l.into(c, raw, "")
	if providers == nil {
		return
	}
	list, ok := providers.([]any)
	if !ok {
		l.wrong("identity", "must be a list, such as [{type: keyrock, url: \"https://account.example.org/user\"}]")
		return
	}
	for i, entry := range list {
		c.Identity = append(c.Identity, l.provider(fmt.Sprintf("identity[%d]", i), entry))
	}
	l.wrongAll("", identity.Distinct(c.Identity))
}

func (l *loader) provider(path string, entry any) identity.ProviderConfig {
	fields, ok := entry.(map[string]any)
	if !ok {
		l.wrong(path, "must be a map, such as {type: keyrock, url: \"https://account.example.org/user\"}")
		return identity.ProviderConfig{}
	}
	kind, _ := fields["type"].(string)
	p := identity.ProviderConfig{Type: kind}.WithDefaults()
	// The settings of a type that does not exist are no news beside that.
	if slices.Contains(identity.Types, kind) {
		l.into(&p, fields, path)
	}
	l.wrongAll(path, p.Validate())
	return p
}

// wrongAll reports the errors of a part's own validation, joined, each of which
// begins with a setting's path inside the part.
func (l *loader) wrongAll(path string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			field, message, _ := strings.Cut(err.Error(), ": ")
			l.wrong(join(path, field), "%s", message)
		}
	}
}

// into decodes the settings under path into target. A name that is not exactly
// a setting's is an error, and so is a value that is not of its very type.
func (l *loader) into(target any, values map[string]any, path string) {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		TagName:    "koanf",
		Result:     target,
		MatchName:  func(key, field string) bool { return key == field },
		DecodeHook: convert,
	})
	if err != nil {
		panic(err) // target is a pointer to a struct
	}
	l.decodeErrors(d.Decode(values), path)
	// The decoder tells unknown names too, but not beside other errors.
	l.unknown(values, reflect.TypeOf(target).Elem(), path)
}

// decodeErrors reports the errors in a decoder's error, which is a tree: joins,
// wrappers that say no more than what they wrap, and at its leaves one
// mapstructure.DecodeError for each setting.
func (l *loader) decodeErrors(err error, path string) {
	switch e := err.(type) { //nolint:errorlint // it is the tree itself that is walked
	case nil:
	case *mapstructure.DecodeError:
		l.wrong(join(path, e.Name()), "%v", e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			l.decodeErrors(inner, path)
		}
	case interface{ Unwrap() error }:
		l.decodeErrors(e.Unwrap(), path)
	default:
		l.wrong(path, "%v", err)
	}
}

// unknown reports the names in value that t, a type of the configuration, does
// not have.
func (l *loader) unknown(value any, t reflect.Type, path string) {
	switch v := value.(type) {
	case []any:
		for i := range v {
			if t.Kind() == reflect.Slice {
				l.unknown(v[i], t.Elem(), fmt.Sprintf("%s[%d]", path, i))
			}
		}
	case map[string]any:
		if t.Kind() == reflect.Map {
			for key, inner := range v {
				l.unknown(inner, t.Elem(), fmt.Sprintf("%s[%s]", path, key))
			}
		}
		if t.Kind() != reflect.Struct {
			return
		}
		fields := make(map[string]reflect.Type)
		var names []string
		for f := range t.Fields() {
			if name := f.Tag.Get("koanf"); name != "" {
				fields[name] = f.Type
				names = append(names, name)
			}
		}
		for key, inner := range v {
			if known, ok := fields[key]; ok {
				l.unknown(inner, known, join(path, key))
			} else if len(names) > 0 {
				l.wrong(join(path, key), "is no setting: there are %s", strings.Join(names, ", "))
			}
		}
	}
}

func join(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}
