//! What keys mean, and the documents that are made of it: the reference, and a file to begin with.

use std::fmt::Write as _;

use settings::{Entry, Kind};

use super::Config;
use crate::address::ListenUrl;

/// A table of the file, what it is about, and its keys.
type Table = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The same with all keys.
type Section = (String, String, Vec<(String, String)>);

/// Limits and features are explained where they are defined.
const CORE: &str = include_str!("../../../session-core/src/config.rs");

/// All but limits and features, in the order of the reference.
const TABLES: &[Table] = &[
    (
        "",
        "Where clients connect and how many threads serve them. A key before the first table.",
        &[
            (
                "listen",
                "Addresses to serve, such as `tcp://127.0.0.1:1883`; those of [[listener]] are served too. If neither is there: `tcp://127.0.0.1:1883` and `tcp://[::1]:1883`.",
            ),
            (
                "allow_anonymous",
                "Let everybody connect, even from other machines, though no [access] says who may.",
            ),
            (
                "workers",
                "Worker threads; if it is not set, one for every two processors. A change needs a restart.",
            ),
        ],
    ),
    (
        "listener",
        "A listener with options; any number of them. See security.md.",
        &[
            (
                "url",
                "`tcp://`, `tls://`, `ws://` or `wss://HOST:PORT`, or `unix:///PATH`. Required.",
            ),
            ("name", "What rules and the log call it; its url if it is not set."),
            ("path", "The path that WebSocket requests have to name."),
            ("origins", "Whose pages may connect by WebSocket; empty: everybody's."),
            ("require_origin", "Refuse WebSocket requests that name no origin."),
            ("forwarded_from", "Proxies whose `X-Forwarded-For` is believed, as address ranges."),
            (
                "proxy_from",
                "Proxies that tell the client's address by the PROXY protocol, as address ranges; everybody else is turned away.",
            ),
            ("mode", "Permissions of the socket file, octal; `unix://` only."),
            ("providers", "The only providers that are asked here, by name; all if it is not set."),
            ("connections_max", "Open connections of this listener."),
            (
                "publish_rate_in",
                "Messages that each client here may publish, as `COUNT:SECONDS` (several with commas).",
            ),
            (
                "byte_rate_in",
                "Bytes of messages that each client here may publish, in the same form.",
            ),
            ("publish_rate_out", "Messages that each client here gets at most."),
            ("byte_rate_out", "Bytes of messages that each client here gets at most."),
            ("over_rate", "What happens to a client that publishes more."),
            ("client_subscriptions_max", "Subscriptions of each client here."),
            ("handshake_timeout_ms", "For PROXY header, TLS and WebSocket together, milliseconds."),
            ("certificate", "The certificate chain, a PEM file; `tls://` and `wss://`."),
            ("key", "Its private key, a PEM file."),
            (
                "sni",
                "Further certificates, for clients that ask for their names: [[listener.sni]].",
            ),
            ("sni.certificate", "The certificate chain of one of them."),
            ("sni.key", "Its private key."),
            ("client_certificates", "Whether clients show a certificate."),
            ("client_ca", "Authorities that may have signed it, PEM files."),
            ("crl", "Lists of revoked certificates, PEM files."),
            (
                "crl_strict",
                "Refuse a certificate whose authority has no list in `crl`, or an outdated one.",
            ),
            ("tls_minimum", "The oldest version of TLS that is spoken."),
            (
                "cipher_suites",
                "Cipher suites by name, best first; all that are safe if it is empty.",
            ),
        ],
    ),
    (
        "connections",
        "How many may knock, and how often, before anything is done for them.",
        &[
            (
                "rate",
                "New connections of all listeners together, as `COUNT:SECONDS` (several with commas).",
            ),
            ("rate_per_address", "New connections from one address (of IPv6, one /64)."),
            ("max_per_address", "Open connections from one address."),
            ("except", "Addresses for which neither of the two per address holds."),
        ],
    ),
    (
        "access",
        "Who may connect, and what they may do. Without this table everybody who can reach the broker may do everything. See security.md.",
        &[
            (
                "denied_publish_v3",
                "What happens to a client before 5.0 that publishes what it may not: it cannot be told.",
            ),
            ("rules", "The file of rules; nothing is allowed without one."),
            ("mosquitto_acl", "mosquitto's `acl_file` instead."),
            (
                "subscribe",
                "How subscriptions are judged by mosquitto's file: `strict` wants a right for the whole filter, `as_mosquitto` judges each message.",
            ),
            ("blocks", "Where blocks are kept; they end with the broker if it is not set."),
            ("compute_threads", "Threads that hash passwords; 0: one for every two processors."),
            ("waiting_max", "Questions to other servers at a time."),
            ("queue_max", "Logins that wait for a thread; more are told that the server is busy."),
        ],
    ),
    (
        "access.guard",
        "When an address is kept out by itself.",
        &[
            ("failures", "Failed logins; 0 keeps nobody out."),
            ("within_ms", "Within so long, milliseconds."),
            ("block_ms", "Keep it out for so long, milliseconds; twice as long each further time."),
            ("block_ms_max", "Not longer, milliseconds."),
            ("except", "Addresses that are never kept out."),
        ],
    ),
    (
        "access.provider",
        "Who proves identities; any number of them, asked in this order.",
        &[
            ("kind", "What it is. Required."),
            ("name", "What it is called; its kind if it is not set."),
            ("on_error", "Whether the next one is asked when it fails."),
            ("file", "`password`, `scram`: the file of users."),
            ("user", "`anonymous`: what everybody is called."),
            ("from", "`x509`: which name of the certificate counts."),
            ("depth", "`x509`: which certificate of the chain, from the client's own (0) on."),
            ("pattern", "`x509`: a regular expression whose first group is the name."),
            ("client_id_is_user", "`x509`: the Client Identifier has to be the name."),
            ("trust_proxy", "`x509`: believe the name that a trusted proxy tells."),
            (
                "required",
                "`x509`: refuse clients without a certificate instead of asking the next provider.",
            ),
            ("algorithms", "`jwt`: algorithms that are believed, such as `RS256`."),
            ("key_file", "`jwt`: the key that tokens are verified by."),
            (
                "jwks",
                "`jwt`: where keys are published: `{ url = \"https://…\" }`, with the fields of `endpoint`.",
            ),
            ("jwks_options", "`jwt`: `refresh_s`, `retry_s`, `keep_s`, `cache_file`."),
            ("may_last_for_ever", "`jwt`: take tokens without an end."),
            ("leeway_s", "`jwt`: by so much may clocks differ, seconds."),
            ("issuer", "`jwt`: what `iss` has to be."),
            ("audience", "`jwt`: what `aud` has to hold."),
            (
                "required_claims",
                "`jwt`: claims and what they have to be; `${clientid}` and `${username}` stand for the client's.",
            ),
            ("user_claim", "`jwt`: the claim with the user's name."),
            ("groups_claim", "`jwt`: the claim with its groups."),
            ("client_type_claim", "`jwt`: the claim with its type."),
            ("publish_claim", "`jwt`: the claim with the filters that it may publish to."),
            ("subscribe_claim", "`jwt`: the claim with the filters that it may subscribe to."),
            (
                "endpoint",
                "`http`: where to ask: `{ url, headers, headers_file, ca_file, certificate_file, key_file, connect_timeout_ms, timeout_ms, answer_bytes_max }`.",
            ),
            (
                "options",
                "`http`: `{ with_password, cache_accepted_s, cache_refused_s, cache_entries_max, asking_max, waiting_max, breaker }`.",
            ),
        ],
    ),
    (
        "store",
        "What is kept on disk, and how. See durability.md.",
        &[
            (
                "data_dir",
                "Where sessions and messages are kept; made if it is not there. A change needs a restart.",
            ),
            (
                "durability",
                "When what was written becomes durable: before it is acknowledged, now and then, or never. A change from or to `memory` needs a restart.",
            ),
            ("interval_ms", "With `interval`: at least so often, milliseconds."),
            (
                "repair",
                "What to do about damage at a start: set it aside and go on, or do not start. In force at the next start.",
            ),
            (
                "reserve_bytes",
                "Bytes of the file system that are left free: below, QoS 1 and 2 messages are refused.",
            ),
        ],
    ),
    (
        "log",
        "What is logged.",
        &[
            ("level", "How much."),
            ("format", "Lines for people, or an object a line for programs."),
            ("target", "Standard error, or the journal of systemd."),
            ("journal", "The socket on which the journal takes lines."),
        ],
    ),
    (
        "control",
        "Where `cairnmq ctl` reaches the broker. Whoever may write to the socket may do everything.",
        &[
            (
                "socket",
                "The socket file; `control.sock` in the data directory if it is not set. `\"\"` is none.",
            ),
            ("mode", "Its permissions, octal."),
        ],
    ),
    (
        "http",
        "Metrics and health, by HTTP: `/metrics`, `/health/live`, `/health/ready`.",
        &[
            ("listen", "Addresses, such as `127.0.0.1:9883`; empty: none."),
            (
                "token_file",
                "A file with the token that `/metrics` wants to be shown (`Authorization: Bearer …`). Without one it answers at loopback addresses only; health needs none anywhere.",
            ),
        ],
    ),
    (
        "sys",
        "What the broker publishes of itself below `$SYS/broker`, as mosquitto does.",
        &[("interval_s", "How often, seconds; 0: never.")],
    ),
    (
        "drain",
        "How `cairnmq drain` sends clients away.",
        &[
            (
                "server_reference",
                "Where clients of 5.0 are told to go (0x9C); they are told 0x8B if it is not set.",
            ),
            ("batch", "So many connections of each worker at a time."),
            ("pause_ms", "Between two batches, milliseconds."),
        ],
    ),
];

