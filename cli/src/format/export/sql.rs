//! An export as SQL that `sqlite3` reads: a table of all events, a view for each kind with its fields as columns, and a view of the
//! times at which tasks ran. Text, so that it is streamed and continued like the other formats, and needs no database here.

use std::borrow::Cow;
use std::fmt::Write as _;

use events::catalogue::FIELDS;

use super::EventPlace;

/// The table, and what makes its queries fast. Without syncing each statement is cheap although it is a transaction of its own: what a
/// crash of the machine costs is a file that can be made again.
const TABLE: &str = "PRAGMA synchronous=OFF; \
    CREATE TABLE IF NOT EXISTS events(frame INTEGER, ordinal INTEGER, time TEXT, kind TEXT, command TEXT, reconciler TEXT, \
    actor_kind TEXT, actor TEXT, reason TEXT, names TEXT, event TEXT, PRIMARY KEY(frame, ordinal)) WITHOUT ROWID; \
    CREATE INDEX IF NOT EXISTS events_by_kind ON events(kind, time); \
    CREATE INDEX IF NOT EXISTS events_by_time ON events(time);";

/// From when to when tasks ran, as their nodes say, and where; a report may tell of several states at once. Those that ran on n3 in May:
/// `SELECT * FROM task_runs WHERE node_name = 'n3' AND since < '2026-06' AND (until IS NULL OR until >= '2026-05')`.
const TASK_RUNS: &str = "CREATE VIEW IF NOT EXISTS task_runs AS WITH \
    placed AS (SELECT task, node, json_extract(names, '$.\"' || node || '\"') AS node_name FROM task_assigned UNION ALL \
    SELECT task, node, json_extract(names, '$.\"' || node || '\"') FROM task_created WHERE node IS NOT NULL), \
    states AS (SELECT task, json_extract(status, '$.state') AS state, json_extract(status, '$.at') AS at FROM task_reported UNION ALL \
    SELECT task, json_extract(phase.value, '$.state'), json_extract(phase.value, '$.at') FROM task_reported, \
    json_each(status, '$.phases') AS phase UNION ALL SELECT value, 'orphaned', time FROM task_orphaned, json_each(tasks)), \
    ran AS (SELECT task, min(at) AS since FROM states WHERE state = 'running' GROUP BY task), \
    ended AS (SELECT task, min(at) AS until FROM states \
    WHERE state IN ('complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned') GROUP BY task) \
    SELECT created.task, created.service, json_extract(created.names, '$.\"' || created.service || '\"') AS service_name, created.slot, \
    placed.node, placed.node_name, ran.since, ended.until FROM task_created AS created JOIN ran USING (task) \
    LEFT JOIN placed USING (task) LEFT JOIN ended USING (task);";

/// What comes before the cells of a row.
const INSERT: &str = "INSERT OR IGNORE INTO events VALUES(";

/// The first line: the schema.
pub fn heading() -> String {
    let mut schema = TABLE.to_owned();
    for (kind, fields) in FIELDS {
        let _ =
            write!(schema, " CREATE VIEW IF NOT EXISTS \"{kind}\" AS SELECT frame, ordinal, time, command, reconciler");
        schema.push_str(", actor_kind, actor, reason, names");
        for field in *fields {
            let _ = write!(schema, ", json_extract(event, '$.{field}') AS \"{field}\"");
        }
        let _ = write!(schema, " FROM events WHERE kind = '{kind}';");
    }
    schema.push(' ');
    schema.push_str(TASK_RUNS);
    schema
}

/// A row of the table.
pub fn row((index, ordinal): EventPlace, cells: &[Cow<'_, str>]) -> String {
    let mut row = format!("{INSERT}{index},{ordinal}");
    for cell in cells {
        let _ = write!(row, ",'{}'", cell.replace('\'', "''"));
    }
    row + ");"
}

/// Which event a row is about.
pub fn place(line: &str) -> Option<EventPlace> {
    let mut numbers = line.strip_prefix(INSERT)?.strip_suffix(");")?.split(',');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use events::{Named, TaskState};

    use super::*;

    #[test]
    fn every_state_that_ends_a_task_ends_its_run_and_every_kind_has_a_view() {
        use TaskState::{Complete, Failed, Orphaned, Rejected, Remove, Running, Shutdown, Starting};
        for state in [Starting, Running, Complete, Shutdown, Failed, Rejected, Remove, Orphaned] {
            let ends =
                TASK_RUNS.split(" IN (").nth(1).is_some_and(|list| list.contains(&format!("'{}'", state.name())));
            assert_eq!(ends, state.is_terminal(), "{}", state.name());
        }
        let heading = heading();
        for kind in events::catalogue::NAMES {
            assert!(heading.contains(&format!("VIEW IF NOT EXISTS \"{kind}\"")), "{kind}");
        }
        assert!(heading.contains("json_extract(event, '$.from') AS \"from\"") && !heading.contains('\n'), "{heading}");
    }
}
