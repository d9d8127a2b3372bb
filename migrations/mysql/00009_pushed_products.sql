-- +goose Up
-- As what UCloud's Core was told of a product last: its reference there, and the
-- whole of what was sent, as JSON.
CREATE TABLE IF NOT EXISTS pushed_products (
    flavor_id VARCHAR(36)  NOT NULL PRIMARY KEY,
    provider  VARCHAR(255) NOT NULL,
    category  VARCHAR(255) NOT NULL,
    name      VARCHAR(255) NOT NULL,
    sent      LONGTEXT     NOT NULL,
    CONSTRAINT pushed_products_flavor FOREIGN KEY (flavor_id) REFERENCES flavors (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS pushed_products;
