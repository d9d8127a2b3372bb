// Package migrations embeds the schema, as goose SQL, one folder for each
// dialect. MariaDB commits every DDL statement at once and goose cannot undo
// the first of two, so a file holds one statement each way, and one that can be
// repeated where a crash came between it and its mark. Both dialects number
// their files alike.
package migrations

import (
	"embed"
	"io/fs"
)

var (
	//go:embed sqlite/*.sql
	sqlite embed.FS
	//go:embed mysql/*.sql
	mysql embed.FS
)

// The migrations of each dialect.
var (
	SQLite = folder(sqlite, "sqlite")
	MySQL  = folder(mysql, "mysql")
)

func folder(all embed.FS, name string) fs.FS {
	sub, err := fs.Sub(all, name)
	if err != nil {
		panic(err) // the name is one of the two above
	}
	return sub
}
