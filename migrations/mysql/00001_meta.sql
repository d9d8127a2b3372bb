-- +goose Up
-- What the database knows of itself: the id of the key its passwords are
-- encrypted with, whether it is a demonstration.
CREATE TABLE IF NOT EXISTS meta (
    name  VARCHAR(64)   NOT NULL PRIMARY KEY,
    value VARCHAR(1024) NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS meta;
