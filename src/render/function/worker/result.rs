//! From what a function returned to JSON text.

use std::cell::RefCell;
use std::rc::Rc;

use rquickjs::{Ctx, Function, Object, Value};

use super::super::wire::{Code, Fault, MAX_RESULT, MAX_TEXTS};
use super::fault::{self, CIRCULAR, Deadline};
use super::text::{self, NoText};

/// At most this many values that are not numbers are named.
const NAMED: usize = 4;

/// What a call works with.
pub(super) struct Run<'a, 'js> {
    pub(super) ctx: Ctx<'js>,
    pub(super) script: &'a Code<'a>,
    pub(super) deadline: &'a Deadline,
}

impl<'js> Run<'_, 'js> {
    /// `result`, or the fault that QuickJS's exception stands for.
    pub(super) fn sound<T>(&self, result: rquickjs::Result<T>) -> Result<T, Fault> {
        result.map_err(|error| match error {
            rquickjs::Error::Allocation => fault::memory(self.script),
            rquickjs::Error::Exception => fault::of_exception(&self.ctx, self.script, self.deadline),
            _ if self.ctx.has_exception() => fault::of_exception(&self.ctx, self.script, self.deadline),
            other => fault::other(format!("the call can't be made: {other}")),
        })
    }

    /// The JSON text of a value; `None` for what JSON has no text for. Non-finite numbers become `null`, as JSON has it,
    /// with a warning each.
    pub(super) fn json(
        &self,
        value: &Value<'js>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<String>, Fault> {
        if value.is_promise() {
            return Err(fault::promise());
        }
        let json = match self.ctx.json_stringify(value.clone()) {
            Ok(json) => json,
            Err(error) => {
                let fault = self.sound::<()>(Err(error)).err().unwrap_or_else(fault::promise);
                return Err(if fault.text.contains(CIRCULAR) {
                    fault::other("the result is circular: it contains itself, which JSON can't say")
                } else {
                    fault
                });
            }
        };
        let Some(json) = json else { return Ok(None) };
        let text = text::of_string(&json, MAX_RESULT).map_err(|why| match why {
            NoText::Long => fault::other(format!("the result is larger than {} KiB", MAX_RESULT >> 10)),
            NoText::Thrown => fault::of_exception(&self.ctx, self.script, self.deadline),
        })?;
        if text.contains("null") {
            self.warn_of_non_finite(value, warnings);
        }
        Ok(Some(text))
    }

    /// Names the numbers that JSON has no text for.
    fn warn_of_non_finite(&self, value: &Value<'js>, warnings: &mut Vec<String>) {
        let found = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&found);
        let look = move |key: Value<'js>, value: Value<'js>| {
            if let Some(number) = value.as_float().filter(|number| !number.is_finite()) {
                let name = text::for_people(&key);
                let mut seen = seen.borrow_mut();
                if seen.len() <= MAX_TEXTS {
                    let number = if number.is_nan() { "NaN" } else { "infinite" };
                    seen.push(format!("{name:?} is {number} and became null"));
                }
            }
            value
        };
        let looked = Function::new(self.ctx.clone(), look)
            .and_then(|look| self.ctx.json_stringify_replacer(value.clone(), look));
        if looked.is_err() {
            let _ = self.ctx.catch();
        }
        let found = found.take();
        let more = found.len().saturating_sub(NAMED);
        warnings.extend(found.into_iter().take(NAMED));
        if more > 0 {
            warnings.push(format!("{more} more numbers are not finite and became null"));
        }
    }

    /// `errors` or `warnings` of a result: a list of texts, or one.
    pub(super) fn texts(&self, result: &Object<'js>, key: &str) -> Result<Vec<String>, Fault> {
        let value: Value<'js> = self.sound(result.get(key))?;
        if value.is_undefined() || value.is_null() {
            return Ok(Vec::new());
        }
        let Some(list) = value.as_array() else { return Ok(vec![text::for_people(&value)]) };
        let mut texts = Vec::new();
        for index in 0..list.len().min(MAX_TEXTS) {
            let item: Value<'js> = self.sound(list.get(index))?;
            texts.push(text::for_people(&item));
        }
        Ok(texts)
    }
}
