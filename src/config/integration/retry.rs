//! `[integration.NAME.retry]`.

use std::time::Duration;

use super::super::problem::Problem;
use super::super::reader::Table;
use super::super::schema::{OnReject, Retry, Strategy};
use super::super::units::show_duration;

pub(super) fn read(table: &mut Table<'_>) -> Retry {
    let seconds = Duration::from_secs;
    let (day, week) = (seconds(86_400), seconds(7 * 86_400));
    let shortest = Duration::from_millis(10);
    let strategy = table.choice("strategy", Strategy::Exponential, Strategy::NAMES).value;
    let initial = table.duration("initial", seconds(1), shortest..=day);
    let max = table.duration("max", seconds(60), shortest..=week);
    if strategy == Strategy::Exponential && initial.value > max.value {
        let (first, longest) = (show_duration(initial.value), show_duration(max.value));
        let message = format!("the first wait ({first}) is longer than the longest (max, {longest})");
        let problem = Problem::error(&initial.place, table.path("initial"), message);
        table.report(problem.hint("raise max or lower initial"));
    }
    Retry {
        strategy,
        initial: initial.value,
        max: max.value,
        max_attempts: table.number("max_attempts", 0, 0..=1_000_000).value,
        probe: table.duration("probe", seconds(300), seconds(1)..=week).value,
        on_reject: table.choice("on_reject", OnReject::DeadLetter, OnReject::NAMES).value,
    }
}
