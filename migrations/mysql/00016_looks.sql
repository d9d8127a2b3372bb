-- +goose Up
-- When each region was looked at, and when it is again: due is in milliseconds
-- since 1970 of the database's clock, and moving it on is how one process among
-- several takes a look. turn counts what was written down of the region: a look
-- that began before the last of it is older and is dropped. version counts the
-- changes of its inventory.
CREATE TABLE IF NOT EXISTS looks (
    region      VARCHAR(64) NOT NULL PRIMARY KEY,
    due         BIGINT      NOT NULL,
    turn        BIGINT      NOT NULL,
    version     BIGINT      NOT NULL,
    looked_at   DATETIME(6) NULL,
    seen_at     DATETIME(6) NULL,
    duration_ms BIGINT      NOT NULL,
    error       MEDIUMTEXT  NOT NULL,
    INDEX looks_due (due),
    CONSTRAINT looks_region FOREIGN KEY (region) REFERENCES regions (name) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS looks;
