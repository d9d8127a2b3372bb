-- +goose Up
-- One row: the id of the last event. Every transaction that adds some moves it at
-- its end and holds it until its commit, so ids are in the order of the commits.
CREATE TABLE event_counter (
    id   INTEGER NOT NULL PRIMARY KEY,
    last INTEGER NOT NULL
);

-- +goose Down
DROP TABLE event_counter;
