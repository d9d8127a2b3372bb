-- +goose Up
-- The promoted flavors that a region's owner does not want there: nothing is
-- installed by itself where one is refused.
CREATE TABLE refusals (
    flavor_id  TEXT     NOT NULL REFERENCES flavors (id) ON DELETE CASCADE,
    region     TEXT     NOT NULL REFERENCES regions (name) ON DELETE CASCADE,
    caller     TEXT     NOT NULL,
    refused_at DATETIME NOT NULL,
    PRIMARY KEY (flavor_id, region)
);

-- +goose Down
DROP TABLE refusals;
