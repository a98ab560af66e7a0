use std::{
    collections::VecDeque,
    fs,
    net::TcpListener,
    process::Command,
    sync::{Arc, mpsc::channel},
    thread,
};

use codec::{ProtocolVersion, ReasonCode};
use session_core::{Origin, Transport};

use super::{
    server::{Server, request, response},
    *,
};
use crate::{Identity, Secret};

/// A client that says nothing but its identifier.
pub(crate) fn attempt(client_id: &str) -> Attempt {
    Attempt {
        client_id: client_id.into(),
        version: ProtocolVersion::V5,
        user_name: None,
        password: None,
        method: None,
        data: None,
        origin: Box::new(Origin {
            listener: "door".into(),
            peer: Some(([192, 0, 2, 7], 1234).into()),
            transport: Transport::Tcp,
            certificates: Vec::new(),
            server_name: None,
            proxied: None,
        }),
    }
}

fn named(user: &str, password: &str) -> Attempt {
    Attempt {
        user_name: Some(user.into()),
        password: Some(Secret::new(password.as_bytes().to_vec())),
        ..attempt("c1")
    }
}

/// A server that says what it was told to, one answer for each question.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Result<Fetched, FetchError>>>,
    asked: Mutex<Vec<Vec<u8>>>,
}

impl Fetch for Script {
    fn fetch(&self, body: Option<&[u8]>) -> Result<Fetched, FetchError> {
        self.asked.lock().unwrap().push(body.unwrap().to_vec());
        self.answers.lock().unwrap().pop_front().expect("it is asked once too often")
    }
}

fn said(status: u16, body: &str) -> Result<Fetched, FetchError> {
    Ok(Fetched { status, body: body.into() })
}

fn accept() -> Result<Fetched, FetchError> {
    said(200, r#"{"result": "accept"}"#)
}

fn refuse() -> Result<Fetched, FetchError> {
    said(200, r#"{"result": "refuse"}"#)
}

fn scripted(
    config: HttpConfig,
    answers: impl IntoIterator<Item = Result<Fetched, FetchError>>,
) -> (HttpProvider, Arc<Script>) {
    let answers = Mutex::new(answers.into_iter().collect());
    let script = Arc::new(Script { answers, ..Script::default() });
    let fetch = Arc::clone(&script);
    (HttpProvider::new("http", fetch, Duration::ZERO, config).unwrap(), script)
}

fn is_accepted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Accept(_))
}