const LIMITS: &str = "Every limit. Each worker has a shard of the broker: what is said of one shard holds for each worker.";
const FEATURES: &str = "What is switched on; clients of 5.0 are told.";

/// Keys of [limits] that are not fields of their own.
const RATES: &[(&str, &str)] = &[
    (
        "publish_rate_in",
        "Messages that each client may publish, as `COUNT:SECONDS` (several with commas).",
    ),
    ("byte_rate_in", "Bytes of messages that each client may publish, in the same form."),
    ("publish_rate_out", "Messages that each client gets at most."),
    ("byte_rate_out", "Bytes of messages that each client gets at most."),
    ("over_rate", "What happens to a client that publishes more."),
    ("client_subscriptions_max", "Subscriptions of each client."),
    ("all_publish_rate_in", "Messages that all clients together may publish."),
    ("all_byte_rate_in", "Bytes of messages that all clients together may publish."),
];

/// A file in which every key is asked for.
const EVERYTHING: &str = r#"
[[listener]]
url = "wss://127.0.0.1:1"
certificate = "x"
key = "x"
[[listener.sni]]
certificate = "x"
key = "x"
[access]
[[access.provider]]
kind = "password"
name = "1"
file = "x"
[[access.provider]]
kind = "x509"
name = "2"
[[access.provider]]
kind = "jwt"
name = "3"
jwks = { url = "https://x" }
jwks_options = {}
[access.provider.required_claims]
[[access.provider]]
kind = "http"
name = "4"
endpoint = { url = "https://x" }
options = {}
[[access.provider]]
kind = "anonymous"
name = "5"
"#;

