//! The tables of the journal.
//!
//! Holds no query. A change here needs a new version and a step that brings old files up to it.

/// Value of `PRAGMA user_version` that belongs to [`TABLES`].
pub(super) const VERSION: i64 = 5;

/// The tables that came with version 3; files of older programs get the same ones.
macro_rules! tables_since_3 {
    () => {
        "
    -- What both branches answered in an example, as it was on the wire.
    CREATE TABLE answer (
        experiment INTEGER NOT NULL,
        cause TEXT NOT NULL,
        exchange TEXT NOT NULL,
        branch TEXT NOT NULL,                             -- a or b
        status INTEGER NOT NULL,
        headers TEXT NOT NULL,                            -- JSON: [[name, value]]
        headers_omitted INTEGER NOT NULL,
        body BLOB NOT NULL,
        body_bytes INTEGER NOT NULL,
        PRIMARY KEY (experiment, cause, exchange, branch)
    ) STRICT;
    -- What is known about the noise of a path.
    CREATE TABLE path (
        experiment INTEGER NOT NULL,
        route TEXT NOT NULL,
        path TEXT NOT NULL,
        state TEXT NOT NULL,
        detail TEXT NOT NULL,                             -- JSON
        PRIMARY KEY (experiment, route, path)
    ) STRICT, WITHOUT ROWID;
"
    };
}

/// Times are nanoseconds since 1970, UTC. `experiment` in other tables is `experiment.id`.
pub(super) const TABLES: &str = concat!(
    "
    -- One use of `understudy run` or `replay`.
    CREATE TABLE run (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        started_at INTEGER NOT NULL,
        ended_at INTEGER,
        version TEXT NOT NULL,
        summary TEXT NOT NULL,
        ports TEXT NOT NULL,                              -- JSON: [8080]
        comparisons_removed INTEGER NOT NULL DEFAULT 0,
        paused_ms INTEGER NOT NULL DEFAULT 0              -- what all pauses took
    ) STRICT;
    CREATE TABLE experiment (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL,
        name TEXT NOT NULL,
        candidate TEXT NOT NULL,
        policy TEXT NOT NULL,
        seen INTEGER NOT NULL DEFAULT 0,
        in_flight INTEGER NOT NULL DEFAULT 0,
        causes_omitted INTEGER NOT NULL DEFAULT 0,
        stopped TEXT,                                     -- why it ended before its run; else null
        routes TEXT NOT NULL DEFAULT '[]',                -- JSON: [\"/items/{id}\"], the configured ones
        context TEXT NOT NULL DEFAULT '{}',               -- JSON: {label: value}
        UNIQUE (run, name)
    ) STRICT;
    -- Exchanges by how they left the pipeline.
    CREATE TABLE fate (
        experiment INTEGER NOT NULL,
        position INTEGER NOT NULL,
        fate TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (experiment, position)
    ) STRICT, WITHOUT ROWID;
    -- The newest comparisons, one row each.
    CREATE TABLE comparison (
        id INTEGER PRIMARY KEY,
        experiment INTEGER NOT NULL,
        captured_at INTEGER NOT NULL,                     -- first byte of the request
        exchange TEXT NOT NULL,
        route TEXT NOT NULL,
        method TEXT NOT NULL,
        outcome TEXT NOT NULL,
        reason TEXT NOT NULL,                             -- why incomparable; else empty
        cause TEXT,                                       -- cause.id of a mismatch
        at INTEGER NOT NULL,                              -- when it was compared
        control_us INTEGER,                               -- last request byte to last response byte
        candidate_us INTEGER,
        control_first_us INTEGER,                         -- last request byte to first response byte
        candidate_first_us INTEGER,
        -- Ids are hashes: with the time in front, rows that come together lie together in this index.
        UNIQUE (experiment, captured_at, exchange)
    ) STRICT;
    -- All comparisons, counted.
    CREATE TABLE outcome (
        experiment INTEGER NOT NULL,
        route TEXT NOT NULL,
        outcome TEXT NOT NULL,
        reason TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (experiment, route, outcome, reason)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE cause (
        experiment INTEGER NOT NULL,
        id TEXT NOT NULL,
        route TEXT NOT NULL,
        signature TEXT NOT NULL,
        count INTEGER NOT NULL,
        first_seen INTEGER NOT NULL,
        last_seen INTEGER NOT NULL,
        changes TEXT NOT NULL DEFAULT '[]',               -- JSON: [[path, kind, classes or null]]
        PRIMARY KEY (experiment, id)
    ) STRICT, WITHOUT ROWID;
    -- The smallest requests that show a cause.
    CREATE TABLE example (
        experiment INTEGER NOT NULL,
        cause TEXT NOT NULL,
        exchange TEXT NOT NULL,
        bytes INTEGER NOT NULL,                           -- size of the request and both answers
        method TEXT NOT NULL,
        target TEXT NOT NULL,
        headers TEXT NOT NULL,                            -- JSON: [[name, value]]
        headers_omitted INTEGER NOT NULL,
        body BLOB NOT NULL,
        body_bytes INTEGER NOT NULL,
        control_status INTEGER NOT NULL,
        candidate_status INTEGER NOT NULL,
        differences TEXT NOT NULL,                        -- JSON: [{path, kind, place, control, candidate}]
        differences_omitted INTEGER NOT NULL,
        PRIMARY KEY (experiment, cause, exchange)
    ) STRICT;
    -- What each rule hid, also those that hid nothing.
    CREATE TABLE rule (
        experiment INTEGER NOT NULL,
        position INTEGER NOT NULL,
        rule TEXT NOT NULL,
        comparisons INTEGER NOT NULL DEFAULT 0,
        differences INTEGER NOT NULL DEFAULT 0,
        met INTEGER NOT NULL DEFAULT 0,                   -- differences at its place, hidden or not
        failed INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (experiment, position)
    ) STRICT, WITHOUT ROWID;
",
    tables_since_3!(),
    "PRAGMA user_version = 5;"
);

/// Brings a file of version `index + 1` up to the next.
pub(super) const STEPS: [&str; 4] = [
    "ALTER TABLE experiment ADD COLUMN stopped TEXT; PRAGMA user_version = 2;",
    concat!(
        "ALTER TABLE experiment ADD COLUMN routes TEXT NOT NULL DEFAULT '[]';
         ALTER TABLE experiment ADD COLUMN context TEXT NOT NULL DEFAULT '{}';
         ALTER TABLE rule ADD COLUMN met INTEGER NOT NULL DEFAULT 0;
         ALTER TABLE rule ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
         ALTER TABLE cause ADD COLUMN changes TEXT NOT NULL DEFAULT '[]';",
        tables_since_3!(),
        "PRAGMA user_version = 3;"
    ),
    "ALTER TABLE comparison ADD COLUMN control_first_us INTEGER;
     ALTER TABLE comparison ADD COLUMN candidate_first_us INTEGER;
     PRAGMA user_version = 4;",
    "ALTER TABLE run ADD COLUMN paused_ms INTEGER NOT NULL DEFAULT 0; PRAGMA user_version = 5;",
];

/// The tables whose rows belong to an experiment.
pub(super) const OF_EXPERIMENT: [&str; 8] =
    ["fate", "comparison", "outcome", "cause", "example", "answer", "path", "rule"];
