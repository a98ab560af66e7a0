//! A live run as a whole: brokers that hang or vanish, deviations that are known, reports.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use codec::ProtocolVersion;
use conformance::{
    deviations::Deviations,
    lang,
    live::Patience,
    requirements::Requirements,
    results::{self, Results, Verdict},
    run::{self, Finished, Options},
    suite::{self, File},
};

/// Greets every client with a CONNACK of 3.1.1, answers PINGREQ, and all else with these bytes.
fn broker(connack: &'static [u8], answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut packet = [0; 1024];
                while stream.read(&mut packet).is_ok_and(|bytes| bytes > 0) {
                    let answer = match packet[0] {
                        0x10 => connack,
                        0xc0 => &[0xd0, 0],
                        _ => answer,
                    };
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

fn options(broker: SocketAddr) -> Options {
    let patience =
        Patience { answer: Duration::from_millis(300), quiet: Duration::from_millis(20) };
    Options { patience, jobs: 2, ..Options::new(broker) }
}

fn scenario(name: &str, statements: &str) -> File {
    let text = format!("[MQTT-3.12.4-1] v3.1.1 MUST\n{statements}\n");
    let scenario = lang::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    File { path: PathBuf::from(format!("spec-tests/{name}.scn")), scenario }
}

fn suite() -> [File; 3] {
    let connect = "a > CONNECT clean\na < CONNACK\n";
    [
        scenario("x/good", connect),
        scenario("x/bad", &format!("{connect}a > PUBLISH \"<&>\\u{{1}}\" \"\"\na < PINGRESP")),
        scenario("x/wrong-id", &format!("{connect}a > SUBSCRIBE id=7 t qos=1\na < SUBACK id=7 1")),
    ]
}

fn play<'a>(files: &'a [File], options: &Options) -> Finished<'a> {
    let chosen: Vec<_> = files.iter().map(|file| (file, ProtocolVersion::V311)).collect();
    run::run(&chosen, options, |_| {}).expect("it greets")
}

#[test]
fn a_broker_that_never_greets_is_an_error() {
    let files = suite();
    let chosen = [(&files[0], ProtocolVersion::V311)];
    let error = run::run(&chosen, &options(broker(b"", b"")), |_| {}).expect_err("it is silent");
    assert!(error.0.contains("does not answer CONNECT"), "{error}");
    let refusing = options(broker(&[0x20, 2, 0, 5], b""));
    let error = run::run(&chosen, &refusing, |_| {}).expect_err("it refuses");
    assert!(error.0.contains("--user"), "{error}");
}

#[test]
fn a_broker_that_hangs_ends_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        // The first client is greeted; all others wait for ever.
        let (mut first, _) = listener.accept().expect("the player comes");
        let _ = first.read(&mut [0; 1024]);
        let _ = first.write_all(&[0x20, 2, 0, 0]);
        thread::sleep(Duration::from_secs(60));
    });
    let files: Vec<_> =
        (0..50).map(|index| scenario(&format!("x/{index}"), "a > CONNECT\na < CONNACK")).collect();
    let began = Instant::now();
    let finished = play(&files, &options(addr));
    assert!(began.elapsed() < Duration::from_secs(5), "50 times the patience would be 15 s");
    assert!(finished.stopped.is_some_and(|why| why.contains("does not answer")));
    assert!(finished.played.iter().filter(|played| played.outcome.is_none()).count() >= 40);
}

#[test]
fn a_scenario_and_a_run_have_their_limits() {
    let slow =
        [scenario("x/slow", "a > CONNECT\na < CONNACK\nwait 3s"), scenario("x/next", "wait 1ms")];
    let broker = broker(&[0x20, 2, 0, 0], b"");
    let limit = Duration::from_millis(200);
    let scenario_limit =
        play(&slow, &Options { scenario_limit: limit, jobs: 1, ..options(broker) });
    let failure = scenario_limit.played[0].outcome.as_ref().and_then(|o| o.failure.as_ref());
    assert_eq!(failure.expect("it was given up").problems, ["the time for the scenario is over"]);
    assert!(scenario_limit.played[1].outcome.is_some() && scenario_limit.stopped.is_none());
    let run_limit = play(&slow, &Options { run_limit: limit, jobs: 1, ..options(broker) });
    assert!(run_limit.stopped.is_some() && run_limit.played[1].outcome.is_none());
}

