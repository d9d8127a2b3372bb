-- +goose Up
-- One row, counted up by every transaction that changes flavors or
-- installations: other processes see by it that their snapshot is old.
CREATE TABLE IF NOT EXISTS catalogue_version (
    id      INT    NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS catalogue_version;
