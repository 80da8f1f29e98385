//! `packhorse check`

use std::path::Path;

use crate::check;
use crate::config::Problem;

use super::{Exit, say};

pub(super) fn check(config: &Path) -> Exit {
    match check::check(config) {
        Ok(checked) => {
            print(&checked.warnings);
            let warnings = match checked.warnings.len() {
                0 => String::new(),
                1 => ", 1 warning".to_owned(),
                n => format!(", {n} warnings"),
            };
            say(format_args!("{}: good{warnings}", config.display()));
            Exit::Done
        }
        Err(problems) => {
            print(&problems);
            let errors = problems.iter().filter(|problem| problem.is_error()).count();
            let errors = if errors == 1 { "1 error".to_owned() } else { format!("{errors} errors") };
            say(format_args!("{}: {errors}; the agent can't run with it", config.display()));
            Exit::Bad
        }
    }
}

fn print(problems: &[Problem]) {
    for problem in problems {
        say(problem);
    }
}
