//! `test`: with an agent and without, over HTTP and over MQTT with a real mosquitto.

use std::sync::Arc;

use packhorse::simulator::{Arrivals, Broker, BrokerConfig, Subscriber};
use serde_json::Value;

use crate::support::{PATIENCE, free_port, integration};
use crate::world::{APP, NWK, TOKEN, World, wait};

fn device() -> String {
    format!(
        "[[device]]\nname = \"silo-7\"\ndev_eui = \"0004a30b001c0530\"\ndev_addr = \"49be7df1\"\n\
         nwk_s_key = \"{NWK}\"\napp_s_key = \"{APP}\"\nvariables = {{ site = \"north\" }}\n"
    )
}

fn only(lines: Vec<Value>) -> Value {
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].clone()
}

#[test]
fn http_is_tested_by_the_agent_and_without_it() {
    let mut world = World::new();
    world.extra = device();
    let mut agent = world.start();
    let words = ["test", "api", "--device", "silo-7", "--payload", "CAFE", "--port", "9", "--json"];
    let result = only(world.json(&words));
    assert_eq!((&result["status"], &result["simulated"]), (&"delivered".into(), &true.into()));
    assert_eq!((&result["device"], &result["response"]["code"]), (&"silo-7".into(), &"200".into()));
    assert!(result["duration_ms"].is_u64());
    let shown: Value = serde_json::from_str(result["request"]["body"].as_str().unwrap()).unwrap();
    let headers: Vec<&str> =
        result["request"]["headers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(headers.contains(&"x-simulated: true") && headers.contains(&"x-attempt: 1"), "{headers:?}");
    assert!(headers.iter().any(|header| header.starts_with("authorization: ")), "{headers:?}");
    assert!(!result.to_string().contains(TOKEN));

    let arrived = world.arrivals.all();
    assert_eq!(arrived.len(), 1);
    let body = arrived[0].json();
    assert_eq!(body, shown, "what is shown is what was sent, whole");
    assert_eq!((&body["simulated"], &body["device"]["name"]), (&true.into(), &"silo-7".into()));
    assert_eq!((&body["payload"], &body["f_port"]), (&"yv4=".into(), &9.into()));
    let status = agent.wait_until("it runs", |status| status["spool"]["state"] == "ok");
    assert_eq!((&status["heard"], &status["spool"]["records"]), (&0.into(), &0.into()), "nothing was queued");
    assert_eq!(integration(&status, "api")["delivered"], 0);

    let (code, said, _) = world.run(&["test", "away"]);
    assert_eq!(code, 1);
    assert!(said.contains("FAILED") && said.contains("tcp: no connection to 127.0.0.1:1"), "{said}");
    for (words, name) in [(&["test", "apo"][..], "apo"), (&["test", "api", "--device", "silo-8"], "silo-8")] {
        let (code, _, complaint) = world.run(words);
        assert_eq!((code, complaint.contains("did you mean")), (2, true), "{complaint}");
        assert!(complaint.contains(name), "{complaint}");
    }

    assert!(agent.terminate().success());
    let (code, said, complaint) = world.run(&["test", "api"]);
    assert_eq!(code, 0, "{said}{complaint}");
    assert!(complaint.contains("no agent runs"), "{complaint}");
    assert!(said.contains("> POST http://127.0.0.1:") && said.contains("< 200"), "{said}");
    assert!(said.contains("silo-7") && said.contains("delivered in"), "the first device: {said}");
    assert!(!said.contains(TOKEN));
    assert_eq!(world.arrivals.tally().unique, 2);
    for (words, name) in [(&["test", "apo"][..], "apo"), (&["test", "api", "--device", "silo-8"], "silo-8")] {
        let (code, _, complaint) = world.run(words);
        assert_eq!((code, complaint.contains(name)), (2, true), "{complaint}");
    }
    assert_eq!(world.run(&["test", "away"]).0, 1);
}

/// A far end that gets arrays gets one from a test, too.
#[test]
fn an_integration_that_sends_batches_is_tested_with_a_batch_of_one() {
    let mut world = World::new();
    let port = world.endpoint.address().port();
    world.extra = format!(
        "{}[integration.bulk]\ntype = \"http\"\nbatch = 10\nurl = \"http://127.0.0.1:{port}/bulk\"",
        device()
    );
    let _agent = world.start();
    let result = only(world.json(&["test", "bulk", "--json"]));
    assert_eq!((&result["status"], &result["response"]["code"]), (&"delivered".into(), &"200".into()));
    assert!(result["request"]["headers"].to_string().contains("x-simulated: true"), "{result}");
    let arrived = &world.arrivals.all()[0];
    assert_eq!((arrived.place.as_str(), arrived.header("x-simulated")), ("/bulk", Some("true")));
    assert_eq!((&arrived.json()[0]["simulated"], &arrived.json()[1]), (&true.into(), &Value::Null));
}

/// What is switched off has no live connection: it is tested from the config, before it is switched on.
#[test]
fn what_is_switched_off_can_be_tested() {
    let mut world = World::new();
    let port = world.endpoint.address().port();
    world.extra = format!(
        "[integration.later]\ntype = \"http\"\nenabled = false\nurl = \"http://127.0.0.1:{port}/later\""
    );
    let _agent = world.start();
    let (code, said, complaint) = world.run(&["test", "later"]);
    assert_eq!(code, 0, "{said}{complaint}");
    assert!(complaint.contains("later is not active"), "{complaint}");
    assert_eq!(world.arrivals.all()[0].place, "/later");
}

struct Mqtt {
    world: World,
    config: BrokerConfig,
    broker: Option<Broker>,
    arrivals: Arc<Arrivals>,
    _subscriber: Subscriber,
}

impl Mqtt {
    fn new() -> Mqtt {
        let mut world = World::new();
        let port = free_port();
        let config =
            BrokerConfig { port, folder: world.folder.path().to_owned(), tls: None, extra: String::new() };
        let broker = Broker::start(&config).unwrap();
        let arrivals = Arc::new(Arrivals::default());
        let subscriber = Subscriber::start(port, None, "audience", "t/#", Arc::clone(&arrivals)).unwrap();
        world.extra = format!(
            "{}[integration.broker]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\nretain = true\n\
             topic = \"t/{{{{device.name}}}}/up\"\nretry = {{ max = \"1s\" }}\n\
             [integration.broker.birth]\ntopic = \"t/state\"\npayload = \"online\"\n\
             [integration.broker.will]\ntopic = \"t/state\"\npayload = \"offline\"\n",
            device()
        );
        Mqtt { world, config, broker: Some(broker), arrivals, _subscriber: subscriber }
    }

    fn states(&self) -> Vec<String> {
        let all = self.arrivals.all();
        let states = all.iter().filter(|arrival| arrival.place == "t/state");
        states.map(|arrival| String::from_utf8_lossy(&arrival.body).into_owned()).collect()
    }
}

#[test]
fn mqtt_is_tested_on_the_live_session_and_without_an_agent() {
    let mut stage = Mqtt::new();
    let mut agent = stage.world.start();
    let came = |n: usize| stage.arrivals.wait_until(PATIENCE, |log| log.len() >= n);
    assert!(came(1), "the birth");
    let result = only(stage.world.json(&["test", "broker", "--json"]));
    assert_eq!((&result["status"], &result["response"]["code"]), (&"delivered".into(), &"PUBACK".into()));
    assert_eq!(result["request"]["target"], "t/silo-7/up");
    assert!(came(2));
    let body = stage.arrivals.all()[1].json();
    assert_eq!((&body["simulated"], &body["payload"]), (&true.into(), &"AQID".into()));
    assert_eq!(stage.states(), ["online"], "on the session that was there: nobody was thrown out");

    // Without a broker: why, and no waiting for one.
    stage.broker = None;
    wait(&mut agent, "broker", "it is away", |it| !it["last_error"].is_null());
    let (code, said, _) = stage.world.run(&["test", "broker"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("tcp: no connection"), "{said}");
    // A test that comes while the session waits for its next attempt makes one.
    stage.broker = Some(Broker::start(&stage.config).unwrap());
    stage.world.done(&["test", "broker"]);

    assert!(agent.terminate().success());
    assert!(stage.arrivals.wait_until(PATIENCE, |log| log.iter().any(|it| it.body == b"offline")));
    let states = stage.states();
    let (code, said, complaint) = stage.world.run(&["test", "broker"]);
    assert_eq!(code, 0, "{said}{complaint}");
    assert!(complaint.contains("without the will") && complaint.contains("barn-roof-broker"), "{complaint}");
    assert!(said.contains("> t/silo-7/up") && said.contains("< PUBACK"), "{said}");
    let tests = |log: &[packhorse::simulator::Arrival]| {
        log.iter().filter(|it| !it.redelivered && it.place == "t/silo-7/up").count()
    };
    assert!(stage.arrivals.wait_until(PATIENCE, |log| tests(log) == 3));
    assert_eq!(stage.states(), states, "neither birth nor will");

    // A made-up value is not what the topic says to everybody who comes.
    let late = Arc::new(Arrivals::default());
    let _late = Subscriber::start(stage.config.port, None, "late", "t/#", Arc::clone(&late)).unwrap();
    assert!(late.wait_until(PATIENCE, |log| log.iter().any(|it| it.place == "t/state")));
    assert_eq!(tests(&late.all()), 0, "not retained");
}