/// A key without the numbers of lists: `listener[0].url` is `listener.url`.
fn plain(path: &str) -> String {
    let mut plain = String::new();
    let mut inside = false;
    for char in path.chars() {
        inside = (inside || char == '[') && char != ']';
        if !inside && char != ']' {
            plain.push(char);
        }
    }
    plain
}

/// All keys that there are, each once, in the order in which they are read.
fn keys() -> Vec<Entry> {
    let (_, entries) = Config::parse("", EVERYTHING, &[]).unwrap_or_default();
    let mut keys: Vec<Entry> = Vec::new();
    for entry in entries {
        let path = plain(&entry.path);
        if !keys.iter().any(|key| key.path == path) {
            keys.push(Entry { path, ..entry });
        }
    }
    keys
}

/// What each field of a struct of the core says of itself.
fn words_of_core(name: &str) -> Vec<(String, String)> {
    let Some((_, body)) = CORE.split_once(&format!("pub struct {name} {{")) else {
        return Vec::new();
    };
    let mut words = Vec::new();
    let mut said = String::new();
    for line in body.lines().map(str::trim).take_while(|line| *line != "}") {
        if let Some(text) = line.strip_prefix("///") {
            said.push_str(text);
        } else if let Some((key, _)) =
            line.strip_prefix("pub ").and_then(|rest| rest.split_once(':'))
        {
            words.push((key.to_owned(), std::mem::take(&mut said).trim().to_owned()));
        }
    }
    words
}

