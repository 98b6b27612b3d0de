//! The queries that a report needs.
//!
//! Writes nothing, and reads no more than the journal's limits let in.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Answer, Answers, CauseRecord, Example, ExperimentRecord, JournalError, LatencyRow, OutcomeCount,
    PathRecord, RuleCount, RunId, RunRecord,
};
use crate::model::{Change, Timestamp};

/// One run with all that belongs to it.
pub(super) fn run(connection: &Connection, run: Option<RunId>) -> Result<Option<RunRecord>, JournalError> {
    // One transaction, so that the parts fit together while a run writes.
    let read = |source| JournalError::read(connection, "a run", source);
    let snapshot = connection.unchecked_transaction().map_err(read)?;
    let found = snapshot
        .query_row(
            "SELECT id, started_at, ended_at, version, summary, ports, comparisons_removed, paused_ms FROM run
             WHERE id = coalesce(?1, (SELECT max(id) FROM run))",
            [run.map(|run| run.0)],
            |row| {
                let ports: String = row.get(5)?;
                let record = RunRecord {
                    id: RunId(row.get(0)?),
                    started_at: time(row, 1)?,
                    ended_at: row.get::<_, Option<i64>>(2)?.map(|at| Timestamp(at.cast_unsigned())),
                    version: row.get(3)?,
                    summary: row.get(4)?,
                    ports: Vec::new(),
                    comparisons_removed: count(row, 6)?,
                    paused: std::time::Duration::from_millis(count(row, 7)?),
                    experiments: Vec::new(),
                };
                Ok((record, ports))
            },
        )
        .optional()
        .map_err(read)?;
    let Some((mut record, ports)) = found else { return Ok(None) };
    record.ports = json("the list of ports", &ports)?;
    record.experiments = experiments(&snapshot, record.id)?;
    Ok(Some(record))
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.max(0).cast_unsigned())
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    count(row, column).map(Timestamp)
}

fn json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T, JournalError> {
    serde_json::from_str(text).map_err(|source| JournalError::Json { what, source })
}

