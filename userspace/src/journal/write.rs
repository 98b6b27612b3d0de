//! The statements that write.
//!
//! Opens no transaction of its own: what is written together is decided in `sqlite`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::example::{answers, example, example_bytes};
use super::{
    Answer, Answers, Example, ExperimentStart, JournalError, JournalLimits, PathRecord, RuleTotals, RunId,
    schema,
};
use crate::model::{Cause, Change, Comparison, IncomparableReason, Observation, Outcome, Timestamp};

/// What is known of an experiment that is being written; a copy of what the file holds.
#[derive(Debug)]
pub(super) struct ExperimentState {
    pub(super) id: i64,
    /// By cause: sizes of its examples, largest last.
    pub(super) causes: HashMap<String, Vec<u64>>,
    /// Bytes of the answers of all examples.
    pub(super) answers_bytes: u64,
}

/// What one batch adds to the counts.
#[derive(Default)]
pub(super) struct Additions {
    outcomes: BTreeMap<(i64, Arc<str>, &'static str, &'static str), u64>,
    rules: BTreeMap<(i64, Arc<str>), (u64, u64)>,
    causes: BTreeMap<(i64, Cause), CauseAddition>,
    pub(super) causes_omitted: BTreeMap<i64, u64>,
}

struct CauseAddition {
    route: Arc<str>,
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

// === impl Additions ===

impl Additions {
    pub(super) fn count(&mut self, experiment: i64, comparison: &Comparison) {
        let reason = comparison.outcome.reason().map_or("", IncomparableReason::label);
        let key = (experiment, Arc::clone(&comparison.route), comparison.outcome.label(), reason);
        *self.outcomes.entry(key).or_default() += 1;
        let hidden: &[(Arc<str>, u32)] = match &comparison.outcome {
            Outcome::Mismatch { differences: _, ignored, omitted: _ } | Outcome::Ignored(ignored) => ignored,
            Outcome::Match | Outcome::Incomparable(_) => &[],
        };
        for (rule, differences) in hidden {
            let counts = self.rules.entry((experiment, Arc::clone(rule))).or_default();
            counts.0 += 1;
            counts.1 += u64::from(*differences);
        }
    }

    pub(super) fn count_cause(&mut self, experiment: i64, cause: Cause, comparison: &Comparison) {
        let at = comparison.compared_at;
        let addition = self.causes.entry((experiment, cause)).or_insert_with(|| CauseAddition {
            route: Arc::clone(&comparison.route),
            count: 0,
            first: at,
            last: at,
        });
        addition.count += 1;
        addition.first = addition.first.min(at);
        addition.last = addition.last.max(at);
    }

    pub(super) fn write(&self, transaction: &Transaction<'_>) -> Result<(), JournalError> {
        self.write_counts(transaction)
            .map_err(|source| JournalError::write(place(transaction), "comparisons", source))?;
        for ((experiment, cause), addition) in &self.causes {
            addition.write(transaction, *experiment, cause)?;
        }
        Ok(())
    }

    fn write_counts(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let Self { outcomes, rules, causes: _, causes_omitted } = self;
        for ((experiment, route, outcome, reason), count) in outcomes {
            transaction
                .prepare_cached(
                    "INSERT INTO outcome (experiment, route, outcome, reason, count) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO UPDATE SET count = count + excluded.count",
                )?
                .execute(params![experiment, route, outcome, reason, integer(*count)])?;
        }
        for ((experiment, rule), (comparisons, differences)) in rules {
            insert_rule(transaction, *experiment, rule)?;
            transaction
                .prepare_cached(
                    "UPDATE rule SET comparisons = comparisons + ?3, differences = differences + ?4
                     WHERE experiment = ?1 AND position =
                         (SELECT min(position) FROM rule WHERE experiment = ?1 AND rule = ?2)",
                )?
                .execute(params![experiment, rule, integer(*comparisons), integer(*differences)])?;
        }
        for (experiment, count) in causes_omitted {
            transaction.execute(
                "UPDATE experiment SET causes_omitted = causes_omitted + ?2 WHERE id = ?1",
                params![experiment, integer(*count)],
            )?;
        }
        Ok(())
    }
}

// === impl CauseAddition ===

impl CauseAddition {
    fn write(
        &self,
        transaction: &Transaction<'_>,
        experiment: i64,
        cause: &Cause,
    ) -> Result<(), JournalError> {
        let Self { route, count, first, last } = self;
        let Cause { id, signature, changes } = cause;
        let stored = |change: &Change| {
            let Change { path, kind, classes } = change.clone();
            (path, kind, classes)
        };
        let changes: Vec<(String, String, Option<String>)> = changes.iter().map(stored).collect();
        let changes = serde_json::to_string(&changes)
            .map_err(|source| JournalError::Json { what: "the changes of a cause", source })?;
        transaction
            .prepare_cached(
                "INSERT INTO cause (experiment, id, route, signature, count, first_seen, last_seen, changes)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT DO UPDATE SET count = count + excluded.count,
                     first_seen = min(first_seen, excluded.first_seen),
                     last_seen = max(last_seen, excluded.last_seen)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    experiment,
                    id,
                    route,
                    signature,
                    integer(*count),
                    nanos(*first),
                    nanos(*last),
                    changes
                ])
            })
            .map_err(|source| JournalError::write(place(transaction), "a cause", source))?;
        Ok(())
    }
}

