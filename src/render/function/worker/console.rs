//! `console`: what a script writes is kept with the result, a bounded number of lines.

use std::cell::RefCell;
use std::rc::Rc;

use rquickjs::function::Rest;
use rquickjs::{Ctx, Function, Object, Value};

use super::super::wire::{MAX_TEXTS, bounded};
use super::super::{Level, Line};
use super::text;

/// The lines written so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Console(Rc<RefCell<Vec<Line>>>);

impl Console {
    /// Gives the context a `console` that writes here.
    pub(super) fn install<'js>(&self, ctx: &Ctx<'js>) -> rquickjs::Result<()> {
        let console = Object::new(ctx.clone())?;
        for (names, level) in [
            (&["log", "info", "debug", "trace"][..], Level::Info),
            (&["warn"], Level::Warn),
            (&["error"], Level::Error),
        ] {
            let lines = Rc::clone(&self.0);
            let write = move |parts: Rest<Value<'js>>| {
                if lines.borrow().len() < MAX_TEXTS {
                    let parts = parts.0.iter().take(MAX_TEXTS).map(|part| text::for_people(part));
                    let text = bounded(parts.collect::<Vec<_>>().join(" "));
                    lines.borrow_mut().push(Line { level, text });
                }
            };
            let write = Function::new(ctx.clone(), write)?;
            for name in names {
                console.set(*name, write.clone())?;
            }
        }
        ctx.globals().set("console", console)
    }

    /// What was written.
    pub(super) fn take(&self) -> Vec<Line> {
        self.0.take()
    }
}
