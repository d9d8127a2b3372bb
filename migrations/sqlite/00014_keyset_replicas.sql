-- +goose Up
-- The processes that serve, and the ids of the keys that each can decrypt with:
-- none may be promoted that one of them does not have. deadline is in milliseconds
-- since 1970 of the database's clock; who is past it is gone.
CREATE TABLE keyset_replicas (
    id       TEXT    NOT NULL PRIMARY KEY,
    name     TEXT    NOT NULL,
    key_ids  TEXT    NOT NULL,
    deadline INTEGER NOT NULL
);

-- +goose Down
DROP TABLE keyset_replicas;
