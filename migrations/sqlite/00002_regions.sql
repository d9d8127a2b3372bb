-- +goose Up
-- name_folded is the name in lower case: two names may not differ in case only.
CREATE TABLE regions (
    name             TEXT     NOT NULL PRIMARY KEY,
    name_folded      TEXT     NOT NULL CONSTRAINT regions_name_folded UNIQUE,
    keystone_url     TEXT     NOT NULL,
    nova_url         TEXT     NOT NULL,
    username         TEXT     NOT NULL,
    password         BLOB     NOT NULL,
    tenant           TEXT     NOT NULL,
    user_domain      TEXT     NOT NULL,
    project_domain   TEXT     NOT NULL,
    trusted          BOOLEAN  NOT NULL,
    nova_url_trusted BOOLEAN  NOT NULL,
    state            TEXT     NOT NULL,
    last_error       TEXT     NOT NULL,
    checked_at       DATETIME,
    CHECK (length(name) <= 64)
);

-- +goose Down
DROP TABLE regions;
