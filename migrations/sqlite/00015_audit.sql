-- +goose Up
-- What known callers have changed, or were refused. Lines are added, and dropped
-- by age: never changed. id is a UUID of version 7: later ones sort behind.
CREATE TABLE audit (
    id           TEXT NOT NULL PRIMARY KEY,
    at           DATETIME NOT NULL,
    provider     TEXT NOT NULL,
    caller       TEXT NOT NULL,
    name         TEXT NOT NULL,
    address      TEXT NOT NULL,
    request_id   TEXT NOT NULL,
    action       TEXT NOT NULL,
    object       TEXT NOT NULL,
    flavor       TEXT NOT NULL,
    region       TEXT NOT NULL,
    outcome      TEXT NOT NULL,
    message      TEXT NOT NULL,
    count        INTEGER NOT NULL,
    before_value TEXT NOT NULL,
    after_value  TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_caller ON audit (caller, id);
CREATE INDEX audit_flavor ON audit (flavor, id);
CREATE INDEX audit_request ON audit (request_id);

-- +goose Down
DROP TABLE IF EXISTS audit;