/// The tables, each with what it is about and its keys in words.
fn tables() -> Vec<Section> {
    let owned = |keys: &[(&str, &str)]| -> Vec<(String, String)> {
        keys.iter().map(|(key, words)| ((*key).to_owned(), (*words).to_owned())).collect()
    };
    let mut all: Vec<_> = TABLES
        .iter()
        .map(|(table, about, keys)| ((*table).to_owned(), (*about).to_owned(), owned(keys)))
        .collect();
    let mut limits = words_of_core("Limits");
    limits.retain(|(key, _)| key != "client" && key != "all");
    limits.extend(owned(RATES));
    all.push(("limits".into(), LIMITS.into(), limits));
    all.push(("features".into(), FEATURES.into(), words_of_core("Features")));
    all
}

fn whole(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

fn heading(table: &str) -> String {
    match table {
        "" => "Top of the file".into(),
        "listener" | "access.provider" => format!("[[{table}]]"),
        _ => format!("[{table}]"),
    }
}

fn values(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "true or false".into(),
        Kind::Number { least, most } => format!("{least} to {most}"),
        Kind::Text => "string".into(),
        Kind::List => "list of strings".into(),
        Kind::Choice(names) => {
            let names: Vec<_> = names.iter().map(|name| format!("`\"{name}\"`")).collect();
            names.join(", ")
        }
        Kind::Table => "table".into(),
    }
}

/// The reference of all keys, in Markdown.
pub(crate) fn reference() -> String {
    let keys = keys();
    let mut text = String::from(
        "# Configuration\n\n\
         Printed by `cairnmq config docs`: every key, what values it has, and what holds if it is not set (`-`: nothing).\n\n\
         One file in TOML (`--config FILE`, or the variable `CAIRNMQ_CONFIG`). Every key can also be set by a flag,\n\
         `--set limits.packet_bytes_max=65536`, and by a variable with the key in capitals and two underscores between its\n\
         parts, `CAIRNMQ__LIMITS__PACKET_BYTES_MAX=65536`. Flags override variables, and these the file; lists are replaced as\n\
         a whole. Values are as in TOML, and strings need no quotes there. `--listen`, `--data-dir` and the other flags of\n\
         `cairnmq --help` are short for such keys. Secrets are in files of their own, which keys name.\n\n\
         `cairnmq config check` says everything that is wrong, `config show` what is in force and where each value comes\n\
         from, `config init` writes a file to begin with, and `config import mosquitto` translates a `mosquitto.conf`.\n\n\
         SIGHUP or `cairnmq ctl reload` reads it all again: everything comes into force, or nothing, and what changed is\n\
         printed. What needs a restart instead says so below.\n",
    );
    for (table, about, words) in tables() {
        let _ = write!(
            text,
            "\n## {}\n\n{about}\n\n| key | values | default | what it is |\n|---|---|---|---|\n",
            heading(&table)
        );
        for (key, said) in words {
            let path = whole(&table, &key);
            let Some(entry) = keys.iter().find(|entry| entry.path == path) else { continue };
            let default = match (&entry.value, &entry.place) {
                (Some(value), None) => format!("`{value}`"),
                _ => "-".into(),
            };
            let said = said.replace('|', "\\|");
            let _ = writeln!(text, "| `{key}` | {} | {default} | {said} |", values(&entry.kind));
        }
    }
    text
}

