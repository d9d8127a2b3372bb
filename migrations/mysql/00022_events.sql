-- +goose Up
-- What has happened, for those who follow it. Lines are added with their change,
-- in its transaction, and dropped by age. id is taken from event_counter.
CREATE TABLE IF NOT EXISTS events (
    id      BIGINT       NOT NULL PRIMARY KEY,
    at      DATETIME(6)  NOT NULL,
    type    VARCHAR(32)  NOT NULL,
    flavor  VARCHAR(36)  NOT NULL,
    name    VARCHAR(255) NOT NULL,
    region  VARCHAR(64)  NOT NULL,
    created BOOLEAN      NOT NULL,
    message MEDIUMTEXT   NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS events;
