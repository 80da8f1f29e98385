//! One worker and one call for all who ask (RULES S27).

use std::sync::Arc;
use std::time::Duration;

use super::{Folder, Functions, Options, data, decode, errors, function, input, packhorse};

#[test]
fn s27_all_integrations_of_an_uplink_share_one_result() {
    let (_folder, functions) = function("function decodeUplink(i) { return {data: {r: Math.random()}}; }");
    let uplink = input(1, &[1]);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (functions, uplink) = (functions.clone(), uplink.clone());
            std::thread::spawn(move || functions.call("f", &uplink))
        })
        .collect();
    let outputs: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(outputs.iter().all(|output| Arc::ptr_eq(output, &outputs[0])));
    assert!(Arc::ptr_eq(&outputs[0], &functions.call("f", &uplink)), "still known");
    assert!(!Arc::ptr_eq(&outputs[0], &decode(&functions, 1)), "another uplink");
}

#[test]
fn many_threads_and_functions_get_their_own_answers() {
    let folder = Folder::new();
    let tables: String = ["f", "g"]
        .map(|name| {
            let source =
                format!("function Decoder(bytes, port) {{ return ['{name}', port, bytes.length]; }}");
            folder.script(name, source, "")
        })
        .concat();
    let functions = folder.functions(&tables);
    let threads: Vec<_> = (0..16u8)
        .map(|port| {
            let functions = functions.clone();
            std::thread::spawn(move || {
                for length in 0..20 {
                    let name = if length % 2 == 0 { "f" } else { "g" };
                    let output = functions.call(name, &input(port, &vec![0; length]));
                    assert_eq!(data(&output), serde_json::json!([name, port, length]));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(errors(&functions.call("h", &input(1, &[])))[0].contains("no function \"h\""));
}

#[test]
fn a_single_threaded_runtime_does_not_block() {
    let (_folder, functions) = function("function decodeUplink(i) { return {data: {port: i.fPort}}; }");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (first, second) = (input(1, &[]), input(2, &[]));
        let (one, two, again) = tokio::join!(
            functions.call_async("f", &first),
            functions.call_async("f", &second),
            functions.call_async("f", &first)
        );
        assert_eq!((data(&one)["port"].as_u64(), data(&two)["port"].as_u64()), (Some(1), Some(2)));
        assert!(Arc::ptr_eq(&one, &again));
    });
}

#[test]
fn s27_the_worker_is_there_only_while_needed() {
    let folder = Folder::new();
    let config =
        folder.read(&folder.script("f", "function decodeUplink(i) { return {data: {port: i.fPort}}; }", ""));
    let options = Options { program: Some(packhorse()), idle: Duration::ZERO, ..Options::default() };
    let functions = Functions::try_new_with(&config, options).unwrap();
    for port in 1..20 {
        assert_eq!(data(&decode(&functions, port))["port"], port);
        while port % 2 == 0 && functions.worker_pid().is_some() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn nothing_is_started_for_no_functions() {
    let folder = Folder::new();
    let functions = folder.functions("");
    assert!(errors(&decode(&functions, 1))[0].contains("no function"));
    assert_eq!(functions.worker_pid(), None);
}
