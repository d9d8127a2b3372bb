-- +goose Up
-- How the last push to each UCloud provider ended, and what comes next, as JSON.
CREATE TABLE push_states (
    provider TEXT NOT NULL PRIMARY KEY,
    state    TEXT NOT NULL
);

-- +goose Down
DROP TABLE push_states;