// === Statements ===

fn place(connection: &Connection) -> &Path {
    Path::new(connection.path().unwrap_or_default())
}

/// SQLite's integers are signed; counts and times beyond 2⁶³ do not occur.
pub(super) fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn nanos(at: Timestamp) -> i64 {
    integer(at.0)
}

pub(super) fn experiment_id(connection: &Connection, run: RunId, name: &str) -> Result<i64, JournalError> {
    connection
        .query_row("SELECT id FROM experiment WHERE run = ?1 AND name = ?2", params![run.0, name], |row| {
            row.get(0)
        })
        .optional()
        .map_err(|source| JournalError::read(connection, "an experiment", source))?
        .ok_or_else(|| JournalError::UnknownExperiment { run: run.0, experiment: name.to_owned() })
}

pub(super) fn known_state(connection: &Connection, experiment: i64) -> rusqlite::Result<ExperimentState> {
    let answers_bytes: i64 = connection
        .prepare_cached(
            "SELECT coalesce(sum(length(body) + length(headers)), 0) FROM answer WHERE experiment = ?1",
        )?
        .query_row([experiment], |row| row.get(0))?;
    let causes = known_causes(connection, experiment)?;
    Ok(ExperimentState { id: experiment, causes, answers_bytes: answers_bytes.max(0).cast_unsigned() })
}

fn known_causes(connection: &Connection, experiment: i64) -> rusqlite::Result<HashMap<String, Vec<u64>>> {
    let mut statement = connection.prepare_cached(
        "SELECT cause.id, example.bytes FROM cause
         LEFT JOIN example ON example.experiment = cause.experiment AND example.cause = cause.id
         WHERE cause.experiment = ?1 ORDER BY example.bytes",
    )?;
    let mut causes: HashMap<String, Vec<u64>> = HashMap::new();
    let rows = statement.query_map([experiment], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))?;
    for row in rows {
        let (cause, bytes) = row?;
        causes.entry(cause).or_default().extend(bytes.map(i64::cast_unsigned));
    }
    Ok(causes)
}

/// Makes a rule known that the run did not begin with.
fn insert_rule(connection: &Connection, experiment: i64, rule: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO rule (experiment, position, rule)
             SELECT ?1, coalesce((SELECT max(position) + 1 FROM rule WHERE experiment = ?1), 0), ?2
             WHERE NOT EXISTS (SELECT 1 FROM rule WHERE experiment = ?1 AND rule = ?2)",
        )?
        .execute(params![experiment, rule])?;
    Ok(())
}

pub(super) fn write_rule(
    connection: &Connection,
    experiment: i64,
    totals: &RuleTotals,
) -> rusqlite::Result<()> {
    let RuleTotals { rule, met, failed } = totals;
    insert_rule(connection, experiment, rule)?;
    connection
        .prepare_cached(
            "UPDATE rule SET met = ?3, failed = ?4 WHERE experiment = ?1 AND position =
                 (SELECT min(position) FROM rule WHERE experiment = ?1 AND rule = ?2)",
        )?
        .execute(params![experiment, rule, integer(*met), integer(*failed)])?;
    Ok(())
}