/// A configuration to begin with: every key as a comment, with what holds if it is not set.
pub(crate) fn starting_file() -> String {
    let keys = keys();
    let mut text = String::from(
        "# Configuration of CairnMQ. Each key stands here with its default, or with an example, as a comment:\n\
         # remove the `#` before the key, and the one before its table, to set it. `cairnmq config check FILE` checks it,\n\
         # and docs/configuration.md explains all keys.\n",
    );
    for (table, about, words) in tables() {
        // What needs a decision has its examples in docs/security.md.
        if table == "access.provider" {
            continue;
        }
        let _ = write!(text, "\n# {about}\n");
        if !table.is_empty() {
            let _ = writeln!(text, "#{}", heading(&table));
        }
        for (key, said) in words {
            let path = whole(&table, &key);
            let Some(entry) = keys.iter().find(|entry| entry.path == path) else { continue };
            if key.contains('.') || entry.kind == Kind::Table {
                continue;
            }
            let value = match (&entry.value, &entry.place, &entry.kind) {
                // What holds if it is not set is more than an empty list.
                _ if path == "listen" => {
                    let urls = ListenUrl::defaults().map(|url| format!("\"{url}\""));
                    format!("[{}]", urls.join(", "))
                }
                (Some(value), None, _) => value.clone(),
                (_, _, Kind::Number { least, .. }) => least.to_string(),
                (_, _, Kind::List) => "[]".into(),
                _ => "\"\"".into(),
            };
            let _ = write!(text, "\n# {said}\n#{key} = {value}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_words_and_all_words_have_a_key() {
        let keys: Vec<String> = keys().into_iter().map(|key| key.path).collect();
        let mut words = Vec::new();
        for (table, _, said) in tables() {
            words.extend(said.iter().map(|(key, _)| whole(&table, key)));
        }
        let unsaid: Vec<_> = keys.iter().filter(|key| !words.contains(key)).collect();
        assert!(unsaid.is_empty(), "no words for {unsaid:?}");
        let known = |key: &String| {
            // Tables of their own are no keys with a value.
            keys.contains(key)
                || ["listener.sni", "access.provider.required_claims"].contains(&key.as_str())
        };
        let unknown: Vec<_> = words.iter().filter(|key| !known(key)).collect();
        assert!(unknown.is_empty(), "no key for {unknown:?}");
        assert!(keys.len() > 130, "{}", keys.len());
    }

    #[test]
    fn a_starting_file_is_read_with_all_its_comments_removed() {
        let text = starting_file();
        assert_eq!(Config::parse("c.toml", &text, &[]).unwrap().0, Config::default());
        // Limits and features have defaults throughout.
        let (_, limits) = text.split_once("#[limits]").unwrap();
        let set: String = limits
            .lines()
            .filter(|line| {
                line.starts_with('#') && !line.starts_with("# ") && !line.ends_with("\"\"")
            })
            .map(|line| format!("{}\n", line.trim_start_matches('#')))
            .collect();
        let (config, _) = Config::parse("c.toml", &format!("[limits]\n{set}"), &[]).unwrap();
        assert_eq!(config.features, Config::default().features);
    }
}
