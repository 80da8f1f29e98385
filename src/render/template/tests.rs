#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use serde_json::json;

use super::*;

fn context() -> Value {
    json!({
        "type": "uplink", "id": "01936b1e", "confirmed": false, "f_cnt": 41, "f_port": null,
        "gateway": { "name": "barn-roof", "eui": "aa555a0000000101" },
        "device": { "dev_eui": "0004a30b001c0530", "labels": ["silo", "north"], "variables": {
            "empty": "", "dot": ".", "dots": "..", "slash": "a/b", "ask": "x?y=1&z#f", "word": "Füllstand 7",
            "wild": "a+b#c/d", "nul": "a\u{0}b\u{85}", "dollar": "$SYS", "crlf": "a\r\nX-Evil: 1", "percent": "%2e",
        } },
        "rx": { "rssi": -57.0, "frequency": 868_300_000 },
        "decoded": { "level_cm": 182, "levels": [1.5, 2], "nested": { "a": 1 } },
    })
}

fn rendered(text: &str, purpose: Purpose) -> Result<String, RenderError> {
    Template::parse(text, purpose).unwrap().render(&context())
}

fn fault(text: &str, purpose: Purpose) -> (usize, Fault) {
    let error = Template::parse(text, purpose).unwrap_err();
    (error.offset, error.fault)
}

#[test]
fn values_of_every_type_are_put_in() {
    for (text, expected) in [
        ("", ""),
        ("no placeholder, { one } brace", "no placeholder, { one } brace"),
        ("{{gateway.name}}", "barn-roof"),
        ("<{{ gateway.name }}-{{f_cnt}}>", "<barn-roof-41>"),
        ("{{confirmed}} {{rx.rssi}} {{rx.frequency}}", "false -57.0 868300000"),
        ("{{device.labels.1}} {{decoded.levels.0}} {{device.labels.7}}", "north 1.5 "),
        ("{{device.labels}} {{decoded.nested}}", "[\"silo\",\"north\"] {\"a\":1}"),
        ("{{f_port}}|{{payload}}|{{decoded.no.such.thing}}|{{decoded.level_cm.0}}", "|||"),
        ("a }} b", "a }} b"),
    ] {
        assert_eq!(rendered(text, Purpose::Plain).unwrap(), expected, "{text}");
    }
}

#[test]
fn s36_url_values_stay_in_their_segment_or_parameter() {
    let base = "https://example.com/v1/";
    for (text, expected) in [
        ("{{device.dev_eui}}/up", "0004a30b001c0530/up"),
        ("{{device.variables.slash}}/up", "a%2Fb/up"),
        ("{{device.variables.ask}}", "x%3Fy%3D1%26z%23f"),
        ("{{device.variables.word}}", "F%C3%BCllstand%207"),
        ("{{device.variables.percent}}", "%252e"),
        ("up?p={{device.variables.ask}}&q={{f_cnt}}", "up?p=x%3Fy%3D1%26z%23f&q=41"),
        ("up?p={{f_port}}&dots={{device.variables.dots}}", "up?p=&dots=.."),
        ("{{device.variables.percent}}{{f_cnt}}", "%252e41"),
    ] {
        assert_eq!(
            rendered(&format!("{base}{text}"), Purpose::Url).unwrap(),
            format!("{base}{expected}"),
            "{text}"
        );
    }
}

#[test]
fn s36_a_path_value_that_is_missing_or_dots_is_refused() {
    let url = |path: &str| rendered(&format!("https://example.com/{path}"), Purpose::Url);
    assert_eq!(url("{{f_port}}/x"), Err(RenderError::Missing("f_port".into())));
    assert_eq!(url("{{decoded.nothing}}"), Err(RenderError::Missing("decoded.nothing".into())));
    assert_eq!(url("{{device.variables.empty}}"), Err(RenderError::Missing("device.variables.empty".into())));
    let dots = |name: &str| Err(RenderError::Dots(format!("device.variables.{name}")));
    assert_eq!(url("{{device.variables.dot}}/x"), dots("dot"));
    assert_eq!(url("a/{{device.variables.dots}}"), dots("dots"));
}

#[test]
fn s36_no_path_segment_with_a_value_is_dots() {
    for (text, value) in [("https://h/.{{decoded}}/y", "."), ("https://h/{{decoded}}{{decoded}}", ".")] {
        let rendered = Template::parse(text, Purpose::Url).unwrap().render(&json!({ "decoded": value }));
        assert_eq!(rendered, Err(RenderError::Dots("decoded".into())), "{text}");
    }
    let template = Template::parse("https://h/.{{decoded}}?z=/../", Purpose::Url).unwrap();
    assert_eq!(template.render(&json!({ "decoded": "x." })).unwrap(), "https://h/.x.?z=/../");
}

