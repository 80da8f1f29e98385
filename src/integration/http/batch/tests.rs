#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;

fn body(text: &str) -> Rendered {
    Rendered {
        bytes: text.as_bytes().to_vec(),
        content_type: Arc::from("application/json"),
        shown: String::new(),
        warnings: Vec::new(),
    }
}

fn made(format: BatchFormat, bodies: &[&str]) -> (String, String, String) {
    let mut batch = BatchBody::new(format);
    for (n, text) in bodies.iter().enumerate() {
        assert!(batch.add(&body(text), n.to_string()));
    }
    let (bytes, content_type, key) = batch.finish();
    (String::from_utf8(bytes).unwrap(), content_type, key)
}

#[test]
fn bodies_become_an_array_or_a_line_each() {
    let bodies = ["{\"a\":1}", "{\n  \"b\": \"x\\ny\"\r\n}", "3"];
    let (text, content_type, key) = made(BatchFormat::Array, &bodies);
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap().len(), 3);
    assert_eq!(content_type, "application/json");
    let (text, content_type, same) = made(BatchFormat::Ndjson, &bodies);
    assert_eq!(text, "{\"a\":1}\n{   \"b\": \"x\\ny\"  }\n3\n");
    assert_eq!(content_type, "application/x-ndjson");
    assert_eq!(key, same, "the key is made of the members alone");
    assert_ne!(key, made(BatchFormat::Array, &bodies[..2]).2);
    assert_eq!(made(BatchFormat::Array, &["1"]).0, "[1]", "one is a batch, too");
    assert_eq!(Uuid::parse_str(&key).unwrap().get_version_num(), 5);
}

#[test]
fn what_does_not_fit_is_turned_away_and_so_is_what_follows() {
    for format in [BatchFormat::Array, BatchFormat::Ndjson] {
        let mut batch = BatchBody::new(format);
        let half = "1".repeat(MAX_BYTES / 2 - 2);
        assert!(batch.add(&body(&half), "a".into()) && batch.add(&body(&half), "b".into()));
        assert!(!batch.is_full());
        assert!(!batch.add(&body("1"), "c".into()));
        assert!(batch.is_full());
        assert!(batch.finish().0.len() <= MAX_BYTES);
        let mut alone = BatchBody::new(format);
        assert!(alone.add(&body(&"1".repeat(2 * MAX_BYTES)), "a".into()), "a large one goes alone");
    }
}

#[test]
fn a_refused_batch_is_halved_to_the_last_one() {
    let names: Vec<Name> = (0..5).map(|n| (Uuid::from_u128(n), 0)).collect();
    let mut plan = Plan::new(64);
    plan.halve(&names, Some(400));
    assert_eq!(plan.again, [names[..3].to_vec(), names[3..].to_vec()]);
    let first = plan.again.pop_front().unwrap();
    plan.halve(&first, Some(413));
    assert_eq!(plan.again, [names[..2].to_vec(), names[2..3].to_vec(), names[3..].to_vec()]);
    assert_eq!((plan.most, plan.size), (2, 2), "what is too large once is not tried again");
    plan.learn(2, 0);
    assert_eq!(plan.size, 2);
}

#[test]
fn the_size_follows_what_fits() {
    let mut plan = Plan::new(64);
    plan.learn(10, 54);
    assert_eq!(plan.size, 10);
    plan.learn(10, 0);
    assert_eq!(plan.size, 20);
    plan.learn(0, 3);
    assert_eq!(plan.size, 1);
    (0..10).for_each(|_| plan.learn(1, 0));
    assert_eq!(plan.size, 64);
}

/// What was sent goes out again as it was, whatever comes before it meanwhile; and what never comes again is forgotten.
#[test]
fn a_batch_to_be_sent_again_waits_for_its_first_member() {
    let member = |n: u128| (Uuid::from_u128(n), 0);
    let mut plan = Plan::new(64);
    plan.plan(vec![member(1), member(2)]);
    assert_eq!(plan.again_with(member(9)), None, "something newer goes before it");
    assert!(plan.begins_with(member(1)) && !plan.begins_with(member(2)));
    assert_eq!(plan.again_with(member(1)), Some(vec![member(1), member(2)]));
    assert!(!plan.begins_with(member(1)));
    (0..1_000).for_each(|n| plan.plan(vec![member(n)]));
    assert_eq!((plan.again.len(), plan.begins_with(member(0))), (MAX_RANGES, false));
}
