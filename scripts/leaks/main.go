// Command leaks searches the logs that tests have left in a directory for the
// passwords and tokens that the tests use, and for whatever looks like a token.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "leaks: which directory?")
		os.Exit(2)
	}
	logs, found, err := search(os.Stdout, os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "leaks:", err)
		os.Exit(2)
	}
	fmt.Printf("leaks: %d passwords and tokens in the logs of %d processes\n", found, logs)
	if found > 0 {
		os.Exit(1)
	}
}

// secrets are the passwords of the tests, and of the demo, in clear text and as basic
// credentials end; what a Keystone, an OpenID provider, a UCloud and a Vault issue; and
// hashes of passwords.
var secrets = regexp.MustCompile(`\b(?:admin|operator|member|reader|manager|spain2|trento|lannion2|flavorsync|nova)-secret\b|\bhunter2\b` +
	`|[Bb]asic [A-Za-z0-9+/]{8,}|[Bb]earer [\w.-]{8,}|[?&]access_token=[^*&" ]` +
	`|gAAAAA[\w-]{40,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.|\bhvs\.\w{16,}|\$2[aby]\$\d\d\$`)

// isSecret tells basic credentials, which are a user and a password once they are
// decoded, from English.
func isSecret(found string) bool {
	encoded, basic := strings.CutPrefix(strings.ToLower(found[:1])+found[1:], "basic ")
	if !basic {
		return true
	}
	decoded, err := base64.RawStdEncoding.DecodeString(encoded)
	return err == nil && bytes.ContainsRune(decoded, ':')
}

// search tells of each line below dir that holds a secret.
func search(out io.Writer, dir string) (logs, found int, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error { //nolint:gosec // who runs the tests names it
		if err != nil || entry.IsDir() {
			return err
		}
		logs++
		f, err := os.Open(path) //nolint:gosec // it is what we are to search
		if err != nil {
			return err
		}
		defer f.Close()
		lines := bufio.NewReader(f)
		for n := 1; ; n++ {
			line, err := lines.ReadString('\n')
			for _, secret := range secrets.FindAllString(line, -1) {
				if !isSecret(secret) {
					continue
				}
				found++
				fmt.Fprintf(out, "leaks: %s, line %d, holds %s: %s\n", entry.Name(), n, secret, line)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	return logs, found, err
}
