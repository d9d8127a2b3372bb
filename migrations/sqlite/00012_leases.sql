-- +goose Up
-- Work that one process does at a time: who is at it and until when, in
-- milliseconds since 1970 of the database's clock. fence counts the takings.
CREATE TABLE leases (
    name     TEXT    NOT NULL PRIMARY KEY,
    owner    TEXT    NOT NULL,
    deadline INTEGER NOT NULL,
    fence    INTEGER NOT NULL
);

-- +goose Down
DROP TABLE leases;
