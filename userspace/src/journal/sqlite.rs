//! The journal as an SQLite file.
//!
//! Never waits for readers: the file is in WAL mode, so a report reads while a run writes.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};

use super::write::{
    Additions, ExperimentState, experiment_id, insert_comparison, insert_experiment, insert_paths, integer,
    keep_example, known_state, nanos, remove_old, remove_runs, write_rule,
};
use super::{
    Answers, CauseOf, Example, Journal, JournalError, JournalLimits, PathRecord, RuleTotals, RunId,
    RunRecord, RunStart, read, schema,
};
use crate::model::{Comparison, LedgerSnapshot, Timestamp};

/// How long a statement waits for another process that writes to the same file.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// A journal in one SQLite file, or in memory.
#[derive(Debug)]
pub struct SqliteJournal {
    pub(super) connection: Connection,
    limits: JournalLimits,
    cause_of: CauseOf,
    /// What is known of the experiments being written; a copy of what the file holds.
    experiments: HashMap<(RunId, Arc<str>), ExperimentState>,
    place: Place,
}

/// Where the file was when it was opened.
#[derive(Debug)]
struct Place {
    /// With all folders; empty in memory.
    path: PathBuf,
    /// Device and number of the file; none in memory.
    file: Option<(u64, u64)>,
}

// === impl Place ===

impl Place {
    fn of(connection: &Connection) -> Self {
        let path = PathBuf::from(connection.path().unwrap_or_default());
        let file = Self::look(&path);
        Self { path, file }
    }

    fn look(path: &Path) -> Option<(u64, u64)> {
        std::fs::metadata(path).ok().map(|facts| (facts.dev(), facts.ino()))
    }

    /// SQLite writes on to a file that was removed (unlink(2)) as if nobody had.
    fn check(&self) -> Result<(), JournalError> {
        let Self { path, file } = self;
        if file.is_some() && Self::look(path) != *file {
            return Err(JournalError::Gone { path: path.clone() });
        }
        Ok(())
    }
}

// === impl SqliteJournal ===

