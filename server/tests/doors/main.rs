//! Doors and keys with programs that nobody here wrote: mosquitto's clients, paho-mqtt, `openssl s_client`, haproxy and
//! nginx, against the broker binary over loopback.
//!
//! Nothing sleeps to get an order: a step begins when the step before it was confirmed. `CAIRNMQ_REQUIRE_CLIENTS=1`
//! fails where a program is missing, instead of skipping.
#![allow(clippy::print_stderr, reason = "a skipped test has to say so")]

mod certificates;
#[path = "../clients/process.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod process;
mod raw;
mod setup;

use std::{fs, os::unix::fs::symlink};

use certificates::{Authority, Files};
use codec::ReasonCode;
use setup::{Broker, free_port, has, mosquitto, paho};

/// Everybody may do everything below its own name.
const OWN: &str = "[[rule]]\nallow = [\"publish\", \"subscribe\"]\ntopics = \"${username}/#\"\n";

const X509: &str = "[access]\nrules = \"rules.toml\"\n[[access.provider]]\nkind = \"x509\"\n";

const PASSWORDS: &str = "[access]\nrules = \"rules.toml\"\n[[access.provider]]\nkind = \"password\"\nfile = \"passwords\"\n";

fn with_blocks(access: &str) -> String {
    access.replace("[[access", "blocks = \"blocks.toml\"\n[[access")
}

fn tls(files: &Files) -> String {
    format!("certificate = {:?}\nkey = {:?}\n", files.chain, files.key)
}

#[test]
fn mosquitto_clients_with_certificates_of_their_own() {
    if !has(&["mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca");
    let server = authority.server("server", &["localhost", "127.0.0.1"]);
    let (alice, mallory) = (authority.client("alice", 7), authority.client("mallory", 8));
    let crl = authority.revoke("crl.pem", &[&mallory]);
    let config = format!(
        "[[listener]]\nurl = \"tls://127.0.0.1:0\"\nclient_certificates = \"required\"\nclient_ca = [{:?}]\n\
         crl = [{crl:?}]\n{}{X509}",
        authority.path("ca.pem"),
        tls(&server),
    );
    let broker = Broker::start(folder, &config, OWN);
    let client = |verb: &str, files: Option<&Files>| {
        let mut command = mosquitto(verb, broker.port(0));
        command.args(["--cafile", &authority.path("ca.pem")]);
        if let Some(files) = files {
            command.args(["--cert", &files.chain, "--key", &files.key]);
        }
        command
    };
    let mut reader =
        broker.run("reader", client("sub", Some(&alice)).args(["-t", "alice/#", "-d", "-v"]));
    reader.wait_for("SUBACK", |line| line.contains("Subscribed").then_some(()));
    broker
        .run(
            "writer",
            client("pub", Some(&alice)).args(["-t", "alice/x", "-m", "by TLS", "-q", "1"]),
        )
        .wait_for_success();
    reader.wait_for("the message", |line| (line == "alice/x by TLS").then_some(()));
    for files in [None, Some(&mallory)] {
        let mut refused =
            broker.run("refused", client("pub", files).args(["-t", "mallory/x", "-m", "x"]));
        assert!(!refused.wait_until_gone().success(), "{:?}", files.is_some());
    }
    // The rules hold as they do at any other door: another's topic is not its own.
    let mut denied = broker.run(
        "denied",
        client("pub", Some(&alice)).args(["-V", "mqttv5", "-t", "bob/x", "-m", "x", "-q", "1"]),
    );
    denied.wait_for("0x87", |line| line.contains("Not authorized").then_some(()));
}

#[test]
fn openssl_agrees_on_protocol_name_and_version() {
    if !has(&["openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca");
    let first = authority.server("first", &["localhost"]);
    let second = authority.server("second", &["other.example"]);
    let config = format!(
        "[[listener]]\nurl = \"tls://127.0.0.1:0\"\n{}[[listener.sni]]\n{}{X509}",
        tls(&first),
        tls(&second),
    );
    let broker = Broker::start(folder, &config, OWN);
    let says = |arguments: &[&str], expected: &[&str]| {
        let mut command = std::process::Command::new("openssl");
        command.args(["s_client", "-connect", &format!("127.0.0.1:{}", broker.port(0))]);
        command
            .args(["-CAfile", &authority.path("ca.pem"), "-verify_return_error"])
            .args(arguments);
        let output = command.stdin(std::process::Stdio::null()).output().expect("openssl runs");
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        for expected in expected {
            assert!(text.contains(expected), "{arguments:?}: {expected}\n{text}");
        }
    };
    let good = "Verify return code: 0 (ok)";
    says(&["-tls1_3", "-alpn", "mqtt"], &[good, "ALPN protocol: mqtt", "TLSv1.3", "CN = server"]);
    says(
        &["-tls1_2", "-servername", "other.example", "-verify_hostname", "other.example"],
        &[good, "TLSv1.2"],
    );
    says(&["-tls1_3", "-servername", "localhost", "-verify_hostname", "localhost"], &[good]);
    says(&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], &["no peer certificate available"]);
}

#[test]
fn paho_over_websocket_with_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca");
    let server = authority.server("server", &["localhost", "127.0.0.1"]);
    let config = format!("[[listener]]\nurl = \"wss://127.0.0.1:0\"\n{}{PASSWORDS}", tls(&server));
    let broker = Broker::start(folder, &config, OWN);
    broker.add_user("alice", "secret");
    for version in ["mqttv311", "mqttv5"] {
        let client = |verb: &str, password: &str| {
            let mut command = paho(verb, broker.port(0))?;
            command.args(["-V", version, "--ws", "/mqtt", "--cafile", &authority.path("ca.pem")]);
            command.args(["-u", "alice", "-P", password]);
            Some(command)
        };
        let Some(mut reader) = client("sub", "secret") else { return };
        let mut reader = broker.run("reader", reader.args(["-t", "alice/#", "-q", "1"]));
        reader.wait_for("SUBACK", |line| line.contains("Subscribed").then_some(()));
        let mut writer = client("pub", "secret").expect("found before");
        broker
            .run("writer", writer.args(["-t", "alice/x", "-q", "1", "-m", "framed"]))
            .wait_for_success();
        reader.wait_for("the message", |line| (line == "message alice/x 1 0 framed").then_some(()));
        let mut wrong = client("pub", "guess").expect("found before");
        let mut wrong = broker.run("wrong", wrong.args(["-t", "alice/x", "-q", "1", "-m", "x"]));
        wrong.wait_for("a refusal", |line| {
            let answer = line.strip_prefix("Received CONNACK (0, ")?;
            assert!(!answer.starts_with('0') && !answer.starts_with("Success"), "{line}");
            Some(())
        });
    }
}

