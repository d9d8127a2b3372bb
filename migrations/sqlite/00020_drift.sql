-- +goose Up
-- The nodes that somebody deleted or altered behind our back: under which id the
-- node was, and whether we had created it.
CREATE TABLE drift (
    flavor_id TEXT     NOT NULL REFERENCES flavors (id) ON DELETE CASCADE,
    region    TEXT     NOT NULL REFERENCES regions (name) ON DELETE CASCADE,
    kind      TEXT     NOT NULL,
    node_id   TEXT     NOT NULL,
    created   BOOLEAN  NOT NULL,
    found_at  DATETIME NOT NULL,
    PRIMARY KEY (flavor_id, region)
);

-- +goose Down
DROP TABLE drift;
