package marketplace

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// fold is text as a Nova on MariaDB compares it: without case and accents.
func fold(text string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFD.String(text)))
}
