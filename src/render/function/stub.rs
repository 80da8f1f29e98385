//! What stands in for functions in a build without them: it refuses every `[function.NAME]`.

use std::sync::Arc;

use crate::config::{self, Problem};

use super::{Input, Options, Output};

const NONE_HERE: &str = "this build has no functions";

/// Functions that can't be built.
#[derive(Clone, Debug, Default)]
pub struct Functions {}

impl Functions {
    /// No functions at all.
    pub fn none() -> Functions {
        Functions {}
    }

    /// Succeeds only for no functions at all.
    ///
    /// # Errors
    /// One problem for every function.
    pub fn try_new(functions: &[config::Function]) -> Result<Functions, Vec<Problem>> {
        Functions::try_new_with(functions, Options::default())
    }

    /// The same.
    ///
    /// # Errors
    /// One problem for every function.
    pub fn try_new_with(
        functions: &[config::Function],
        _options: Options,
    ) -> Result<Functions, Vec<Problem>> {
        if functions.is_empty() {
            return Ok(Functions {});
        }
        let problem = |function: &config::Function| {
            let key = format!("function.{}", function.name.value);
            let text = format!("{NONE_HERE}; uplinks can only be delivered undecoded");
            Problem::error(&function.name.place, key, text).hint(
                "install a build with functions (cargo build --features functions), or leave the table out",
            )
        };
        Err(functions.iter().map(problem).collect())
    }

    /// Nothing to warn of.
    pub fn warnings(&self) -> &[Problem] {
        &[]
    }

    /// Fails.
    pub fn call(&self, _function: &str, _input: &Input) -> Arc<Output> {
        Arc::new(Output::failed(NONE_HERE))
    }

    /// Fails.
    pub async fn call_async(&self, _function: &str, _input: &Input) -> Arc<Output> {
        Arc::new(Output::failed(NONE_HERE))
    }

    /// None ever runs.
    pub fn worker_pid(&self) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_function_is_refused_and_none_is_no_problem() {
        assert!(Functions::try_new(&[]).is_ok());
        let text = "[function.silo]\nfile = \"silo.js\"\n";
        let config = config::Config::parse(text, std::path::Path::new("packhorse.toml")).unwrap().config;
        let problems = Functions::try_new(&config.functions).unwrap_err();
        assert!(problems.iter().any(|problem| problem.key == "function.silo"), "{problems:?}");
    }
}