impl SqliteJournal {
    /// Opens the journal at `path`; makes it, readable by its owner alone, when it is not there.
    ///
    /// # Errors
    /// When the file cannot be made or opened, is no journal, or was written by a newer program.
    pub fn open(path: &Path, limits: JournalLimits, cause_of: CauseOf) -> Result<Self, JournalError> {
        // SQLite gives its side files the mode of the main file, so making that first covers all of them.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(JournalError::Create { path: path.to_owned(), source }),
        }
        let journal = Self::open_existing(path, limits, cause_of)?;
        // SQLite opens what it cannot write for reading, and says so only when it is to write.
        match journal.connection.is_readonly("main") {
            Ok(false) => Ok(journal),
            Ok(true) => Err(JournalError::ReadOnly { path: path.to_owned() }),
            Err(source) => Err(JournalError::Open { path: path.to_owned(), source }),
        }
    }

    /// Opens the journal at `path`, which must be there.
    ///
    /// # Errors
    /// As for [`SqliteJournal::open`].
    pub fn open_existing(
        path: &Path,
        limits: JournalLimits,
        cause_of: CauseOf,
    ) -> Result<Self, JournalError> {
        if !path.exists() {
            return Err(JournalError::Missing { path: path.to_owned() });
        }
        // SQLite says no more than that it cannot open the file; the system knows why not. It is asked after a
        // failure only, because closing a file gives up the locks that SQLite has on it in this process.
        let opened = |source| match OpenOptions::new().read(true).open(path) {
            Ok(_) => JournalError::Open { path: path.to_owned(), source },
            Err(source) => JournalError::Access { path: path.to_owned(), source },
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::prepare(Connection::open_with_flags(path, flags).map_err(opened)?, path, limits, cause_of)
    }

    /// A journal that ends with the process.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn in_memory(limits: JournalLimits, cause_of: CauseOf) -> Result<Self, JournalError> {
        let path = PathBuf::from(":memory:");
        let opened = |source| JournalError::Open { path: path.clone(), source };
        Self::prepare(Connection::open_in_memory().map_err(opened)?, &path, limits, cause_of)
    }

    fn prepare(
        mut connection: Connection,
        path: &Path,
        limits: JournalLimits,
        cause_of: CauseOf,
    ) -> Result<Self, JournalError> {
        let opened = |source| JournalError::Open { path: path.to_owned(), source };
        connection.busy_timeout(BUSY_WAIT).map_err(opened)?;
        connection.set_prepared_statement_cache_capacity(32);
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(opened)?;
        if found > schema::VERSION {
            return Err(JournalError::TooNew { path: path.to_owned(), found, known: schema::VERSION });
        }
        let _mode: String =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(opened)?;
        // With WAL this loses the last batches on a power failure, never the file.
        connection.execute_batch("PRAGMA synchronous = NORMAL").map_err(opened)?;
        if found < schema::VERSION {
            Self::make_tables(&mut connection).map_err(opened)?;
        }
        let place = Place::of(&connection);
        Ok(Self { connection, limits, cause_of, experiments: HashMap::new(), place })
    }

    /// Makes the tables, or brings those of an older program up to date, unless another process did in the meantime.
    pub(super) fn make_tables(connection: &mut Connection) -> rusqlite::Result<()> {
        let transaction = write_transaction(connection)?;
        let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found == 0 {
            transaction.execute_batch(schema::TABLES)?;
        } else {
            let done = usize::try_from(found - 1).unwrap_or_default();
            for step in schema::STEPS.into_iter().skip(done) {
                transaction.execute_batch(step)?;
            }
        }
        transaction.commit()
    }

    /// The known state of an experiment; read from the file on first use.
    fn state<'a>(
        connection: &Connection,
        experiments: &'a mut HashMap<(RunId, Arc<str>), ExperimentState>,
        run: RunId,
        name: &Arc<str>,
    ) -> Result<&'a mut ExperimentState, JournalError> {
        use std::collections::hash_map::Entry;
        match experiments.entry((run, Arc::clone(name))) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let id = experiment_id(connection, run, name)?;
                let state = known_state(connection, id)
                    .map_err(|source| JournalError::read(connection, "causes", source))?;
                Ok(unknown.insert(state))
            }
        }
    }

    fn record_batch(&mut self, run: RunId, batch: &[Comparison]) -> Result<(), JournalError> {
        self.place.check()?;
        let written = |source| JournalError::write(&self.place.path, "comparisons", source);
        let transaction = write_transaction(&mut self.connection).map_err(written)?;
        let mut additions = Additions::default();
        for comparison in batch {
            let state = Self::state(&transaction, &mut self.experiments, run, &comparison.experiment)?;
            let cause = (self.cause_of)(comparison);
            if !insert_comparison(&transaction, state.id, comparison, cause.as_ref()).map_err(written)? {
                continue;
            }
            additions.count(state.id, comparison);
            let Some(cause) = cause else { continue };
            if !state.causes.contains_key(&cause.id) && state.causes.len() >= self.limits.causes_max {
                *additions.causes_omitted.entry(state.id).or_default() += 1;
                continue;
            }
            keep_example(&transaction, &self.limits, state, &cause, comparison)?;
            additions.count_cause(state.id, cause, comparison);
        }
        additions.write(&transaction)?;
        remove_old(&transaction, run, self.limits.comparisons_max).map_err(written)?;
        transaction.commit().map_err(written)
    }
}

