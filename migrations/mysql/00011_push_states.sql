-- +goose Up
-- How the last push to each UCloud provider ended, and what comes next, as JSON.
CREATE TABLE IF NOT EXISTS push_states (
    provider VARCHAR(255) NOT NULL PRIMARY KEY,
    state    LONGTEXT     NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS push_states;