pub(super) fn insert_experiment(
    transaction: &Transaction<'_>,
    run: RunId,
    experiment: &ExperimentStart,
    routes: &str,
) -> rusqlite::Result<()> {
    let ExperimentStart { name, candidate, rules, policy, routes: _, context } = experiment;
    let context = serde_json::json!(context).to_string();
    transaction.execute(
        "INSERT INTO experiment (run, name, candidate, policy, routes, context)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![run.0, name, candidate, policy, routes, context],
    )?;
    let id = transaction.last_insert_rowid();
    for (position, rule) in rules.iter().enumerate() {
        transaction.execute(
            "INSERT INTO rule (experiment, position, rule) VALUES (?1, ?2, ?3)",
            params![id, integer(position as u64), rule],
        )?;
    }
    Ok(())
}

/// True when it was not there yet.
pub(super) fn insert_comparison(
    transaction: &Transaction<'_>,
    experiment: i64,
    comparison: &Comparison,
    cause: Option<&Cause>,
) -> rusqlite::Result<bool> {
    let Comparison { experiment: _, route, exchange, candidate, compared_at, outcome } = comparison;
    let reason = outcome.reason().map_or("", IncomparableReason::label);
    let micros = |time: Duration| integer(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    let (candidate_first_us, candidate_us) = match candidate {
        Observation::Answered { response: _, ttfb, served } => (Some(micros(*ttfb)), Some(micros(*served))),
        Observation::Failed(_) => (None, None),
    };
    let added = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO comparison
             (experiment, captured_at, exchange, route, method, outcome, reason, cause, at, control_us,
              candidate_us, control_first_us, candidate_first_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            experiment,
            nanos(exchange.times.request_first),
            exchange.id.to_string(),
            route,
            exchange.request.method_str(),
            outcome.label(),
            reason,
            cause.map(|cause| &cause.id),
            nanos(*compared_at),
            exchange.times.served().map(micros),
            candidate_us,
            exchange.times.ttfb().map(micros),
            candidate_first_us
        ])?;
    Ok(added > 0)
}

/// Keeps the mismatch as an example when there is room, or in place of a larger one.
pub(super) fn keep_example(
    transaction: &Transaction<'_>,
    limits: &JournalLimits,
    state: &mut ExperimentState,
    cause: &Cause,
    comparison: &Comparison,
) -> Result<(), JournalError> {
    let ExperimentState { id: experiment, causes, answers_bytes } = state;
    let kept = causes.entry(cause.id.clone()).or_default();
    let bytes = example_bytes(comparison);
    let is_full = kept.len() >= limits.examples_per_cause_max;
    if is_full && kept.last().is_none_or(|largest| *largest <= bytes) {
        return Ok(());
    }
    let Some(example) = example(comparison, &cause.id, limits) else { return Ok(()) };
    if is_full {
        let freed = remove_largest(transaction, *experiment, &cause.id)
            .map_err(|source| JournalError::write(place(transaction), "an example", source))?;
        *answers_bytes = answers_bytes.saturating_sub(freed);
        kept.pop();
    }
    insert_example(transaction, *experiment, &example)?;
    kept.insert(kept.partition_point(|have| *have <= bytes), bytes);
    let Answers { control, candidate } = answers(comparison, limits);
    let answers = [("a", control), ("b", candidate)];
    let size = answers.iter().filter_map(|(_, answer)| answer.as_ref()).map(Answer::bytes).sum::<u64>();
    if answers_bytes.saturating_add(size) > limits.answers_bytes_max {
        return Ok(());
    }
    *answers_bytes = answers_bytes.saturating_add(size);
    for (branch, answer) in answers {
        if let Some(answer) = answer {
            insert_answer(transaction, *experiment, &example, branch, &answer)?;
        }
    }
    Ok(())
}

/// Removes the largest example of a cause; says how many bytes its answers had.
fn remove_largest(transaction: &Transaction<'_>, experiment: i64, cause: &str) -> rusqlite::Result<u64> {
    let exchange: Option<String> = transaction
        .prepare_cached(
            "DELETE FROM example WHERE rowid = (SELECT rowid FROM example
             WHERE experiment = ?1 AND cause = ?2 ORDER BY bytes DESC LIMIT 1) RETURNING exchange",
        )?
        .query_row(params![experiment, cause], |row| row.get(0))
        .optional()?;
    let mut statement = transaction.prepare_cached(
        "DELETE FROM answer WHERE experiment = ?1 AND cause = ?2 AND exchange = ?3
         RETURNING length(body) + length(headers)",
    )?;
    statement
        .query_map(params![experiment, cause, exchange], |row| row.get::<_, i64>(0))?
        .try_fold(0_u64, |sum, bytes| bytes.map(|bytes| sum.saturating_add(bytes.max(0).cast_unsigned())))
}

