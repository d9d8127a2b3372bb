-- +goose Up
-- What managers have said of promoted flavors as products. price is in millionths
-- of the currency, for one whole product each period; NULL: by the formula.
CREATE TABLE IF NOT EXISTS products (
    flavor_id    VARCHAR(36)   NOT NULL PRIMARY KEY,
    ended        BOOLEAN       NOT NULL,
    category     VARCHAR(64)   NOT NULL,
    price        BIGINT,
    currency     VARCHAR(3)    NOT NULL,
    period       VARCHAR(8)    NOT NULL,
    free         BOOLEAN       NOT NULL,
    hidden       BOOLEAN       NOT NULL,
    cpu_model    VARCHAR(128)  NOT NULL,
    memory_model VARCHAR(128)  NOT NULL,
    gpu_model    VARCHAR(128)  NOT NULL,
    description  VARCHAR(1000) NOT NULL,
    CONSTRAINT products_flavor FOREIGN KEY (flavor_id) REFERENCES flavors (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS products;
