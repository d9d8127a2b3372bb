-- +goose Up
-- One region of an operation. A process takes it by counting attempts up where
-- nobody else has since, until due (milliseconds since 1970 of the database's
-- clock), and writes what came of it where attempts is still what it made it.
CREATE TABLE IF NOT EXISTS operation_nodes (
    operation_id VARCHAR(36) NOT NULL,
    region       VARCHAR(64) NOT NULL,
    state        VARCHAR(16) NOT NULL,
    attempts     INT         NOT NULL,
    due          BIGINT      NOT NULL,
    input        VARCHAR(64) NOT NULL,
    last_error   MEDIUMTEXT  NOT NULL,
    updated_at   DATETIME(6) NOT NULL,
    PRIMARY KEY (operation_id, region),
    INDEX operation_nodes_due (state, due),
    INDEX operation_nodes_region (region, state),
    CONSTRAINT operation_nodes_operation FOREIGN KEY (operation_id) REFERENCES operations (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS operation_nodes;
