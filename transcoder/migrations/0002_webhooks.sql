-- Messages that somebody waits for. Written together with what they tell of, so that none is lost between the two.
CREATE TABLE webhooks (
    -- What the message is called, at every attempt.
    id       TEXT    NOT NULL PRIMARY KEY,
    job      TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    -- Whom the job names; nobody: whom the service tells anyway.
    url      TEXT,
    -- Once it was begun: so that it is the same at every attempt.
    body     TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    -- Nanoseconds since 1970.
    created  INTEGER NOT NULL,
    due      INTEGER NOT NULL
) STRICT;

CREATE INDEX webhooks_due ON webhooks (due);

CREATE TRIGGER webhooks_of_a_job AFTER UPDATE OF state ON jobs
WHEN NEW.state IN ('done', 'failed', 'cancelled') AND OLD.state NOT IN ('done', 'failed', 'cancelled')
BEGIN
    INSERT INTO webhooks (id, job, state, created, due)
        VALUES ('msg_' || lower(hex(randomblob(16))), NEW.id, NEW.state, NEW.updated, NEW.updated);
    INSERT INTO webhooks (id, job, state, url, created, due)
        SELECT 'msg_' || lower(hex(randomblob(16))), NEW.id, NEW.state, NEW.webhook, NEW.updated, NEW.updated
        WHERE NEW.webhook IS NOT NULL;
END;
