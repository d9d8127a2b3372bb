-- +goose Up
-- The flavors that each region had when it was last seen, as JSON.
CREATE TABLE IF NOT EXISTS inventory (
    region  VARCHAR(64) NOT NULL PRIMARY KEY,
    flavors LONGTEXT    NOT NULL,
    CONSTRAINT inventory_region FOREIGN KEY (region) REFERENCES regions (name) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS inventory;
