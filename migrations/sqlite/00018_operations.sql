-- +goose Up
-- What is wanted of the regions: written down before any of them is called. An
-- operation outlives its flavor and its regions, so that it can still be read.
CREATE TABLE operations (
    id         TEXT     NOT NULL PRIMARY KEY,
    kind       TEXT     NOT NULL,
    origin     TEXT     NOT NULL,
    flavor_id  TEXT     NOT NULL,
    name       TEXT     NOT NULL,
    provider   TEXT     NOT NULL,
    caller     TEXT     NOT NULL,
    state      TEXT     NOT NULL,
    turn       INTEGER  NOT NULL,
    created_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL
);
CREATE INDEX operations_state ON operations (state, updated_at);
CREATE INDEX operations_flavor ON operations (flavor_id, origin);

-- +goose Down
DROP TABLE operations;
