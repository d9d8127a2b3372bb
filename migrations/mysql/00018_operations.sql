-- +goose Up
-- What is wanted of the regions: written down before any of them is called. An
-- operation outlives its flavor and its regions, so that it can still be read.
CREATE TABLE IF NOT EXISTS operations (
    id         VARCHAR(36)  NOT NULL PRIMARY KEY,
    kind       VARCHAR(16)  NOT NULL,
    origin     VARCHAR(16)  NOT NULL,
    flavor_id  VARCHAR(36)  NOT NULL,
    name       VARCHAR(255) NOT NULL,
    provider   VARCHAR(255) NOT NULL,
    caller     VARCHAR(255) NOT NULL,
    state      VARCHAR(16)  NOT NULL,
    turn       BIGINT       NOT NULL,
    created_at DATETIME(6)  NOT NULL,
    updated_at DATETIME(6)  NOT NULL,
    INDEX operations_state (state, updated_at),
    INDEX operations_flavor (flavor_id, origin)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS operations;
