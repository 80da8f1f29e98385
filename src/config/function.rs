//! `[function.NAME]`: payload code. The script itself is read by the room that runs it.

use std::time::Duration;

use super::reader::Named;
use super::schema::Function;

/// Wall time that a call may take, as a bound on its CPU time (RULES S27).
const WALL: Duration = Duration::from_secs(2);

/// Reads one function.
pub(super) fn read(entry: Named<'_>) -> Option<Function> {
    entry.check_name();
    let function = entry.value.table("a table: [function.NAME]", |table| {
        let time = Duration::from_millis(10)..=WALL;
        let file = table.need("file", "file = \"functions/silo.js\"").and_then(|value| value.file());
        let time_limit = table.duration("time_limit", Duration::from_millis(250), time).value;
        let memory_limit = table.size("memory_limit", 1 << 20..=64 << 20).unwrap_or(8 << 20);
        let drop_null = table.flag("drop_null", false);
        Some((file?, time_limit, memory_limit, drop_null))
    })?;
    let (file, time_limit, memory_limit, drop_null) = function?;
    Some(Function { name: entry.name, file, time_limit, memory_limit, drop_null })
}
