-- +goose Up
-- Work that one process does at a time: who is at it and until when, in
-- milliseconds since 1970 of the database's clock. fence counts the takings.
CREATE TABLE IF NOT EXISTS leases (
    name     VARCHAR(64)  NOT NULL PRIMARY KEY,
    owner    VARCHAR(255) NOT NULL,
    deadline BIGINT       NOT NULL,
    fence    BIGINT       NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS leases;