#[test]
fn s36_the_authority_of_a_url_has_no_placeholders() {
    for text in [
        "https://{{gateway.name}}/x",
        "https://example.com:{{f_cnt}}/x",
        "https://{{gateway.name}}@example.com/x",
        "https://example.com{{gateway.name}}",
    ] {
        assert_eq!(fault(text, Purpose::Url).1, Fault::Host, "{text}");
    }
    assert_eq!(fault("{{gateway.name}}/x", Purpose::Url), (0, Fault::NoScheme));
    assert_eq!(fault("https://example.com/a b", Purpose::Url), (21, Fault::Character(' ')));
    assert_eq!(fault("https://example.com/{{id}}#f", Purpose::Url), (26, Fault::Character('#')));
    assert!(Template::parse("https://[::1]:8080?x={{id}}", Purpose::Url).is_ok());
}

#[test]
fn s36_topic_values_are_one_level() {
    for (text, expected) in [
        ("packhorse/{{gateway.name}}/{{device.name}}/up", "packhorse/barn-roof/_/up"),
        ("/v1.6/devices/{{device.dev_eui}}", "/v1.6/devices/0004a30b001c0530"),
        ("a/{{device.variables.wild}}/b", "a/a_b_c_d/b"),
        ("a/{{device.variables.nul}}", "a/a_b_"),
        ("a/{{device.variables.empty}}/{{f_port}}", "a/_/_"),
        ("$aws/things/{{gateway.name}}", "$aws/things/barn-roof"),
        ("a/{{device.variables.dollar}}", "a/$SYS"),
        ("{{device.variables.word}}", "Füllstand 7"),
    ] {
        assert_eq!(rendered(text, Purpose::Topic).unwrap(), expected, "{text}");
    }
    let dollar = rendered("{{device.variables.dollar}}/x", Purpose::Topic);
    assert_eq!(dollar, Err(RenderError::Dollar("device.variables.dollar".into())));
}

#[test]
fn s36_a_topic_is_at_most_65535_bytes_and_never_empty() {
    let text = format!("{}{{{{decoded}}}}", "t".repeat(MAX_TOPIC_BYTES - 2));
    let template = Template::parse(&text, Purpose::Topic).unwrap();
    assert_eq!(template.render(&json!({ "decoded": "é" })).unwrap().len(), MAX_TOPIC_BYTES);
    assert_eq!(template.render(&json!({ "decoded": "éa" })), Err(RenderError::TooLong(MAX_TOPIC_BYTES + 1)));
    assert_eq!(fault("", Purpose::Topic).1, Fault::Nothing);
    assert_eq!(fault("a/+/b", Purpose::Topic), (2, Fault::Character('+')));
    assert_eq!(fault("{{id}}/#", Purpose::Topic), (7, Fault::Character('#')));
    assert_eq!(fault("a\u{0}", Purpose::Topic), (1, Fault::Character('\0')));
}

#[test]
fn s36_header_values_are_visible_ascii() {
    assert_eq!(rendered("site {{device.labels.1}}", Purpose::Header).unwrap(), "site north");
    assert_eq!(rendered("{{f_port}}", Purpose::Header).unwrap(), "");
    for name in ["crlf", "nul", "word"] {
        let path = format!("device.variables.{name}");
        assert_eq!(rendered(&format!("{{{{{path}}}}}"), Purpose::Header), Err(RenderError::Header(path)));
    }
    assert_eq!(fault("a\r\nb", Purpose::Header), (1, Fault::Character('\r')));
}

#[test]
fn mistakes_are_found_when_parsing_with_their_place_and_a_suggestion() {
    let unknown =
        |name: &str, meant: &str| Fault::Unknown { name: Some(name.into()), meant: Some(meant.into()) };
    for (text, offset, expected) in [
        ("abc{{device.dev_eui", 3, Fault::Unclosed),
        ("ab{{}}", 2, Fault::Empty),
        ("{{ }}", 0, Fault::Empty),
        ("{{device..name}}", 0, Fault::Empty),
        ("{{id}}{{devcie.name}}", 6, unknown("devcie.name", "device")),
        ("{{device.deveui}}", 0, unknown("device.deveui", "device.dev_eui")),
        ("{{zzz}}", 0, Fault::Unknown { name: Some("zzz".into()), meant: None }),
        ("{{gateway}}", 0, Fault::Group { name: "gateway", members: &["name", "eui"] }),
        ("{{id.x}}", 0, Fault::Single("id")),
        ("{{{id}}}", 0, unknown("{id", "id")),
    ] {
        assert_eq!(fault(text, Purpose::Plain), (offset, expected), "{text}");
    }
    let shown = Template::parse("x{{device.deveui}}", Purpose::Topic).unwrap_err().to_string();
    assert_eq!(
        shown,
        "`device.deveui` is nothing that an uplink has; did you mean `device.dev_eui`? (at byte 1)"
    );
}