fn failure(verdict: Verdict) -> String {
    match verdict {
        Verdict::Failed { why } => why.into(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_an_answer_that_says_so_lets_anybody_in() {
    let cases = [
        (said(204, ""), "its answer is not understood, see line 1 column 0 of it"),
        (said(200, ""), "its answer is not understood, see line 1 column 0 of it"),
        (said(200, "<html>"), "its answer is not understood, see line 1 column 1 of it"),
        (said(401, r#"{"result": "accept"}"#), "its server answers with status 401"),
        (said(404, r#"{"result": "accept"}"#), "its server answers with status 404"),
        (said(500, r#"{"result": "accept"}"#), "its server answers with status 500"),
        (said(302, r#"{"result": "accept"}"#), "its server redirects (302), which is not followed"),
        (said(101, r#"{"result": "accept"}"#), "its server answers with status 101"),
        (Err(FetchError::Timeout), "its server: no answer in time"),
        (Err(FetchError::TooLarge(9)), "its server: the answer has more than 9 bytes"),
        (Err(FetchError::Unreachable("gone".into())), "its server: not to be reached: gone"),
    ];
    for (answer, why) in cases {
        let (provider, _) = scripted(HttpConfig::default(), [answer]);
        assert_eq!(failure(provider.begin(Time(0), &named("alice", "geheim"))), why);
    }
}

#[test]
fn an_enhanced_authentication_is_none_of_its_business() {
    let (provider, script) = scripted(HttpConfig::default(), []);
    let attempt = Attempt { method: Some("SCRAM-SHA-256".into()), ..named("alice", "geheim") };
    assert!(matches!(provider.begin(Time(0), &attempt), Verdict::Skip { .. }));
    assert!(script.asked.lock().unwrap().is_empty());
    assert_eq!(provider.work(), Work::Wait);
}

#[test]
fn answers_hold_for_the_same_question_and_as_long_as_the_setting_says() {
    let config = HttpConfig { cache_accepted_s: 10, cache_refused_s: 2, ..HttpConfig::default() };
    let (provider, script) = scripted(config, [accept(), refuse(), accept(), refuse()]);
    let (right, wrong) = (named("alice", "geheim"), named("alice", "Geheim"));
    for now in [0, 9_999] {
        assert!(is_accepted(&provider.begin(Time(now), &right)));
    }
    for now in [5_000, 6_999] {
        let reason = ReasonCode::BadUserNameOrPassword;
        let why = "the server refuses it".into();
        assert_eq!(provider.begin(Time(now), &wrong), Verdict::Refuse { reason, why });
    }
    assert!(is_accepted(&provider.begin(Time(7_000), &wrong)), "asked again");
    assert!(!is_accepted(&provider.begin(Time(10_000), &right)), "asked again");
    assert_eq!(script.asked.lock().unwrap().len(), 4);
}

#[test]
fn nothing_is_cached_unless_it_is_wanted_and_failures_never() {
    let (provider, _) = scripted(HttpConfig::default(), [accept(), refuse()]);
    let alice = named("alice", "geheim");
    assert!(is_accepted(&provider.begin(Time(0), &alice)));
    assert!(!is_accepted(&provider.begin(Time(0), &alice)));
    let config = HttpConfig { cache_accepted_s: 10, cache_refused_s: 10, ..HttpConfig::default() };
    let (provider, _) = scripted(config, [Err(FetchError::Timeout), accept()]);
    assert!(!is_accepted(&provider.begin(Time(0), &alice)));
    assert!(is_accepted(&provider.begin(Time(0), &alice)));
}

#[test]
fn an_acceptance_is_not_cached_beyond_its_own_end() {
    let config = HttpConfig { cache_accepted_s: 3600, ..HttpConfig::default() };
    let short = said(200, r#"{"result": "accept", "expires_in_s": 5}"#);
    let (provider, _) = scripted(config, [short, refuse()]);
    let alice = named("alice", "geheim");
    let accepted = provider.begin(Time(1_000), &alice);
    let Verdict::Accept(identity) = &accepted else { panic!("{accepted:?}") };
    assert_eq!(identity.expires, Some(Time(6_000)));
    assert_eq!(provider.begin(Time(5_999), &alice), accepted, "its end does not move");
    assert!(!is_accepted(&provider.begin(Time(6_000), &alice)));
}

/// Whatever a question says is part of what a cached answer is found by.
#[test]
fn a_cached_answer_is_given_to_nobody_else() {
    let config = HttpConfig { cache_accepted_s: 3600, ..HttpConfig::default() };
    let others: [fn(&mut Attempt); 9] = [
        |attempt| attempt.client_id = "c2".into(),
        |attempt| attempt.user_name = None,
        |attempt| attempt.user_name = Some("alicegeheim".into()),
        |attempt| attempt.password = None,
        |attempt| attempt.password = Some(Secret::new("")),
        |attempt| attempt.version = ProtocolVersion::V311,
        |attempt| attempt.origin.listener = "other".into(),
        |attempt| attempt.origin.transport = Transport::Tls,
        |attempt| attempt.origin.peer = Some(([192, 0, 2, 8], 1234).into()),
    ];
    let answers = [accept()].into_iter().chain(others.iter().map(|_| refuse()));
    let (provider, _) = scripted(config, answers);
    assert!(is_accepted(&provider.begin(Time(0), &named("alice", "geheim"))));
    for other in others {
        let mut attempt = named("alice", "geheim");
        other(&mut attempt);
        assert!(!is_accepted(&provider.begin(Time(0), &attempt)), "{attempt:?}");
    }
    let mut port = named("alice", "geheim");
    port.origin.peer = Some(([192, 0, 2, 7], 4321).into());
    assert!(is_accepted(&provider.begin(Time(0), &port)), "a port tells nothing");
}

#[test]
fn a_flood_of_wrong_passwords_does_not_push_out_who_is_known() {
    let config = HttpConfig {
        cache_accepted_s: 10,
        cache_refused_s: 10,
        cache_entries_max: 2,
        ..HttpConfig::default()
    };
    let answers = [accept()].into_iter().chain((0..100).map(|_| refuse()));
    let (provider, _) = scripted(config, answers);
    let alice = named("alice", "geheim");
    assert!(is_accepted(&provider.begin(Time(0), &alice)));
    for number in 0..100 {
        provider.begin(Time(0), &named("alice", &number.to_string()));
    }
    assert!(is_accepted(&provider.begin(Time(0), &alice)));
}

#[test]
fn a_server_that_fails_again_and_again_is_left_alone() {
    let config = HttpConfig {
        breaker: BreakerConfig { failures: 2, open_ms: 1000 },
        ..HttpConfig::default()
    };
    let timeout = || Err(FetchError::Timeout);
    let (provider, script) = scripted(config, [timeout(), said(503, ""), timeout(), accept()]);
    let alice = named("alice", "geheim");
    let at = |now| provider.begin(Time(now), &alice);
    assert_eq!(failure(at(0)), "its server: no answer in time");
    assert_eq!(failure(at(1)), "its server answers with status 503");
    let why = "its server has failed too often and is left alone for 1 s";
    assert_eq!(failure(at(2)), why);
    assert_eq!(failure(at(1_001)), "its server: no answer in time", "one try");
    assert_eq!(failure(at(1_002)), why);
    assert!(is_accepted(&at(2_001)));
    assert_eq!(script.asked.lock().unwrap().len(), 4);
}

/// A client that makes the server answer nonsense must not keep the others out.
#[test]
fn answers_that_cannot_be_used_do_not_open_the_breaker() {
    let config = HttpConfig {
        breaker: BreakerConfig { failures: 2, open_ms: 1000 },
        ..HttpConfig::default()
    };
    let nonsense = [said(400, ""), said(200, "?"), Err(FetchError::TooLarge(9)), said(302, "")];
    let (provider, _) = scripted(config, nonsense.into_iter().chain([accept()]));
    for _ in 0..4 {
        failure(provider.begin(Time(0), &named("alice", "geheim")));
    }
    assert!(is_accepted(&provider.begin(Time(0), &named("alice", "geheim"))));
}

#[test]
fn too_many_questions_at_a_time_fail_as_busy() {
    struct Slow(Mutex<std::sync::mpsc::Receiver<()>>, std::sync::mpsc::Sender<()>);
    impl Fetch for Slow {
        fn fetch(&self, _: Option<&[u8]>) -> Result<Fetched, FetchError> {
            self.1.send(()).unwrap();
            self.0.lock().unwrap().recv().unwrap();
            accept()
        }
    }
    let ((go, goes), (asks, is_asked)) = (channel(), channel());
    let config = HttpConfig { asking_max: 1, waiting_max: 0, ..HttpConfig::default() };
    let fetch = Arc::new(Slow(Mutex::new(goes), asks));
    let provider = HttpProvider::new("http", fetch, Duration::from_secs(60), config).unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| provider.begin(Time(0), &attempt("c1")));
        is_asked.recv().unwrap();
        let why = failure(provider.begin(Time(0), &attempt("c2")));
        assert_eq!(why, "busy: too many questions wait");
        go.send(()).unwrap();
        assert!(is_accepted(&first.join().unwrap()));
    });
}

#[test]
fn no_text_of_the_provider_holds_a_password() {
    let config = HttpConfig { cache_accepted_s: 10, ..HttpConfig::default() };
    let (provider, _) = scripted(config, [accept(), said(200, "geheim")]);
    provider.begin(Time(0), &named("alice", "geheim"));
    let failed = provider.begin(Time(0), &named("alice", "geheim2"));
    let mut endpoint = EndpointConfig::new("https://localhost/?key=geheim");
    endpoint.headers.insert("Authorization".into(), "Bearer geheim".into());
    let opened = Endpoint::open(&endpoint).unwrap();
    let text = format!("{provider:?} {failed:?} {endpoint:?} {opened:?}");
    assert!(!text.contains("geheim"), "{text}");
}

/// The client's own log has all bytes that it sends, from level `trace` on. It is compiled out.
#[test]
fn the_http_client_cannot_log_what_it_sends_at_any_level() {
    assert!(log::STATIC_MAX_LEVEL <= log::LevelFilter::Info);
}

// With sockets.

fn endpoint(url: &str) -> EndpointConfig {
    // Whatever is not slow on purpose answers within this, however busy the machine is.
    EndpointConfig { timeout_ms: 60_000, connect_timeout_ms: 60_000, ..EndpointConfig::new(url) }
}

fn asked_there(endpoint: &EndpointConfig) -> Verdict {
    let provider = HttpProvider::open("http", endpoint, HttpConfig::default()).unwrap();
    provider.begin(Time(0), &named("alice", "geheim"))
}

#[test]
fn a_server_is_asked_by_post_with_the_headers_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("headers");
    fs::write(&file, "# secret\n\nAuthorization: Bearer t0ken\n").unwrap();
    let server = Server::answering(|head, body| {
        let told: serde_json::Value = serde_json::from_slice(body).unwrap();
        let head = head.to_ascii_lowercase();
        let is_right = head.starts_with("post /auth http/1.1\r\n")
            && head.contains("\r\ncontent-type: application/json\r\n")
            && head.contains("\r\nauthorization: bearer t0ken\r\n")
            && head.contains("\r\nx-broker: one\r\n")
            && told["password"] == "geheim";
        let result = if is_right { "accept" } else { "skip" };
        response("200 OK", "", &format!(r#"{{"result": "{result}", "user": "a"}}"#))
    });
    let mut endpoint = endpoint(&server.url());
    endpoint.headers.insert("X-Broker".into(), "one".into());
    endpoint.headers_file = Some(file);
    let identity = Identity { user: Some("a".into()), ..Identity::default() };
    assert_eq!(asked_there(&endpoint), Verdict::Accept(Box::new(identity)));
}

#[test]
fn refusals_skips_and_errors_of_a_server_arrive_as_such() {
    let answers = Mutex::new(VecDeque::from([
        response("200 OK", "", r#"{"result": "refuse"}"#),
        response("200 OK", "", r#"{"result": "skip"}"#),
        response("503 Service Unavailable", "", ""),
        "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"result\": \"accept\"}".into(),
        "no http at all\r\n\r\n".into(),
        String::new(),
    ]));
    let server = Server::answering(move |_, _| answers.lock().unwrap().pop_front().unwrap());
    let endpoint = endpoint(&server.url());
    assert!(matches!(asked_there(&endpoint), Verdict::Refuse { .. }));
    assert!(matches!(asked_there(&endpoint), Verdict::Skip { .. }));
    for _ in 0..4 {
        failure(asked_there(&endpoint));
    }
}

#[test]
fn a_server_that_never_answers_fails_in_a_bounded_time() {
    let (hold, held) = channel();
    let server = Server::start(move |stream| hold.send(stream).unwrap());
    let endpoint = EndpointConfig { timeout_ms: 100, ..endpoint(&server.url()) };
    assert_eq!(failure(asked_there(&endpoint)), "its server: no answer in time");
    drop(held);
}

#[test]
fn an_oversized_answer_is_not_read_to_its_end() {
    let long = format!(r#"{{"result": "accept", "why": "{}"}}"#, "x".repeat(5000));
    let server = Server::answering(move |_, _| response("200 OK", "", &long));
    let endpoint = EndpointConfig { answer_bytes_max: 1000, ..endpoint(&server.url()) };
    let why = "its server: the answer has more than 1000 bytes";
    assert_eq!(failure(asked_there(&endpoint)), why);
    // One that does not say how long it is, and never ends.
    let server = Server::start(|mut stream| {
        use std::io::Write;
        request(&mut stream).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b' '; 1000]).is_ok() {}
    });
    let endpoint = EndpointConfig { url: server.url(), ..endpoint };
    assert_eq!(failure(asked_there(&endpoint)), why);
}

/// Whoever can make the server redirect could else let the broker ask any place in its network.
#[test]
fn a_redirect_is_not_followed() {
    let inside = Server::answering(|_, _| response("200 OK", "", r#"{"result": "accept"}"#));
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let location = format!("Location: {}\r\n", inside.url());
        let server = Server::answering(move |_, _| response(status, &location, ""));
        let why = failure(asked_there(&endpoint(&server.url())));
        assert!(why.contains("redirects"), "{why}");
    }
    assert_eq!(inside.connections.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn a_server_that_is_not_there_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let why = failure(asked_there(&endpoint(&url)));
    assert!(why.starts_with("its server: not to be reached"), "{why}");
}

/// Runs a test of this program again with a proxy in the environment, at which nobody listens.
#[test]
fn a_proxy_of_the_environment_is_not_used() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "http::tests::refusals_skips_and_errors_of_a_server_arrive_as_such"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"]
    {
        again.env(name, &proxy);
    }
    let output = again.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn what_is_wrong_with_the_configuration_is_said_before_anybody_asks() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        Some(path)
    };
    let sound = || EndpointConfig::new("https://auth.example/");
    let with = |name: &str, value: &str| EndpointConfig {
        headers: [(name.to_owned(), value.to_owned())].into(),
        ..sound()
    };
    let absent = Some(directory.path().join("absent"));
    let cases = [
        (EndpointConfig::new("auth.example"), "https://"),
        (EndpointConfig::new("ftp://auth.example/"), "https://"),
        (EndpointConfig::new("https://"), "`url`"),
        (EndpointConfig::new("https://user:geheim@auth.example/"), "headers_file"),
        (EndpointConfig::new("https://auth.example/ geheim"), "`url`"),
        (with("X-A", "geheim\r\nX-B: 1"), "control character"),
        (with("X A", "geheim"), "no name of a header"),
        (with("Host", "geheim"), "set by the broker"),
        (EndpointConfig { headers_file: absent.clone(), ..sound() }, "cannot read"),
        (EndpointConfig { headers_file: file("h", "X: 1\ngeheim\n"), ..sound() }, "h:2: a line"),
        (EndpointConfig { ca_file: absent, ..sound() }, "cannot read"),
        (EndpointConfig { ca_file: file("ca", ""), ..sound() }, "holds no certificate"),
        (EndpointConfig { certificate_file: file("c", ""), ..sound() }, "no certificate"),
        (EndpointConfig { key_file: file("k", ""), ..sound() }, "certificate_file"),
    ];
    for (config, part) in cases {
        let problem = Endpoint::open(&config).map(|_| ()).unwrap_err();
        assert!(problem.contains(part) && !problem.contains("geheim"), "{config:?}: {problem}");
    }
    assert!(Endpoint::open(&sound()).is_ok());
}

#[test]
fn what_can_be_read_on_the_way_is_known() {
    for (url, is_exposed) in [
        ("https://auth.example/", false),
        ("http://auth.example/", true),
        ("http://127.0.0.1:8080/", false),
        ("http://[::1]:8080/", false),
        ("http://localhost/", false),
        ("http://localhost.example/", true),
        ("http://10.0.0.1/", true),
    ] {
        assert_eq!(EndpointConfig::new(url).is_exposed(), is_exposed, "{url}");
    }
}
