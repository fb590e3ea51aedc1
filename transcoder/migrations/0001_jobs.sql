-- Times are nanoseconds since 1970: what sorts as they do.
CREATE TABLE jobs (
    id           TEXT    NOT NULL PRIMARY KEY,
    uri          TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    version      TEXT    NOT NULL,
    bytes        INTEGER NOT NULL,
    modified     INTEGER NOT NULL,
    asset        TEXT    NOT NULL,
    profile      TEXT    NOT NULL,
    priority     INTEGER NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN
        ('queued', 'probing', 'encoding', 'publishing', 'done', 'failed', 'cancelled')),
    percent      REAL,
    seconds_left REAL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    -- How often the process ended under it, since it was asked for.
    crashes      INTEGER NOT NULL DEFAULT 0,
    -- Whether somebody retried it, and it did not come to an end since.
    retried      INTEGER NOT NULL DEFAULT 0,
    not_before   INTEGER NOT NULL,
    reason       TEXT,
    created      INTEGER NOT NULL,
    updated      INTEGER NOT NULL,
    generation   TEXT,
    outside      TEXT,
    webhook      TEXT
) STRICT;

CREATE INDEX jobs_of_a_state ON jobs (state, priority DESC, created);
CREATE INDEX jobs_of_an_asset ON jobs (asset, state);
CREATE INDEX jobs_of_an_upload ON jobs (uri, version);
CREATE INDEX jobs_by_age ON jobs (created);
CREATE INDEX jobs_of_outside ON jobs (outside) WHERE outside IS NOT NULL;
