-- +goose Up
-- The intent of every careful change of a flavor that is under way.
CREATE TABLE flavor_changes (
    id         TEXT     NOT NULL PRIMARY KEY,
    region     TEXT     NOT NULL REFERENCES regions (name) ON DELETE CASCADE,
    flavor_id  TEXT     NOT NULL,
    temp_id    TEXT     NOT NULL,
    old_flavor TEXT     NOT NULL,
    new_flavor TEXT     NOT NULL,
    access     TEXT     NOT NULL,
    owner      TEXT     NOT NULL,
    deadline   DATETIME NOT NULL,
    created_at DATETIME NOT NULL,
    CONSTRAINT flavor_changes_flavor UNIQUE (region, flavor_id)
);

-- +goose Down
DROP TABLE flavor_changes;