#[test]
fn a_listed_failure_is_known_and_a_listed_success_is_not_well() {
    let files = suite();
    let finished = play(&files, &options(broker(&[0x20, 2, 0, 0], &[0x90, 3, 0, 8, 1])));
    let deviations = |scenarios: &str| {
        let text = format!(
            "broker = \"b\"\nversion = \"1\"\n[[deviation]]\ndoes = \"Errs.\"\n\
             statements = [\"MQTT-3.12.4-1 of 3.1.1\"]\nscenarios = [{scenarios}]\n"
        );
        Deviations::parse(&text).expect("it is right")
    };
    let verdicts = |deviations: Option<&Deviations>| {
        let verdicts = finished.played.iter().map(|played| Verdict::of(played, deviations).name());
        verdicts.collect::<Vec<_>>()
    };
    assert_eq!(verdicts(None), ["passed", "failed", "failed"]);
    let both = deviations("\"x/bad\", \"x/wrong-id v3.1.1\"");
    assert_eq!(verdicts(Some(&both)), ["passed", "known deviation", "known deviation"]);
    assert_eq!(both.mistakes(&files, &Requirements::embedded()), [""; 0]);
    let wrong = deviations("\"x/good v3\", \"x/bad v5\"");
    let listed = "passed, but is listed as a deviation";
    assert_eq!(verdicts(Some(&wrong)), [listed, "failed", "failed"]);
    assert_eq!(wrong.mistakes(&files, &Requirements::embedded()).len(), 2);
}

#[test]
fn a_report_is_well_formed_and_shows_the_difference() {
    let files = suite();
    let finished = play(&files, &options(broker(&[0x20, 2, 0, 0], &[0x90, 3, 0, 8, 1])));
    let requirements = Requirements::embedded();
    let results = Results {
        run: &finished,
        broker: "a <&\"broker\">".to_owned(),
        deviations: None,
        requirements: &requirements,
        time: Duration::from_secs(1),
    };
    assert!(!results.is_good());

    let text = results::text(&results, false);
    let difference = "field   expected  received\n      packet  SUBACK    SUBACK\n    ≠ id      7         8\n      code    0x01      0x01\n";
    assert!(text.contains(difference), "{text}");
    assert!(text.contains("[MQTT-3.12.4-1] of 3.1.1, 3.12.4: "), "{text}");
    assert!(text.ends_with("1 passed, 2 failed, 0 skipped\n"), "{text}");

    let junit = results::junit(&results);
    let document = roxmltree::Document::parse(&junit).unwrap_or_else(|e| panic!("{e}\n{junit}"));
    let named = |name: &'static str| document.descendants().filter(move |n| n.has_tag_name(name));
    let suite = named("testsuite").next().expect("there is one");
    assert_eq!(suite.attribute("name"), Some("a <&\"broker\"> v3.1.1"));
    assert_eq!((suite.attribute("tests"), suite.attribute("failures")), (Some("3"), Some("2")));
    assert_eq!(named("testcase").count(), 3);
    assert_eq!(named("failure").count(), 2);
    let shown = named("failure").filter_map(|node| node.text()).collect::<String>();
    assert!(shown.contains("\"<&>"), "{shown}");

    let markdown = results::markdown(&results);
    assert!(markdown.contains("| v3.1.1 | 3 | 1 | 0 | 2 | 0 |"), "{markdown}");
    assert!(markdown.contains("### x/wrong-id (v3.1.1): failed"), "{markdown}");
}

#[test]
fn what_is_listed_of_brokers_is_in_the_suite() {
    let files = suite::built_in().expect("the suite parses");
    let requirements = Requirements::embedded();
    let peers = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec-tests/peers");
    for entry in std::fs::read_dir(peers).into_iter().flatten() {
        let path = entry.expect("it is readable").path();
        let text = std::fs::read_to_string(&path).expect("it is readable");
        let deviations = Deviations::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(deviations.mistakes(&files, &requirements), [""; 0], "{}", path.display());
    }
}
