-- +goose Up
-- Which region has which flavor of the catalogue, under which id of its Nova.
CREATE TABLE installations (
    flavor_id TEXT    NOT NULL REFERENCES flavors (id) ON DELETE CASCADE,
    region    TEXT    NOT NULL REFERENCES regions (name) ON DELETE CASCADE,
    node_id   TEXT    NOT NULL,
    created   BOOLEAN NOT NULL,
    PRIMARY KEY (flavor_id, region),
    CHECK (length(node_id) <= 255)
);

-- +goose Down
DROP TABLE installations;