#[test]
fn invariant_8_neither_errors_nor_debug_repeat_the_text_of_a_header() {
    let error = Template::parse("s3cret{{s3cret}}", Purpose::Header).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    let template = Template::parse("s3cret{{id}}", Purpose::Header).unwrap();
    assert!(!format!("{template:?}").contains("s3cret"));
}

#[test]
fn what_is_sent_without_an_uplink_may_only_name_the_gateway() {
    let parse = |text| Template::parse(text, Purpose::Plain).unwrap();
    assert!(parse("fixed").is_static() && parse("fixed").only_gateway());
    assert!(
        !parse("{{gateway.name}}").is_static() && parse("{{gateway.name}}-{{gateway.eui}}").only_gateway()
    );
    assert!(!parse("{{gateway.name}}-{{device.name}}").only_gateway());
}

#[test]
fn what_has_no_value_is_named_once_and_null_is_a_value() {
    let template =
        Template::parse("{{f_port}}{{payload}}{{decoded.x}}{{decoded.x}}", Purpose::Plain).unwrap();
    assert_eq!(template.missing(&context()), ["payload", "decoded.x"]);
}

#[test]
fn check_tries_a_template_on_an_uplink_that_has_everything() {
    for (text, purpose, sample) in [
        (
            "https://h/{{device.dev_eui}}/{{decoded.a}}?n={{device.variables.b}}",
            Purpose::Url,
            "https://h/0101010101010101/1?n=1",
        ),
        ("{{device.name}}/{{device.labels.3}}", Purpose::Topic, "sample/1"),
        ("{{payload_hex}} {{f_port}} {{rx.rssi}}", Purpose::Header, "010203 2 -57.0"),
        ("[{{device.name}},{{normalized}}]", Purpose::Body(BodyKind::Json), "[\"sample\",1]"),
    ] {
        assert_eq!(Template::parse(text, purpose).unwrap().sample().unwrap(), sample);
    }
    for (name, shape) in names::ROOTS.iter().map(|(name, shape)| (*name, shape)) {
        let names::Shape::Value = shape else { continue };
        let template = Template::parse(&format!("{{{{{name}}}}}"), Purpose::Plain).unwrap();
        assert_eq!(template.missing(&sample::context()), Vec::<String>::new(), "{name}");
    }
}

proptest::proptest! {
    /// What `check` lets pass as a JSON template makes JSON of any values; what it does not is refused without a panic.
    #[test]
    fn a_json_template_makes_json_or_is_refused(
        text in r#"(\{\{decoded\.x\}\}|\{\{ id \}\}|[{}\[\]:,"\\u0a1-]|"|\[|\]|null){0,10}"#,
        value in r#"["\\u0-9a-f\n]{0,6}"#,
    ) {
        let Ok(template) = Template::parse(&text, Purpose::Body(BodyKind::Json)) else { return Ok(()) };
        for decoded in [json!({}), json!({ "x": null }), json!({ "x": value }), json!({ "x": [1.5, { "a": value }] })] {
            let made = template.render(&json!({ "id": value, "decoded": decoded })).unwrap();
            proptest::prop_assert!(serde_json::from_str::<Value>(&made).is_ok(), "{} -> {}", text, made);
        }
    }

    #[test]
    fn no_text_panics_the_parser(text in r#"(\{\{|\}\}|decoded|\.|id|https://|/|\?|"|\\|.){0,12}"#) {
        for purpose in [
            Purpose::Url,
            Purpose::Topic,
            Purpose::Header,
            Purpose::Plain,
            Purpose::Body(BodyKind::Json),
            Purpose::Body(BodyKind::Xml),
            Purpose::Body(BodyKind::Form),
        ] {
            if let Ok(template) = Template::parse(&text, purpose) {
                let _ = (template.render(&context()), template.sample(), template.shown(&context()));
            }
        }
    }
}
