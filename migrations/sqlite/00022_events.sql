-- +goose Up
-- What has happened, for those who follow it. Lines are added with their change,
-- in its transaction, and dropped by age. id is taken from event_counter.
CREATE TABLE events (
    id      INTEGER  NOT NULL PRIMARY KEY,
    at      DATETIME NOT NULL,
    type    TEXT     NOT NULL,
    flavor  TEXT     NOT NULL,
    name    TEXT     NOT NULL,
    region  TEXT     NOT NULL,
    created BOOLEAN  NOT NULL,
    message TEXT     NOT NULL
);

-- +goose Down
DROP TABLE events;
