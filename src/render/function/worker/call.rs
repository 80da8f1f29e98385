//! One call: a fresh runtime, the script, its entry point, its arguments, its result.
//!
//! Everything is made anew for every call and thrown away before the answer is sent. That costs a fraction of a
//! millisecond, and it is what makes calls independent: vendors' scripts keep state in globals, leak loop variables and
//! extend prototypes, and a runtime of its own also gives each call its whole memory limit.

use std::time::Duration;

use rquickjs::context::EvalOptions;
use rquickjs::object::Property;
use rquickjs::{Array, Constructor, Context, Ctx, Function, Object, Runtime, Value};

use super::super::Line;
use super::super::wire::{Call, Code, Fault, FaultKind, Verdict};
use super::bytes;
use super::console::Console;
use super::fault::{self, Deadline, STACK};
use super::result::Run;

/// Looks the functions up by name, because those declared with `let` and `const` are no properties of anything.
const FIND: &str = "[typeof decodeUplink == 'function' ? decodeUplink : null, \
                    typeof Decoder == 'function' ? Decoder : null, \
                    typeof Decode == 'function' ? Decode : null, \
                    typeof normalizeUplink == 'function' ? normalizeUplink : null]";
const NAMES: [&str; 4] = ["decodeUplink", "Decoder", "Decode", "normalizeUplink"];

/// Whether a script can be called.
pub(super) fn check(script: &Code<'_>) -> Result<(), Fault> {
    with(script, &Console::default(), |_, _| Ok(()))
}

/// Calls a script.
pub(super) fn call(script: &Code<'_>, call: &Call<'_>) -> (Verdict, Vec<Line>) {
    let console = Console::default();
    let verdict = with(script, &console, |run, entry| entry.call(run, call)).unwrap_or_else(Verdict::Broke);
    (verdict, console.take())
}

/// What a script offers.
struct Entry<'js> {
    decode: EntryPoint<'js>,
    normalize: Option<Function<'js>>,
    date: Constructor<'js>,
}

