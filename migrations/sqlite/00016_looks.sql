-- +goose Up
-- When each region was looked at, and when it is again: due is in milliseconds
-- since 1970 of the database's clock, and moving it on is how one process among
-- several takes a look. turn counts what was written down of the region: a look
-- that began before the last of it is older and is dropped. version counts the
-- changes of its inventory.
CREATE TABLE looks (
    region      TEXT    NOT NULL PRIMARY KEY REFERENCES regions (name) ON DELETE CASCADE,
    due         INTEGER NOT NULL,
    turn        INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    looked_at   DATETIME,
    seen_at     DATETIME,
    duration_ms INTEGER NOT NULL,
    error       TEXT    NOT NULL
);
CREATE INDEX looks_due ON looks (due);

-- +goose Down
DROP TABLE looks;
