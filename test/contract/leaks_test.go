package contract_test

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	_ "modernc.org/sqlite"
)

// secrets are the passwords and tokens that may appear in no log, in no answer, and
// in no database.
var secrets = &secretSet{byHead: make(map[[8]byte][]string), short: make(map[string]bool)}

// secretSet finds each secret wherever it begins, in one pass over a text, however
// many there are.
type secretSet struct {
	mu     sync.Mutex
	byHead map[[8]byte][]string // by their first eight bytes
	short  map[string]bool      // the others
}

// tokens are those nobody told us of, such as Flavorsync's own of a service account
// at a real Keystone: Fernet tokens, and JWTs.
var tokens = regexp.MustCompile(`gAAAAA[\w-]{40,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+`)

// add has everything searched for a secret, and for what becomes of it in headers,
// URLs and JSON.
func (s *secretSet) add(value string) {
	quoted, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, form := range []string{
		value, string(quoted[1 : len(quoted)-1]), url.QueryEscape(value), url.PathEscape(value),
		base64.StdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)),
	} {
		if len(form) < 8 {
			s.short[form] = true
			continue
		}
		head := [8]byte([]byte(form))
		if !slices.Contains(s.byHead[head], form) {
			s.byHead[head] = append(s.byHead[head], form)
		}
	}
}

// in is a secret that text holds, "" for none.
func (s *secretSet) in(text []byte) string {
	if token := tokens.Find(text); token != nil {
		return string(token)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for value := range s.short {
		if bytes.Contains(text, []byte(value)) {
			return value
		}
	}
	for i := 0; i+8 <= len(text); i++ {
		for _, value := range s.byHead[[8]byte(text[i:])] {
			if bytes.HasPrefix(text[i:], []byte(value)) {
				return value
			}
		}
	}
	return ""
}

// checkLeaks: neither the log nor what is stored holds a token or a password. The
// process has ended.
func (pr *product) checkLeaks(t *testing.T) {
	t.Helper()
	pr.log.mu.Lock()
	defer pr.log.mu.Unlock()
	if dir := os.Getenv("FLAVORSYNC_TEST_LOGS"); dir != "" {
		name := filepath.Join(dir, fmt.Sprintf("contract-%s-%d.log", run, names.Add(1)))
		if err := os.WriteFile(name, bytes.Join(pr.log.lines, nil), 0o600); err != nil {
			t.Error(err)
		}
	}
	for _, line := range pr.log.lines {
		if leaked := secrets.in(line); leaked != "" {
			t.Errorf("the log holds a token or password (%s): %s", leaked, line)
		}
	}
	for _, leak := range leaksOfFiles(t, filepath.Dir(pr.config), filepath.Base(pr.config)) {
		t.Error(leak)
	}
	if pr.database != "" {
		for _, leak := range leaksOfDatabase(t, pr.database) {
			t.Error(leak)
		}
	}
}

// leaksOfFiles searches every file in dir, SQLite's as they are on the disk, but for
// the configuration and what begins with its name.
func leaksOfFiles(t *testing.T, dir, configuration string) (leaks []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.HasPrefix(entry.Name(), configuration) {
			return err
		}
		content, err := os.ReadFile(path) //nolint:gosec // nobody else writes there
		if leaked := secrets.in(content); leaked != "" {
			leaks = append(leaks, fmt.Sprintf("the file %s holds a token or password: %s", entry.Name(), leaked))
		}
		return err
	})
	if err != nil {
		t.Errorf("searching what the server has written: %v", err)
	}
	return leaks
}

// leaksOfDatabase searches every column of every row of every table.
func leaksOfDatabase(t *testing.T, name string) (leaks []string) {
	t.Helper()
	db, err := sql.Open("mysql", mysqlDSN(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ask := func(query string, each func(columns []sql.RawBytes)) {
		rows, err := db.Query(query)
		if err != nil {
			t.Fatalf("searching the database: %s: %v", query, err)
		}
		defer rows.Close()
		names, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		columns, into := make([]sql.RawBytes, len(names)), make([]any, len(names))
		for i := range columns {
			into[i] = &columns[i]
		}
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			each(columns)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	var tables []string
	ask("SHOW TABLES", func(columns []sql.RawBytes) { tables = append(tables, string(columns[0])) })
	for _, table := range tables {
		ask("SELECT * FROM `"+table+"`", func(columns []sql.RawBytes) {
			for _, column := range columns {
				if leaked := secrets.in(column); leaked != "" {
					leaks = append(leaks, fmt.Sprintf("the table %s holds a token or password: %s", table, leaked))
				}
			}
		})
	}
	return leaks
}

// A search that finds nothing must be able to find something.
func TestLeaksAreFound(t *testing.T) {
	planted := secret("planted")
	for what, text := range map[string]string{
		"as it is":     "x " + planted + " y",
		"in base64":    `{"a": "` + base64.StdEncoding.EncodeToString([]byte(planted)) + `"}`,
		"a Fernet one": "X-Subject-Token: gAAAAABmZm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4",
		"a JWT":        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2V2aWwifQ.c2lnbmF0dXJl",
	} {
		if secrets.in([]byte(text)) == "" {
			t.Errorf("a secret %s is not found", what)
		}
		if leaked := secrets.in([]byte(text[:len(text)/2])); leaked != "" {
			t.Errorf("half a secret %s is found: %s", what, leaked)
		}
	}
	special := `sp&ecial "` + secret("word")
	secrets.add(special)
	for _, form := range []string{url.QueryEscape(special), strings.ReplaceAll(special, `"`, `\"`)} {
		if secrets.in([]byte(form)) == "" {
			t.Errorf("%s is not found", form)
		}
	}
	secrets.add("short")
	if secrets.in([]byte("a short one")) != "short" {
		t.Error("a short secret is not found")
	}
	delete(secrets.short, "short") // a word that may appear

	dir := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, "flavorsync.db")+"?_journal_mode=WAL")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE planted (text TEXT)"); err != nil {
		t.Fatal(err)
	}
	if leaks := leaksOfFiles(t, dir, "flavorsync.yaml"); len(leaks) > 0 {
		t.Errorf("in an empty database: %q", leaks)
	}
	if _, err := db.Exec("INSERT INTO planted VALUES (?)", planted); err != nil {
		t.Fatal(err)
	}
	if leaks := leaksOfFiles(t, dir, "flavorsync.yaml"); len(leaks) == 0 {
		t.Error("a secret in a SQLite file is not found")
	}
	if os.Getenv("FLAVORSYNC_TEST_MYSQL_DSN") == "" {
		missing(t, "MariaDB is missing: FLAVORSYNC_TEST_MYSQL_DSN is not set")
	}
	name := createDatabase(t)
	executeSQL(t, "CREATE TABLE "+name+".planted (number INT, text VARBINARY(255))")
	executeSQL(t, "INSERT INTO "+name+".planted VALUES (NULL, NULL), (1, '"+base64.StdEncoding.EncodeToString([]byte(planted))+"')")
	if leaks := leaksOfDatabase(t, name); len(leaks) != 1 {
		t.Errorf("a secret in MariaDB: %q", leaks)
	}
}
