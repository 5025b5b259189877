-- Only TEXT and BIGINT, and what SQLite and PostgreSQL both understand: one set of migrations serves the two.

CREATE TABLE orders (
    id TEXT NOT NULL PRIMARY KEY,
    customer TEXT NOT NULL,
    order_key TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('placed', 'paid', 'shipped', 'cancelled')),
    total BIGINT NOT NULL CHECK (total >= 0),
    placed_at TEXT NOT NULL,
    -- Rises with every change; a writer that saw an older one changes nothing.
    version BIGINT NOT NULL,
    -- What makes placing twice the same as placing once.
    UNIQUE (customer, order_key)
);

-- For the listings, newest first.
CREATE INDEX orders_of_customer ON orders (customer, id);
CREATE INDEX orders_in_status ON orders (status, id);

CREATE TABLE order_items (
    order_id TEXT NOT NULL REFERENCES orders (id),
    line BIGINT NOT NULL,
    sku TEXT NOT NULL,
    count BIGINT NOT NULL,
    cents BIGINT NOT NULL,
    PRIMARY KEY (order_id, line)
);

-- An order's own history has no gaps: its version numbers it.
CREATE TABLE order_events (
    order_id TEXT NOT NULL REFERENCES orders (id),
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (order_id, version)
);
