-- +goose Up
-- The nodes that somebody deleted or altered behind our back: under which id the
-- node was, and whether we had created it.
CREATE TABLE IF NOT EXISTS drift (
    flavor_id VARCHAR(36)  NOT NULL,
    region    VARCHAR(64)  NOT NULL,
    kind      VARCHAR(16)  NOT NULL,
    node_id   VARCHAR(255) NOT NULL,
    created   BOOLEAN      NOT NULL,
    found_at  DATETIME(6)  NOT NULL,
    PRIMARY KEY (flavor_id, region),
    CONSTRAINT drift_flavor FOREIGN KEY (flavor_id) REFERENCES flavors (id) ON DELETE CASCADE,
    CONSTRAINT drift_region FOREIGN KEY (region) REFERENCES regions (name) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS drift;
