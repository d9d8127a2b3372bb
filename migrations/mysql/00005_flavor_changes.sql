-- +goose Up
-- The intent of every careful change of a flavor that is under way.
CREATE TABLE IF NOT EXISTS flavor_changes (
    id         VARCHAR(36)  NOT NULL PRIMARY KEY,
    region     VARCHAR(64)  NOT NULL,
    flavor_id  VARCHAR(255) NOT NULL,
    temp_id    VARCHAR(255) NOT NULL,
    old_flavor LONGTEXT     NOT NULL,
    new_flavor LONGTEXT     NOT NULL,
    access     LONGTEXT     NOT NULL,
    owner      VARCHAR(255) NOT NULL,
    deadline   DATETIME(6)  NOT NULL,
    created_at DATETIME(6)  NOT NULL,
    CONSTRAINT flavor_changes_flavor UNIQUE (region, flavor_id),
    CONSTRAINT flavor_changes_region FOREIGN KEY (region) REFERENCES regions (name) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS flavor_changes;