/// Begins by taking the lock for writing. A transaction that reads first and writes later fails at once, without
/// [`BUSY_WAIT`], when another process wrote in between (SQLITE_BUSY_SNAPSHOT, sqlite.org/rescode.html).
fn write_transaction(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

impl Journal for SqliteJournal {
    fn begin(&mut self, run: &RunStart) -> Result<RunId, JournalError> {
        let RunStart { started_at, version, summary, ports, experiments } = run;
        let written = |source| JournalError::write(&self.place.path, "a run", source);
        let ports = serde_json::to_string(ports)
            .map_err(|source| JournalError::Json { what: "the list of ports", source })?;
        let transaction = write_transaction(&mut self.connection).map_err(written)?;
        transaction
            .execute(
                "INSERT INTO run (started_at, version, summary, ports) VALUES (?1, ?2, ?3, ?4)",
                params![nanos(*started_at), version, summary, ports],
            )
            .map_err(written)?;
        let id = RunId(transaction.last_insert_rowid());
        for experiment in experiments {
            let routes: Vec<&str> = experiment.routes.iter().map(|route| &**route).collect();
            let routes = serde_json::to_string(&routes)
                .map_err(|source| JournalError::Json { what: "the list of routes", source })?;
            insert_experiment(&transaction, id, experiment, &routes).map_err(written)?;
        }
        remove_runs(&transaction, self.limits.runs_max).map_err(written)?;
        transaction.commit().map_err(written)?;
        Ok(id)
    }

    fn record(&mut self, run: RunId, batch: &[Comparison]) -> Result<(), JournalError> {
        let recorded = self.record_batch(run, batch);
        if recorded.is_err() {
            // The file went back to where it was; the copy must not be ahead of it.
            self.experiments.clear();
        }
        recorded
    }

    fn record_ledger(
        &mut self,
        run: RunId,
        experiment: &str,
        ledger: &LedgerSnapshot,
    ) -> Result<(), JournalError> {
        let LedgerSnapshot { seen, in_flight, fates } = ledger;
        self.place.check()?;
        let written = |source| JournalError::write(&self.place.path, "a ledger", source);
        let id = experiment_id(&self.connection, run, experiment)?;
        let transaction = write_transaction(&mut self.connection).map_err(written)?;
        transaction
            .execute(
                "UPDATE experiment SET seen = ?2, in_flight = ?3 WHERE id = ?1",
                params![id, integer(*seen), integer(*in_flight)],
            )
            .map_err(written)?;
        for (position, (fate, count)) in fates.iter().enumerate() {
            transaction
                .execute(
                    "INSERT OR REPLACE INTO fate (experiment, position, fate, count) VALUES (?1, ?2, ?3, ?4)",
                    params![id, integer(position as u64), fate.label(), integer(*count)],
                )
                .map_err(written)?;
        }
        transaction.commit().map_err(written)
    }

    fn record_paths(
        &mut self,
        run: RunId,
        experiment: &str,
        paths: &[PathRecord],
    ) -> Result<(), JournalError> {
        let written = |source| JournalError::write(&self.place.path, "paths", source);
        let id = experiment_id(&self.connection, run, experiment)?;
        let transaction = write_transaction(&mut self.connection).map_err(written)?;
        insert_paths(&transaction, id, paths).map_err(written)?;
        transaction.commit().map_err(written)
    }

    fn record_rules(
        &mut self,
        run: RunId,
        experiment: &str,
        rules: &[RuleTotals],
    ) -> Result<(), JournalError> {
        let written = |source| JournalError::write(&self.place.path, "what rules met", source);
        let id = experiment_id(&self.connection, run, experiment)?;
        let transaction = write_transaction(&mut self.connection).map_err(written)?;
        for totals in rules {
            write_rule(&transaction, id, totals).map_err(written)?;
        }
        transaction.commit().map_err(written)
    }

    fn stop_experiment(&mut self, run: RunId, experiment: &str, why: &str) -> Result<(), JournalError> {
        let id = experiment_id(&self.connection, run, experiment)?;
        self.connection
            .execute("UPDATE experiment SET stopped = ?2 WHERE id = ?1", params![id, why])
            .map_err(|source| JournalError::write(&self.place.path, "the end of an experiment", source))?;
        Ok(())
    }

    fn note_pauses(&mut self, run: RunId, paused: std::time::Duration) -> Result<(), JournalError> {
        let paused_ms = i64::try_from(paused.as_millis()).unwrap_or(i64::MAX);
        self.connection
            .execute("UPDATE run SET paused_ms = ?2 WHERE id = ?1", params![run.0, paused_ms])
            .map_err(|source| JournalError::write(&self.place.path, "the pauses of a run", source))?;
        Ok(())
    }

    fn finish(&mut self, run: RunId, ended_at: Timestamp) -> Result<(), JournalError> {
        let written = |source| JournalError::write(&self.place.path, "the end of a run", source);
        self.experiments.retain(|(of, _), _| *of != run);
        self.connection
            .execute("UPDATE run SET ended_at = ?2 WHERE id = ?1", params![run.0, nanos(ended_at)])
            .map_err(written)?;
        Ok(())
    }

    fn read(&self, run: Option<RunId>) -> Result<Option<RunRecord>, JournalError> {
        read::run(&self.connection, run)
    }

    fn answers(&self, run: RunId, experiment: &str, example: &Example) -> Result<Answers, JournalError> {
        let id = experiment_id(&self.connection, run, experiment)?;
        read::answers(&self.connection, id, example)
    }
}
