//! `Buffer`, `TextDecoder` and `TextEncoder`: what scripts may expect that QuickJS has not.
//!
//! They are JavaScript and cost more to parse than most scripts take to run, so they are made when a script first looks
//! at them, and until then each is a getter. The conversions between bytes and text are Rust; a script can't interrupt
//! them, so their input is bounded.

use rquickjs::context::EvalOptions;
use rquickjs::object::{Accessor, Property};
use rquickjs::{Ctx, Exception, Function, Object, Value};

use super::text;

/// Name, file, source, and whether the source's function returns an object that has it by name.
const PRELUDES: [(&str, &str, &str, bool); 3] = [
    ("Buffer", "buffer.js", include_str!("buffer.js"), false),
    ("TextDecoder", "text.js", include_str!("text.js"), true),
    ("TextEncoder", "text.js", include_str!("text.js"), true),
];

/// The longest input of a conversion, in bytes: many payloads, and well within a time limit.
const MOST: usize = 64 << 10;

/// Gives the context what `source` names.
pub(super) fn install<'js>(ctx: &Ctx<'js>, source: &str) -> rquickjs::Result<()> {
    for (name, file, prelude, named) in PRELUDES {
        // A name that is put together at run time is not worth a getter for everybody.
        if !source.contains(name) {
            continue;
        }
        let define = move |ctx: &Ctx<'js>, value: Value<'js>| {
            ctx.globals().prop(name, Property::from(value).writable().configurable())
        };
        let get = move |ctx: Ctx<'js>| -> rquickjs::Result<Value<'js>> {
            let mut options = EvalOptions::default();
            options.filename = Some(file.to_owned());
            let make: Function<'js> = ctx.eval_with_options(prelude, options)?;
            let made: Value<'js> =
                make.call((Function::new(ctx.clone(), bytes_of)?, Function::new(ctx.clone(), text_of)?))?;
            let value = if named { made.get::<Object<'js>>()?.get(name)? } else { made };
            define(&ctx, value.clone())?;
            Ok(value)
        };
        let set = move |ctx: Ctx<'js>, value: Value<'js>| define(&ctx, value);
        ctx.globals().prop(name, Accessor::from(get).set(set).configurable())?;
    }
    Ok(())
}

/// The bytes that a text stands for.
fn bytes_of<'js>(
    ctx: Ctx<'js>,
    string: rquickjs::String<'js>,
    encoding: rquickjs::function::Opt<Value<'js>>,
) -> rquickjs::Result<Vec<u8>> {
    let encoding = Encoding::of(&ctx, encoding.0)?;
    let text = text::of_string(&string, MOST).map_err(|_| too_long(&ctx))?;
    Ok(match encoding {
        Encoding::Utf8 => text.into_bytes(),
        // Code units, of which the low byte counts.
        Encoding::Latin1 | Encoding::Ascii => {
            text.encode_utf16().map(|unit| unit.to_le_bytes().first().copied().unwrap_or_default()).collect()
        }
        Encoding::Hex => text.as_bytes().chunks(2).map_while(hex_pair).collect(),
        Encoding::Base64 | Encoding::Base64Url => from_base64(&text),
    })
}

/// The text that bytes stand for.
fn text_of<'js>(
    ctx: Ctx<'js>,
    bytes: Object<'js>,
    encoding: rquickjs::function::Opt<Value<'js>>,
) -> rquickjs::Result<String> {
    let encoding = Encoding::of(&ctx, encoding.0)?;
    let length: u32 = bytes.get("length")?;
    if usize::try_from(length).unwrap_or(usize::MAX) > MOST {
        return Err(too_long(&ctx));
    }
    let bytes = (0..length).map(|index| bytes.get(index)).collect::<rquickjs::Result<Vec<u8>>>()?;
    Ok(match encoding {
        Encoding::Utf8 => String::from_utf8_lossy(&bytes).into_owned(),
        Encoding::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        Encoding::Ascii => bytes.iter().map(|byte| char::from(*byte & 0x7f)).collect(),
        Encoding::Hex => data_encoding::HEXLOWER.encode(&bytes),
        Encoding::Base64 => data_encoding::BASE64.encode(&bytes),
        Encoding::Base64Url => data_encoding::BASE64URL_NOPAD.encode(&bytes),
    })
}

/// The encodings that Node knows, but for UTF-16.
#[derive(Clone, Copy)]
enum Encoding {
    Utf8,
    Latin1,
    Ascii,
    Hex,
    Base64,
    Base64Url,
}

impl Encoding {
    fn of<'js>(ctx: &Ctx<'js>, name: Option<Value<'js>>) -> rquickjs::Result<Encoding> {
        let Some(name) = name.filter(|name| !name.is_undefined() && !name.is_null()) else {
            return Ok(Encoding::Utf8);
        };
        let name = text::for_people(&name);
        Ok(match name.to_ascii_lowercase().as_str() {
            "utf8" | "utf-8" => Encoding::Utf8,
            "latin1" | "binary" => Encoding::Latin1,
            "ascii" => Encoding::Ascii,
            "hex" => Encoding::Hex,
            "base64" => Encoding::Base64,
            "base64url" => Encoding::Base64Url,
            _ => return Err(Exception::throw_type(ctx, &format!("Unknown encoding: {name}"))),
        })
    }
}