enum EntryPoint<'js> {
    /// `decodeUplink(input)`
    Uplink(Function<'js>),
    /// `Decoder(bytes, fPort, uplink)`
    Decoder(Function<'js>),
    /// `Decode(fPort, bytes, variables)`
    Decode(Function<'js>),
}

/// Runs the script in a new runtime and hands what it offers to `work`.
fn with<T>(
    script: &Code<'_>,
    console: &Console,
    work: impl for<'a, 'js> FnOnce(&Run<'a, 'js>, Entry<'js>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let deadline = Deadline::start(Duration::from_micros(script.cpu_limit_us));
    let runtime = Runtime::new().map_err(|_| fault::memory(script))?;
    runtime.set_memory_limit(usize::try_from(script.memory_limit).unwrap_or(usize::MAX));
    // The default would have it collect garbage before the script is even parsed; reference counts free most of it.
    runtime.set_gc_threshold(usize::try_from(script.memory_limit / 2).unwrap_or(usize::MAX));
    runtime.set_max_stack_size(STACK);
    let watch = deadline.clone();
    runtime.set_interrupt_handler(Some(Box::new(move || watch.check())));
    let context = Context::full(&runtime).map_err(|_| fault::memory(script))?;
    context.with(|ctx| {
        let run = Run { ctx, script, deadline: &deadline };
        let entry = run.script(console)?;
        work(&run, entry)
    })
}

impl<'js> Run<'_, 'js> {
    /// Runs the script's top level and finds its functions.
    fn script(&self, console: &Console) -> Result<Entry<'js>, Fault> {
        let globals = self.ctx.globals();
        // Before the script can replace it.
        let date = self.sound(globals.get("Date"))?;
        self.sound(console.install(&self.ctx))?;
        let module = self.sound(module(&self.ctx))?;
        self.sound(bytes::install(&self.ctx, &self.script.source))?;
        self.sound(self.eval::<Value<'_>>(&self.script.source, &self.script.file))?;
        let found: Array<'_> = self.sound(self.eval(FIND, "packhorse"))?;
        let function = |index: usize, name: &str| {
            let global = found.get::<Value<'_>>(index).ok().and_then(Value::into_function);
            let exported = || {
                let exports = module.get::<_, Object<'_>>("exports").ok()?;
                exports.get::<_, Value<'_>>(name).ok()?.into_function()
            };
            global.or_else(exported)
        };
        let [uplink, decoder, decode, normalize] = NAMES;
        let decode = function(0, uplink)
            .map(EntryPoint::Uplink)
            .or_else(|| function(1, decoder).map(EntryPoint::Decoder))
            .or_else(|| function(2, decode).map(EntryPoint::Decode));
        let normalize = function(3, normalize);
        if self.ctx.has_exception() {
            let _ = self.ctx.catch();
        }
        let decode = decode.ok_or_else(|| {
            let text =
                "the script has no entry point: none of decodeUplink, Decoder and Decode is a function";
            Fault { kind: FaultKind::NoEntry, text: text.to_owned(), at: None }
        })?;
        Ok(Entry { decode, normalize, date })
    }

    fn eval<T: rquickjs::FromJs<'js>>(&self, source: &str, file: &str) -> rquickjs::Result<T> {
        let mut options = EvalOptions::default();
        options.strict = false;
        options.filename = Some(file.to_owned());
        self.ctx.eval_with_options(source, options)
    }

    /// The arguments as JavaScript values: `bytes`, `variables`, `uplink`.
    fn arguments(&self, call: &Call<'_>) -> Result<(Array<'js>, Object<'js>, Value<'js>), Fault> {
        let bytes = self.sound(Array::new(self.ctx.clone()))?;
        for (index, byte) in call.bytes.iter().enumerate() {
            self.sound(bytes.set(index, i32::from(*byte)))?;
        }
        let variables = self.sound(Object::new(self.ctx.clone()))?;
        for (name, value) in call.variables.iter() {
            // Defined, not set: `__proto__` is a variable's name like any other.
            let property = Property::from(value.as_str()).writable().enumerable().configurable();
            self.sound(variables.prop(name.as_str(), property))?;
        }
        let uplink = if call.uplink.is_empty() { "{}" } else { &call.uplink };
        let uplink = self.sound(self.ctx.json_parse(uplink))?;
        Ok((bytes, variables, uplink))
    }
}

impl<'js> Entry<'js> {
    fn call(self, run: &Run<'_, 'js>, call: &Call<'_>) -> Result<Verdict, Fault> {
        let (bytes, variables, uplink) = run.arguments(call)?;
        let port = i32::from(call.f_port);
        match &self.decode {
            EntryPoint::Uplink(function) => {
                let input = run.sound(Object::new(run.ctx.clone()))?;
                run.sound(input.set("bytes", bytes))?;
                run.sound(input.set("fPort", port))?;
                if let Some(micros) = call.recv_time_us {
                    // Whole milliseconds, the resolution of a Date; as a double because it has no other numbers.
                    #[allow(clippy::cast_precision_loss, clippy::as_conversions)]
                    let millis = micros.div_euclid(1_000) as f64;
                    run.sound(
                        self.date
                            .construct((millis,))
                            .and_then(|date: Value<'_>| input.set("recvTime", date)),
                    )?;
                }
                run.sound(input.set("variables", variables))?;
                run.sound(input.set("uplink", uplink))?;
                let returned = run.sound(function.call((input,)))?;
                self.uplink_result(run, &returned)
            }
            EntryPoint::Decoder(function) => legacy(run, &run.sound(function.call((bytes, port, uplink)))?),
            EntryPoint::Decode(function) => legacy(run, &run.sound(function.call((port, bytes, variables)))?),
        }
    }

    /// What `decodeUplink` returned: `{data, warnings, errors}`.
    fn uplink_result(&self, run: &Run<'_, 'js>, returned: &Value<'js>) -> Result<Verdict, Fault> {
        if returned.is_null() || returned.is_undefined() {
            return Ok(Verdict::Null);
        }
        if returned.is_promise() {
            return Err(fault::promise());
        }
        let Some(result) = returned.as_object().filter(|_| !returned.is_array() && !returned.is_function())
        else {
            let what = returned.type_name();
            return Err(fault::other(format!(
                "decodeUplink returned a value of type {what}, not {{ data: {{ … }} }}"
            )));
        };
        let errors = run.texts(result, "errors")?;
        if !errors.is_empty() {
            return Ok(Verdict::Refused(errors));
        }
        let mut warnings = run.texts(result, "warnings")?;
        let value: Value<'_> = run.sound(result.get("data"))?;
        if value.is_undefined() {
            return Err(fault::other("decodeUplink returned neither data nor errors"));
        }
        let data = run.json(&value, &mut warnings)?.filter(|json| json.starts_with('{'));
        let Some(data) = data else {
            let what = value.type_name();
            return Err(fault::other(format!("decodeUplink returned data of type {what}, not an object")));
        };
        let normalized = match &self.normalize {
            Some(function) => normalized(run, function, value, &mut warnings),
            None => None,
        };
        Ok(Verdict::Decoded { data, warnings, normalized })
    }
}

/// What `normalizeUplink` makes of the data. It adds to a result, so whatever goes wrong in it is a warning.
fn normalized<'js>(
    run: &Run<'_, 'js>,
    function: &Function<'js>,
    data: Value<'js>,
    warnings: &mut Vec<String>,
) -> Option<String> {
    let mut own = Vec::new();
    let normalized = normalize(run, function, data, &mut own).unwrap_or_else(|fault| {
        own.push(fault.text);
        None
    });
    warnings.extend(own.iter().map(|text| format!("normalizeUplink: {text}")));
    normalized
}

fn normalize<'js>(
    run: &Run<'_, 'js>,
    function: &Function<'js>,
    data: Value<'js>,
    warnings: &mut Vec<String>,
) -> Result<Option<String>, Fault> {
    let input = run.sound(Object::new(run.ctx.clone()))?;
    run.sound(input.set("data", data))?;
    let returned: Value<'js> = run.sound(function.call((input,)))?;
    if returned.is_promise() {
        return Err(fault::promise());
    }
    let Some(result) = returned.as_object() else { return Ok(None) };
    let errors = run.texts(result, "errors")?;
    if !errors.is_empty() {
        warnings.extend(errors);
        return Ok(None);
    }
    warnings.extend(run.texts(result, "warnings")?);
    let value: Value<'js> = run.sound(result.get("data"))?;
    let json = run.json(&value, warnings)?;
    // One measurement may stand for a list of one.
    Ok(json.and_then(|json| match json.as_bytes().first() {
        Some(b'[') => Some(json),
        Some(b'{') => Some(format!("[{json}]")),
        _ => None,
    }))
}

/// What `Decoder` or `Decode` returned: anything.
fn legacy<'js>(run: &Run<'_, 'js>, returned: &Value<'js>) -> Result<Verdict, Fault> {
    if returned.is_null() || returned.is_undefined() {
        return Ok(Verdict::Null);
    }
    let mut warnings = Vec::new();
    match run.json(returned, &mut warnings)? {
        Some(data) => Ok(Verdict::Decoded { data, warnings, normalized: None }),
        None => Err(fault::other(format!("the function returned a value of type {}", returned.type_name()))),
    }
}

/// `module` and `exports`: scripts that also run elsewhere assign to them. Properties, so that a script may declare
/// variables of these names.
fn module<'js>(ctx: &Ctx<'js>) -> rquickjs::Result<Object<'js>> {
    let module = Object::new(ctx.clone())?;
    let exports = Object::new(ctx.clone())?;
    module.set("exports", exports.clone())?;
    ctx.globals().set("module", module.clone())?;
    ctx.globals().set("exports", exports)?;
    Ok(module)
}
