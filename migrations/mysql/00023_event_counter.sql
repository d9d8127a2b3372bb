-- +goose Up
-- One row: the id of the last event. Every transaction that adds some moves it at
-- its end and holds it until its commit, so ids are in the order of the commits.
CREATE TABLE IF NOT EXISTS event_counter (
    id   INT    NOT NULL PRIMARY KEY,
    last BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS event_counter;