fn too_long(ctx: &Ctx<'_>) -> rquickjs::Error {
    Exception::throw_range(ctx, &format!("more than {} KiB to convert", MOST >> 10))
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()
}

/// Either alphabet, up to the first `=`, skipping whatever else stands between, as Node does.
fn from_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut value, mut bits) = (0u32, 0u32);
    for character in text.bytes().take_while(|character| *character != b'=') {
        let digit = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => continue,
        };
        value = (value << 6 | u32::from(digit)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(value >> bits & 0xff).unwrap_or_default());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rquickjs::{Context, Runtime};

    use super::*;

    fn eval(source: &str) -> String {
        let runtime = Runtime::new().unwrap();
        Context::full(&runtime).unwrap().with(|ctx| {
            install(&ctx, source).unwrap();
            match ctx.eval::<Value<'_>, _>(source) {
                Ok(value) => text::for_people(&value),
                Err(_) => text::for_people(&ctx.catch()),
            }
        })
    }

    #[test]
    fn buffers_convert_read_and_write_as_nodes_do() {
        for (source, wanted) in [
            ("Buffer.from('01A2ffzz00', 'hex').join()", "1,162,255"),
            ("Buffer.from('abc', 'hex').length", "1"),
            ("Buffer.from('-_8 =x', 'base64').toString('hex')", "fbff"),
            (
                "Buffer.from([251, 255]).toString('base64') + Buffer.from([251]).toString('base64url')",
                "+/8=-w",
            ),
            ("Buffer.from('h\u{fc}\u{20ac}').toString('hex')", "68c3bce282ac"),
            ("Buffer.from('h\u{fc}\u{20ac}', 'latin1').toString('hex')", "68fcac"),
            ("Buffer.from([0xe2, 0x82, 0x41]).toString()", "\u{fffd}A"),
            ("Buffer.from([0xe9, 0x41]).toString('ascii', 0, 1)", "i"),
            ("Buffer.from([1, 2, 3, 4]).toString('hex', 1, 3)", "0203"),
            ("Buffer.from([-1, 256, '7', 1.9]).join()", "255,0,7,1"),
            (
                "Buffer.from(Buffer.from([1])).toString('hex') + Buffer.from(new Uint8Array([2]).buffer).toString('hex')",
                "0102",
            ),
            (
                "new Buffer('hi').toString() + new Buffer(2).length + Buffer.alloc(3, 'ab').toString() + Buffer.alloc(2, 1).join()",
                "hi2aba1,1",
            ),
            (
                "var b = Buffer.from([1, 2, 3]); b.slice(1)[0] = 9; b.join() + Buffer.isBuffer(b.slice()) + Buffer.isBuffer([])",
                "1,9,3truefalse",
            ),
            ("Buffer.concat([Buffer.from([1]), [2, 3]], 2).join()", "1,2"),
            ("Buffer.byteLength('\u{20ac}') + Buffer.from('aQ==', 'base64').length", "4"),
            (
                "var b = Buffer.from('fffe0102030405067f', 'hex'); [b.readUInt8(), b.readInt8(1), b.readUInt16LE(0), b.readInt16BE(0), b.readUint32BE(1), b.readInt32LE(5), b.readUIntBE(0, 3), b.readIntLE(6, 3), b.readIntBE(0, 2)].join()",
                "255,-2,65279,-2,4261478915,2131100932,16776705,8324613,-2",
            ),
            (
                "var b = Buffer.alloc(8); b.writeDoubleBE(0.5); [b.readDoubleBE(0), b.writeFloatLE(1.5, 4), b.readFloatLE(4), b.readBigUInt64BE() > 0n].join()",
                "0.5,8,1.5,true",
            ),
            ("Buffer.from([1]).readUInt16BE(0)", "RangeError: out of bound"),
            ("Buffer.from('a', 'utf9')", "TypeError: Unknown encoding: utf9"),
            ("Buffer.from(5)", "TypeError: Buffer.from: neither bytes nor text"),
            ("Buffer.from('x'.repeat(70000))", "RangeError: more than 64 KiB to convert"),
            ("JSON.stringify({b: Buffer.from([1])})", r#"{"b":{"type":"Buffer","data":[1]}}"#),
            (
                "new TextDecoder().decode(Uint8Array.from([0xef, 0xbb, 0xbf, 0x41, 0xc0])) + new TextDecoder('ascii').decode(new Uint8Array([0xe9]).buffer)",
                "A\u{fffd}\u{e9}",
            ),
            ("new TextEncoder().encode('\\u20ac\\ud800').join()", "226,130,172,239,191,189"),
            ("new TextDecoder('klingon')", "RangeError: TextDecoder: unknown encoding klingon"),
            ("atob('aGk=') + btoa('hi')", "hiaGk="),
        ] {
            assert_eq!(eval(source), wanted, "{source}");
        }
    }

    #[test]
    fn the_names_may_be_taken() {
        for source in [
            "var Buffer = {from: 5}; Buffer.from",
            "const Buffer = {from: 5}; Buffer.from",
            "function Buffer() {} Buffer.from = 5; Buffer.from",
            "Buffer = {from: 5}; Buffer.from",
            "delete globalThis.Buffer; typeof Buffer === 'undefined' ? 5 : 0",
            "Buffer.from = 5; Buffer.from",
        ] {
            assert_eq!(eval(source), "5", "{source}");
        }
    }
}
