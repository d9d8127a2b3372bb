-- +goose Up
-- The promoted flavors that a region's owner does not want there: nothing is
-- installed by itself where one is refused.
CREATE TABLE IF NOT EXISTS refusals (
    flavor_id  VARCHAR(36)  NOT NULL,
    region     VARCHAR(64)  NOT NULL,
    caller     VARCHAR(255) NOT NULL,
    refused_at DATETIME(6)  NOT NULL,
    PRIMARY KEY (flavor_id, region),
    CONSTRAINT refusals_flavor FOREIGN KEY (flavor_id) REFERENCES flavors (id) ON DELETE CASCADE,
    CONSTRAINT refusals_region FOREIGN KEY (region) REFERENCES regions (name) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS refusals;
