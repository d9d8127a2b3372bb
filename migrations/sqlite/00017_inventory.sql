-- +goose Up
-- The flavors that each region had when it was last seen, as JSON.
CREATE TABLE inventory (
    region  TEXT NOT NULL PRIMARY KEY REFERENCES regions (name) ON DELETE CASCADE,
    flavors TEXT NOT NULL
);

-- +goose Down
DROP TABLE inventory;