fn all<T>(
    connection: &Connection,
    what: &'static str,
    sql: &str,
    parameters: impl rusqlite::Params,
    of_row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, JournalError> {
    let read = |source| JournalError::read(connection, what, source);
    let mut statement = connection.prepare_cached(sql).map_err(read)?;
    let rows = statement.query_map(parameters, of_row).map_err(read)?;
    rows.collect::<rusqlite::Result<Vec<T>>>().map_err(read)
}

fn experiments(connection: &Connection, run: RunId) -> Result<Vec<ExperimentRecord>, JournalError> {
    let sql = "SELECT id, name, candidate, policy, seen, in_flight, causes_omitted, stopped, routes, context
               FROM experiment
               WHERE run = ?1 ORDER BY id";
    let rows = all(connection, "experiments", sql, [run.0], |row| {
        let record = ExperimentRecord {
            name: row.get(1)?,
            candidate: row.get(2)?,
            policy: row.get(3)?,
            seen: count(row, 4)?,
            in_flight: count(row, 5)?,
            stopped: row.get(7)?,
            context: BTreeMap::new(),
            fates: Vec::new(),
            outcomes: Vec::new(),
            causes: Vec::new(),
            causes_omitted: count(row, 6)?,
            rules: Vec::new(),
            latencies: Vec::new(),
            routes: Vec::new(),
            paths: Vec::new(),
        };
        Ok((row.get(0)?, record, row.get::<_, String>(8)?, row.get::<_, String>(9)?))
    })?;
    rows.into_iter()
        .map(|(id, record, routes, context)| {
            let routes = json("the list of routes", &routes)?;
            let context = json("the labels of an experiment", &context)?;
            with_parts(connection, id, ExperimentRecord { routes, context, ..record })
        })
        .collect()
}

fn with_parts(
    connection: &Connection,
    id: i64,
    mut record: ExperimentRecord,
) -> Result<ExperimentRecord, JournalError> {
    let sql = "SELECT fate, count FROM fate WHERE experiment = ?1 ORDER BY position";
    record.fates = all(connection, "fates", sql, [id], |row| Ok((row.get(0)?, count(row, 1)?)))?;

    let sql = "SELECT route, outcome, reason, count FROM outcome WHERE experiment = ?1
               ORDER BY route, outcome, reason";
    record.outcomes = all(connection, "outcomes", sql, [id], |row| {
        Ok(OutcomeCount {
            route: row.get(0)?,
            outcome: row.get(1)?,
            reason: row.get(2)?,
            count: count(row, 3)?,
        })
    })?;

    let sql = "SELECT rule, comparisons, differences, met, failed FROM rule WHERE experiment = ?1 ORDER BY position";
    record.rules = all(connection, "rules", sql, [id], |row| {
        Ok(RuleCount {
            rule: row.get(0)?,
            comparisons: count(row, 1)?,
            differences: count(row, 2)?,
            met: count(row, 3)?,
            failed: count(row, 4)?,
        })
    })?;

    let sql =
        "SELECT route, at, control_us, candidate_us, control_first_us, candidate_first_us FROM comparison
               WHERE experiment = ?1 AND control_us IS NOT NULL AND candidate_us IS NOT NULL ORDER BY id";
    record.latencies = all(connection, "latencies", sql, [id], |row| {
        let first_byte = row.get::<_, Option<i64>>(4)?.zip(row.get::<_, Option<i64>>(5)?);
        Ok(LatencyRow {
            route: row.get(0)?,
            compared_at: time(row, 1)?,
            control_us: count(row, 2)?,
            candidate_us: count(row, 3)?,
            first_byte_us: match first_byte {
                Some(_) => Some((count(row, 4)?, count(row, 5)?)),
                None => None,
            },
        })
    })?;

    let sql = "SELECT route, path, state, detail FROM path WHERE experiment = ?1 ORDER BY route, path";
    record.paths = all(connection, "paths", sql, [id], |row| {
        Ok(PathRecord { route: row.get(0)?, path: row.get(1)?, state: row.get(2)?, detail: row.get(3)? })
    })?;

    record.causes = causes(connection, id)?;
    for cause in &mut record.causes {
        cause.examples = examples(connection, id, &cause.id)?;
    }
    Ok(record)
}

fn causes(connection: &Connection, experiment: i64) -> Result<Vec<CauseRecord>, JournalError> {
    let sql = "SELECT id, route, signature, count, first_seen, last_seen, changes FROM cause
               WHERE experiment = ?1 ORDER BY count DESC, id";
    let rows = all(connection, "causes", sql, [experiment], |row| {
        let record = CauseRecord {
            id: row.get(0)?,
            route: row.get(1)?,
            signature: row.get(2)?,
            changes: Vec::new(),
            count: count(row, 3)?,
            first_seen: time(row, 4)?,
            last_seen: time(row, 5)?,
            examples: Vec::new(),
        };
        Ok((record, row.get::<_, String>(6)?))
    })?;
    rows.into_iter()
        .map(|(mut record, changes)| {
            let changes: Vec<(String, String, Option<String>)> = json("the changes of a cause", &changes)?;
            let change = |(path, kind, classes)| Change { path, kind, classes };
            record.changes = changes.into_iter().map(change).collect();
            Ok(record)
        })
        .collect()
}

fn examples(connection: &Connection, experiment: i64, cause: &str) -> Result<Vec<Example>, JournalError> {
    let sql = "SELECT exchange, method, target, headers, headers_omitted, body, body_bytes, control_status,
                      candidate_status, differences, differences_omitted, bytes
               FROM example WHERE experiment = ?1 AND cause = ?2 ORDER BY bytes, exchange";
    let rows = all(connection, "examples", sql, params![experiment, cause], |row| {
        let (headers, differences): (String, String) = (row.get(3)?, row.get(9)?);
        let example = Example {
            cause: cause.to_owned(),
            bytes: count(row, 11)?,
            exchange: row.get(0)?,
            method: row.get(1)?,
            target: row.get(2)?,
            headers: Vec::new(),
            headers_omitted: count(row, 4)?,
            body: row.get(5)?,
            body_bytes: count(row, 6)?,
            control_status: row.get(7)?,
            candidate_status: row.get(8)?,
            differences: Vec::new(),
            differences_omitted: count(row, 10)?,
        };
        Ok((example, headers, differences))
    })?;
    rows.into_iter()
        .map(|(mut example, headers, differences)| {
            example.headers = json("the header fields of an example", &headers)?;
            example.differences = json("the differences of an example", &differences)?;
            Ok(example)
        })
        .collect()
}

/// What both branches answered in one example.
pub(super) fn answers(
    connection: &Connection,
    experiment: i64,
    example: &Example,
) -> Result<Answers, JournalError> {
    let sql = "SELECT branch, status, headers, headers_omitted, body, body_bytes FROM answer
               WHERE experiment = ?1 AND cause = ?2 AND exchange = ?3";
    let rows =
        all(connection, "answers", sql, params![experiment, example.cause, example.exchange], |row| {
            let answer = Answer {
                status: row.get(1)?,
                headers: Vec::new(),
                headers_omitted: count(row, 3)?,
                body: row.get(4)?,
                body_bytes: count(row, 5)?,
            };
            Ok((row.get::<_, String>(0)?, answer, row.get::<_, String>(2)?))
        })?;
    let mut answers = Answers::default();
    for (branch, mut answer, headers) in rows {
        answer.headers = json("the header fields of an answer", &headers)?;
        let place = if branch == "a" { &mut answers.control } else { &mut answers.candidate };
        *place = Some(answer);
    }
    Ok(answers)
}