fn insert_example(
    transaction: &Transaction<'_>,
    experiment: i64,
    example: &Example,
) -> Result<(), JournalError> {
    let encoded = |source| JournalError::Json { what: "an example", source };
    let headers = serde_json::to_string(&example.headers).map_err(encoded)?;
    let differences = serde_json::to_string(&example.differences).map_err(encoded)?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO example
             (experiment, cause, exchange, bytes, method, target, headers, headers_omitted, body, body_bytes,
              control_status, candidate_status, differences, differences_omitted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                experiment,
                example.cause,
                example.exchange,
                integer(example.bytes),
                example.method,
                example.target,
                headers,
                integer(example.headers_omitted),
                example.body,
                integer(example.body_bytes),
                example.control_status,
                example.candidate_status,
                differences,
                integer(example.differences_omitted)
            ])
        })
        .map_err(|source| JournalError::write(place(transaction), "an example", source))?;
    Ok(())
}

fn insert_answer(
    transaction: &Transaction<'_>,
    experiment: i64,
    example: &Example,
    branch: &str,
    answer: &Answer,
) -> Result<(), JournalError> {
    let Answer { status, headers, headers_omitted, body, body_bytes } = answer;
    let headers =
        serde_json::to_string(headers).map_err(|source| JournalError::Json { what: "an answer", source })?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO answer
             (experiment, cause, exchange, branch, status, headers, headers_omitted, body, body_bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                experiment,
                example.cause,
                example.exchange,
                branch,
                status,
                headers,
                integer(*headers_omitted),
                body,
                integer(*body_bytes)
            ])
        })
        .map_err(|source| JournalError::write(place(transaction), "an answer", source))?;
    Ok(())
}

pub(super) fn insert_paths(
    transaction: &Transaction<'_>,
    experiment: i64,
    paths: &[PathRecord],
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO path (experiment, route, path, state, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for PathRecord { route, path, state, detail } in paths {
        statement.execute(params![experiment, route, path, state, detail])?;
    }
    Ok(())
}

/// Removes the oldest comparisons once there are a tenth more than the limit, so that it happens seldom.
pub(super) fn remove_old(
    transaction: &Transaction<'_>,
    run: RunId,
    comparisons_max: u64,
) -> rusqlite::Result<()> {
    // Rows get ascending ids and only the oldest go, so the ids tell the number without counting.
    let (first, last): (i64, i64) = transaction
        .prepare_cached(
            // Apart, since SQLite scans the table for a minimum and a maximum asked for at once.
            "SELECT coalesce((SELECT min(id) FROM comparison), 0), coalesce((SELECT max(id) FROM comparison), -1)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let kept = last.saturating_sub(first).saturating_add(1);
    let most = integer(comparisons_max);
    if kept <= most.saturating_add(most / 10) {
        return Ok(());
    }
    let removed =
        transaction.execute("DELETE FROM comparison WHERE id <= ?1", [last.saturating_sub(most)])?;
    transaction.execute(
        "UPDATE run SET comparisons_removed = comparisons_removed + ?2 WHERE id = ?1",
        params![run.0, integer(removed as u64)],
    )?;
    Ok(())
}

pub(super) fn remove_runs(transaction: &Transaction<'_>, runs_max: u64) -> rusqlite::Result<()> {
    let Some(newest_to_go): Option<i64> = transaction
        .query_row("SELECT id FROM run ORDER BY id DESC LIMIT 1 OFFSET ?1", [integer(runs_max)], |row| {
            row.get(0)
        })
        .optional()?
    else {
        return Ok(());
    };
    for table in schema::OF_EXPERIMENT {
        transaction.execute(
            &format!("DELETE FROM {table} WHERE experiment IN (SELECT id FROM experiment WHERE run <= ?1)"),
            [newest_to_go],
        )?;
    }
    transaction.execute("DELETE FROM experiment WHERE run <= ?1", [newest_to_go])?;
    transaction.execute("DELETE FROM run WHERE id <= ?1", [newest_to_go])?;
    Ok(())
}