#[test]
fn haproxy_tells_addresses_and_names_by_proxy_version_2() {
    if !has(&["haproxy", "mosquitto_pub"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca");
    let server = authority.server("server", &["localhost", "127.0.0.1"]);
    let alice = authority.client("alice", 7);
    let pem = authority.path("haproxy.pem");
    fs::write(
        &pem,
        fs::read_to_string(&server.chain).unwrap() + &fs::read_to_string(&server.key).unwrap(),
    )
    .unwrap();
    let config = format!(
        "[[listener]]\nurl = \"tcp://127.0.0.1:0\"\nproxy_from = [\"127.0.0.1\"]\n{X509}trust_proxy = true\n"
    );
    let broker = Broker::start(folder, &config, OWN);
    let front = free_port();
    let haproxy = format!(
        "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1m\n  timeout server 1m\n\
         frontend mqtt\n  bind 127.0.0.1:{front} ssl crt {pem} ca-file {} verify required\n  default_backend broker\n\
         backend broker\n  server one 127.0.0.1:{} send-proxy-v2-ssl-cn\n",
        authority.path("ca.pem"),
        broker.port(0),
    );
    let _haproxy = broker.serve("haproxy", front, &haproxy, &["haproxy", "-db", "-f"]);
    let mut command = mosquitto("pub", front);
    command.args([
        "--cafile",
        &authority.path("ca.pem"),
        "--cert",
        &alice.chain,
        "--key",
        &alice.key,
    ]);
    command.args(["-A", "127.0.0.5", "-t", "alice/x", "-m", "x", "-q", "1", "-i", "proxied"]);
    broker.run("writer", &mut command).wait_for_success();
    broker.wait_for_line(&["connected", "client=\"proxied\"", "peer=127.0.0.5:", "user=\"alice\""]);
}

#[test]
fn nginx_stands_before_the_websocket() {
    if !has(&["nginx"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[[listener]]\nurl = \"ws://127.0.0.1:0\"\nforwarded_from = [\"127.0.0.1\"]\n{PASSWORDS}"
    );
    let broker = Broker::start(folder, &config, OWN);
    broker.add_user("alice", "secret");
    let Some(mut command) = paho("pub", 0) else { return };
    let front = free_port();
    let place = broker.path("nginx");
    fs::create_dir(&place).unwrap();
    let nginx = format!(
        "daemon off;\nmaster_process off;\npid {place}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n  access_log off;\n\
         client_body_temp_path {place}/a;\n  proxy_temp_path {place}/b;\n  fastcgi_temp_path {place}/c;\n  \
         uwsgi_temp_path {place}/d;\n  scgi_temp_path {place}/e;\n  server {{\n    listen 127.0.0.1:{front};\n    \
         location /mqtt {{\n      proxy_pass http://127.0.0.1:{};\n      proxy_http_version 1.1;\n      \
         proxy_set_header Upgrade $http_upgrade;\n      proxy_set_header Connection upgrade;\n      \
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    }}\n  }}\n}}\n",
        broker.port(0),
    );
    let _nginx = broker.serve("nginx", front, &nginx, &["nginx", "-e", "stderr", "-c"]);
    command.args([
        "-p",
        &front.to_string(),
        "-V",
        "mqttv5",
        "--ws",
        "/mqtt",
        "-u",
        "alice",
        "-P",
        "secret",
    ]);
    command.args(["-A", "127.0.0.6", "-t", "alice/x", "-m", "x", "-q", "1", "-i", "proxied"]);
    broker.run("writer", &mut command).wait_for_success();
    broker.wait_for_line(&["connected", "client=\"proxied\"", "peer=127.0.0.6:"]);
}

#[test]
fn rights_that_are_taken_away_end_at_once() {
    if !has(&["mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(
        folder,
        &format!("listen = [\"tcp://127.0.0.1:0\"]\n{}", with_blocks(PASSWORDS)),
        OWN,
    );
    broker.add_user("alice", "secret");
    let client = |verb: &str, port| {
        let mut command = mosquitto(verb, port);
        command.args(["-V", "mqttv5", "-u", "alice", "-P", "secret"]);
        command
    };
    let mut reader = client("sub", broker.port(0));
    let mut reader =
        broker.run("reader", reader.args(["-t", "alice/#", "-t", "alice/b", "-d", "-v"]));
    reader.wait_for("SUBACK", |line| line.contains("Subscribed").then_some(()));

    broker.write("rules.toml", "[[rule]]\nallow = \"publsh\"\ntopics = \"#\"\n");
    broker.wait_for_line(&["what was in force stays so", "rules.toml:2:9", "publsh"]);
    let publish = |broker: &Broker, topic: &str| {
        let mut writer = client("pub", broker.port(0));
        broker.run("writer", writer.args(["-t", topic, "-m", "x", "-q", "1"])).wait_until_gone()
    };
    assert!(publish(&broker, "alice/a").success());
    reader.wait_for("the message", |line| (line == "alice/a x").then_some(()));

    broker.write(
        "rules.toml",
        "[[rule]]\nallow = \"publish\"\ntopics = \"#\"\n[[rule]]\nallow = \"subscribe\"\ntopics = \"alice/b\"\n",
    );
    broker.wait_for_line(&["access changed and was read again"]);
    assert!(publish(&broker, "alice/a").success() && publish(&broker, "alice/b").success());
    reader.wait_for("only the second", |line| {
        line.starts_with("alice/").then(|| assert_eq!(line, "alice/b x"))
    });

    // A block cuts off who is connected, and keeps it out; a broken file changes nothing.
    broker.write("blocks.toml", "[[block]]\nuser = \"alice\"\nnote = \"test\"\n");
    broker.wait_for_line(&["refused", "blocked", "test"]);
    broker.wait_for_line(&["disconnected", "0x87"]);
    broker.write("blocks.toml", "[[blok]]\n");
    broker.wait_for_line(&["what was in force stays so", "blocks.toml:1"]);
    assert!(!publish(&broker, "alice/b").success());
    broker.write("blocks.toml", "");
    broker.wait_for_line(&["the file of blocks changed and was read again"]);
    let mut reader = client("sub", broker.port(0));
    let mut reader = broker.run("reader", reader.args(["-t", "alice/b", "-d"]));
    reader.wait_for("SUBACK", |line| line.contains("Subscribed").then_some(()));

    // Who is no user any more does not stay.
    broker.write("passwords", "");
    broker.wait_for_line(&["disconnected", "0x87"]);
    assert!(!publish(&broker, "alice/b").success());
}

#[test]
fn a_certificate_behind_a_link_is_swapped() {
    if !has(&["openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca");
    let (old, new) =
        (authority.server("old", &["old.example"]), authority.server("new", &["new.example"]));
    let (chain, key) = (authority.path("live.crt"), authority.path("live.key"));
    let link = |files: &Files| {
        for (target, name) in [(&files.chain, &chain), (&files.key, &key)] {
            let fresh = format!("{name}.fresh");
            symlink(target, &fresh).unwrap();
            fs::rename(&fresh, name).unwrap();
        }
    };
    link(&old);
    let config = format!(
        "[[listener]]\nurl = \"tls://127.0.0.1:0\"\ncertificate = {chain:?}\nkey = {key:?}\n{X509}"
    );
    let broker = Broker::start(folder, &config, OWN);
    let is_shown = |name: &str, port: u16| {
        let mut command = std::process::Command::new("openssl");
        command.args([
            "s_client",
            "-connect",
            &format!("127.0.0.1:{port}"),
            "-verify_hostname",
            name,
        ]);
        command.args(["-CAfile", &authority.path("ca.pem"), "-verify_return_error"]);
        let output = command.stdin(std::process::Stdio::null()).output().expect("openssl runs");
        String::from_utf8_lossy(&output.stdout).contains("Verify return code: 0 (ok)")
    };
    assert!(is_shown("old.example", broker.port(0)) && !is_shown("new.example", broker.port(0)));
    link(&new);
    broker.wait_for_line(&["certificates of tls://127.0.0.1:0 changed and was read again"]);
    assert!(is_shown("new.example", broker.port(0)));
}

#[test]
fn a_token_of_openssl_lets_mosquitto_in_until_it_lapses() {
    if !has(&["mosquitto_pub", "openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let secret = "a secret of at least 32 bytes, as it has to be";
    fs::write(folder.path().join("secret"), format!("{secret}\n")).unwrap();
    let config = "[[listener]]\nurl = \"tcp://127.0.0.1:0\"\n[access]\nrules = \"rules.toml\"\n[[access.provider]]\n\
                  kind = \"jwt\"\nalgorithms = [\"HS256\"]\nkey_file = \"secret\"\nleeway_s = 0\n";
    let broker = Broker::start(folder, config, OWN);
    let token = |lasts_s| token(secret, lasts_s);
    let client = |verb: &str, token: &str| {
        let mut command = mosquitto(verb, broker.port(0));
        command.args(["-V", "mqttv5", "-u", "whatever", "-P", token]);
        command
    };
    broker
        .run("writer", client("pub", &token(60)).args(["-t", "alice/x", "-m", "x", "-q", "1"]))
        .wait_for_success();
    let mut forged =
        broker.run("forged", client("pub", &(token(60) + "A")).args(["-t", "alice/x", "-m", "x"]));
    assert!(!forged.wait_until_gone().success());
    let mut lapsing = broker.run("lapsing", client("sub", &token(2)).args(["-t", "alice/#", "-d"]));
    lapsing.wait_for("SUBACK", |line| line.contains("Subscribed").then_some(()));
    broker.wait_for_line(&["disconnected", "0x87"]);
}

/// A token that openssl has signed.
fn token(secret: &str, lasts_s: u64) -> String {
    let base64 = |bytes: &[u8]| {
        pipe(&["openssl", "base64", "-A"], bytes)
            .replace('+', "-")
            .replace('/', "_")
            .replace('=', "")
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = format!("{{\"sub\":\"alice\",\"exp\":{}}}", now + lasts_s);
    let signed = format!("{}.{}", base64(b"{\"alg\":\"HS256\"}"), base64(claims.as_bytes()));
    let hex = pipe(&["openssl", "dgst", "-sha256", "-hmac", secret, "-r"], signed.as_bytes());
    let byte = |at: usize| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..32).map(byte).collect();
    format!("{signed}.{}", base64(&bytes))
}

/// No client program speaks AUTH, so that this one is ours.
#[test]
fn a_token_is_renewed_within_the_session() {
    if !has(&["openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let secret = "a secret of at least 32 bytes, as it has to be";
    fs::write(folder.path().join("secret"), secret).unwrap();
    let config = "[[listener]]\nurl = \"tcp://127.0.0.1:0\"\n[access]\nrules = \"rules.toml\"\n[[access.provider]]\n\
                  kind = \"jwt\"\nalgorithms = [\"HS256\"]\nkey_file = \"secret\"\n";
    let broker = Broker::start(folder, config, OWN);
    let mut client = raw::Client::connect(broker.port(0), "JWT", &token(secret, 60));
    assert_eq!(client.authenticate(&token(secret, 600)), raw::Said::Auth(ReasonCode::Success));
    let forged = token("another secret, of at least 32 bytes, as it has to be", 600);
    assert_eq!(client.authenticate(&forged), raw::Said::Goodbye(ReasonCode::NotAuthorized));
}

/// No kind of listener has another way in: what one refuses, all refuse.
#[test]
fn every_door_has_the_same_rules() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca");
    let keys = tls(&authority.server("server", &["localhost", "127.0.0.1"]));
    let socket = folder.path().join("socket").display().to_string();
    fs::write(folder.path().join("blocks.toml"), "[[block]]\nclient_id = \"blocked\"\n").unwrap();
    let limit = "publish_rate_in = \"1:60\"\n";
    let config = format!(
        "[[listener]]\nurl = \"tcp://127.0.0.1:0\"\n{limit}[[listener]]\nurl = \"tls://127.0.0.1:0\"\n{limit}{keys}\
         [[listener]]\nurl = \"ws://127.0.0.1:0\"\n{limit}[[listener]]\nurl = \"wss://127.0.0.1:0\"\n{limit}{keys}\
         [[listener]]\nurl = \"unix://{socket}\"\n{limit}{}",
        with_blocks(PASSWORDS),
    );
    let broker = Broker::start(folder, &config, OWN);
    broker.add_user("alice", "secret");
    let ca = authority.path("ca.pem");
    let doors: [(&str, Vec<&str>); 5] = [
        ("127.0.0.1", vec![]),
        ("127.0.0.1", vec!["--cafile", &ca]),
        ("127.0.0.1", vec!["--ws", "/mqtt"]),
        ("127.0.0.1", vec!["--ws", "/mqtt", "--cafile", &ca]),
        (&socket, vec![]),
    ];
    for (door, (host, arguments)) in doors.iter().enumerate() {
        let publish = |id: &str, password: &str, topic: &str, lines: &str| {
            let mut command = paho("pub", broker.port(door.min(3)))?;
            command.args(["-h", host, "-V", "mqttv5", "-u", "alice", "-P", password, "-i", id]);
            command.args(["-t", topic, "-q", "1", "-l"]).args(arguments);
            Some(broker.run_with("client", &mut command, lines))
        };
        let Some(mut good) = publish("good", "secret", "alice/x", "1\n") else { return };
        good.wait_for_success();
        let say = |id, password, topic, lines, expected: &str| {
            let mut client = publish(id, password, topic, lines).expect("found before");
            client.wait_for(expected, |line| line.contains(expected).then_some(()));
        };
        say("wrong", "guess", "alice/x", "1\n", "Bad user name or password");
        say("blocked", "secret", "alice/x", "1\n", "Banned");
        say("denied", "secret", "bob/x", "1\n", "Published (mid: 1): 135");
        say("quick", "secret", "alice/x", "1\n2\n", "Published (mid: 2): 151");
    }
}

/// What a program says when it is given this.
fn pipe(command: &[&str], input: &[u8]) -> String {
    use std::{io::Write as _, process::Stdio};
    let mut started = std::process::Command::new(command[0]);
    let mut child =
        started.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// The simplest HTTP server: Python's.
const JUDGE: &str = r#"
import http.server, json, sys
class Judge(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        right = asked["user_name"] == "alice" and asked["password"] == "secret"
        answer = {"result": "accept", "user": "alice", "publish": ["alice/#"]} if right else {"result": "refuse"}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Judge).serve_forever()
"#;

#[test]
fn a_server_is_asked_by_http() {
    if !has(&["mosquitto_pub", "python3"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = format!(
        "[[listener]]\nurl = \"tcp://127.0.0.1:0\"\n[access]\nrules = \"rules.toml\"\n[[access.provider]]\n\
         kind = \"http\"\nendpoint = {{ url = \"http://127.0.0.1:{port}/mqtt\" }}\n"
    );
    // Port by port: the broker's own listener is the first that its log names.
    let broker =
        Broker::start(folder, &config.replace("http://127.0.0.1:", "http://localhost:"), "");
    fs::write(broker.path("judge.py"), JUDGE).unwrap();
    let publish = |user: &str, password: &str, topic: &str| {
        let mut command = mosquitto("pub", broker.port(0));
        command.args([
            "-V", "mqttv5", "-u", user, "-P", password, "-t", topic, "-m", "x", "-q", "1", "-d",
        ]);
        broker.run("writer", &mut command)
    };
    // While nobody answers, nobody comes in.
    assert!(!publish("alice", "secret", "alice/x").wait_until_gone().success());
    let mut server = std::process::Command::new("python3");
    let _server = broker.run("judge", server.args(["judge.py", &port.to_string()]));
    setup::wait_until_listening("judge", port);
    publish("alice", "secret", "alice/x").wait_for_success();
    publish("alice", "secret", "bob/x")
        .wait_for("0x87", |line| line.contains("RC:135").then_some(()));
    assert!(!publish("alice", "guess", "alice/x").wait_until_gone().success());
    // A name that would end the text it stands in is only a name.
    assert!(!publish("\",\"user_name\":\"alice", "secret", "alice/x").wait_until_gone().success());
}
