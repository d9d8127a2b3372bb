-- +goose Up
-- One row, counted up by every transaction that changes flavors or
-- installations: other processes see by it that their snapshot is old.
CREATE TABLE catalogue_version (
    id      INTEGER NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL
);

-- +goose Down
DROP TABLE catalogue_version;
