-- +goose Up
-- Which region has which flavor of the catalogue, under which id of its Nova.
CREATE TABLE IF NOT EXISTS installations (
    flavor_id VARCHAR(36)  NOT NULL,
    region    VARCHAR(64)  NOT NULL,
    node_id   VARCHAR(255) NOT NULL,
    created   BOOLEAN      NOT NULL,
    PRIMARY KEY (flavor_id, region),
    CONSTRAINT installations_flavor FOREIGN KEY (flavor_id) REFERENCES flavors (id) ON DELETE CASCADE,
    CONSTRAINT installations_region FOREIGN KEY (region) REFERENCES regions (name) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS installations;
