-- +goose Up
-- How far each webhook has been told the events, and how its next call stands.
CREATE TABLE webhooks (
    name         TEXT    NOT NULL PRIMARY KEY,
    position     INTEGER NOT NULL, -- the id of the last event that it has taken, or that is not for it
    attempts     INTEGER NOT NULL, -- that have failed since it took one
    next_attempt INTEGER NOT NULL, -- ms since 1970, by the clock of who tried
    last_error   TEXT    NOT NULL  -- of the last attempt, "" where it went well
);

-- +goose Down
DROP TABLE webhooks;
