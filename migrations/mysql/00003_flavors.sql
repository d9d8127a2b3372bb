-- +goose Up
-- The catalogue: public flavors only. ram and swap in MiB, disk and ephemeral in GB.
CREATE TABLE IF NOT EXISTS flavors (
    id          VARCHAR(36)  NOT NULL PRIMARY KEY,
    name        VARCHAR(255) NOT NULL,
    vcpus       INT          NOT NULL,
    ram         INT          NOT NULL,
    disk        INT          NOT NULL,
    swap        INT          NOT NULL,
    ephemeral   INT          NOT NULL,
    rxtx_factor DOUBLE       NOT NULL,
    description MEDIUMTEXT   NOT NULL,
    extra_specs LONGTEXT     NOT NULL,
    promoted    BOOLEAN      NOT NULL,
    retired     BOOLEAN      NOT NULL,
    CONSTRAINT flavors_name UNIQUE (name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS flavors;
