//! The configuration file.

mod access;
mod arguments;
mod limits;
mod listener;
mod operate;
mod words;

use std::{env, fs, num::NonZeroU16, path::PathBuf};

use ::access::DoorwayConfig;
use session_core::{DeniedPublish, Features, Limits};
use store::Faults;

use crate::address::{Asker, ListenUrl};
use arguments::DurabilityMode as Mode;
use limits::{read_client_limits, read_doorway, read_features, read_limits};
use settings::{Choice, Entry, Override, Section};

pub(crate) use access::{AccessConfig, JwtSettings, OnError, ProviderKind, RulesConfig};
pub(crate) use arguments::{DurabilityMode, LogLevel, Repair, SettingsArguments, WORKERS_MAX};
pub(crate) use listener::{ListenerConfig, TlsVersion};
pub(crate) use operate::{
    ControlConfig, DrainConfig, HttpConfig, LogConfig, LogFormat, LogTarget, SysConfig,
};
pub(crate) use words::{reference, starting_file};

/// What an operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where clients connect.
    pub(crate) listeners: Vec<ListenerConfig>,
    /// Everybody may connect, even from other machines.
    pub(crate) allow_anonymous: bool,
    /// Who may connect and what they may do; absent: everybody who can reach the broker, everything.
    pub(crate) access: Option<AccessConfig>,
    /// How many may knock, and how often.
    pub(crate) doorway: DoorwayConfig,
    /// What happens to clients before 5.0 that publish what they may not.
    pub(crate) denied_publish_v3: DeniedPublish,
    /// Worker threads; absent: one for every two processors.
    pub(crate) workers: Option<NonZeroU16>,
    /// What is logged, and how.
    pub(crate) log: LogConfig,
    /// Where `cairnmq ctl` reaches the broker.
    pub(crate) control: ControlConfig,
    /// Where metrics and health are asked for.
    pub(crate) http: HttpConfig,
    /// What the broker publishes of itself.
    pub(crate) sys: SysConfig,
    /// How clients are sent away.
    pub(crate) drain: DrainConfig,
    /// What is kept on disk, and how.
    pub(crate) store: StoreConfig,
    /// What is bounded.
    pub(crate) limits: Limits,
    /// What is switched on.
    pub(crate) features: Features,
}

/// What is kept on disk, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreConfig {
    /// Where; made if it is not there.
    pub(crate) data_dir: PathBuf,
    /// When what was written becomes durable.
    pub(crate) durability: Mode,
    /// With `interval`: at least this often, milliseconds.
    pub(crate) interval_ms: u64,
    /// What to do about damage at a start.
    pub(crate) repair: Repair,
    /// Bytes of the file system that are left free: below, messages are refused.
    pub(crate) reserve_bytes: u64,
    /// How the disk fails; for tests.
    pub(crate) faults: Faults,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            data_dir: "cairnmq-data".into(),
            durability: Mode::Sync,
            interval_ms: 1000,
            repair: Repair::Quarantine,
            reserve_bytes: 128 * 1024 * 1024,
            faults: Faults::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: ListenUrl::defaults()
                .map(|url| ListenerConfig::new(url, Asker::Default))
                .into(),
            allow_anonymous: false,
            access: None,
            doorway: DoorwayConfig::default(),
            denied_publish_v3: DeniedPublish::default(),
            workers: None,
            log: LogConfig::default(),
            control: ControlConfig::default(),
            http: HttpConfig::default(),
            sys: SysConfig::default(),
            drain: DrainConfig::default(),
            store: StoreConfig::default(),
            limits: Limits::default(),
            features: Features::default(),
        }
    }
}

impl Config {
    /// Reads the text of a file, with what is set elsewhere; `file` is its name for messages. Returns every key with
    /// the value in force too.
    ///
    /// # Errors
    /// Everything that is wrong with it, one line each, in the order of the file.
    pub(crate) fn parse(
        file: &str,
        text: &str,
        overrides: &[Override],
    ) -> Result<(Self, Vec<Entry>), Vec<String>> {
        let mut config = Self::default();
        let entries = settings::read_with(file, text, overrides, |section| config.read(section))?;
        Ok((config, entries))
    }

    /// Reads what the arguments, and the environment, say.
    ///
    /// # Errors
    /// The file cannot be read, or everything that is wrong, one line each.
    pub(crate) fn load(arguments: &SettingsArguments) -> Result<(Self, Vec<Entry>), Vec<String>> {
        let overrides = arguments.overrides(env::vars_os());
        let Some(path) = &arguments.config else { return Self::parse("", "", &overrides) };
        let name = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| vec![format!("cannot read {name}: {error}")])?;
        Self::parse(&name, &text, &overrides)
    }

    fn read(&mut self, top: &mut Section<'_, '_>) {
        if top.has("listen") || top.has("listener") {
            self.listeners.clear();
        }
        for (url, span) in top.strings("listen") {
            match url.parse::<ListenUrl>() {
                Ok(url) if url.scheme().is_tls() => top.problem(
                    &span,
                    format!("{url} needs a certificate; write it as a [[listener]]"),
                ),
                Ok(url) => {
                    let asker = Asker::Place(top.place(&span));
                    self.listeners.push(ListenerConfig::new(url, asker));
                }
                Err(error) => top.problem(&span, error),
            }
        }
        top.tables("listener", |section| {
            self.listeners.extend(ListenerConfig::read(section));
        });
        top.boolean("allow_anonymous", &mut self.allow_anonymous);
        top.table("access", |section| {
            section.choice_of("denied_publish_v3", DENIED_PUBLISH, &mut self.denied_publish_v3);
            self.access = Some(AccessConfig::read(section));
        });
        let mut workers: u16 = 0;
        top.number("workers", 1, WORKERS_MAX, &mut workers);
        self.workers = NonZeroU16::new(workers);
        self.read_operation(top);
        top.table_or_defaults("store", |section| read_store(section, &mut self.store));
        top.table_or_defaults("limits", |section| read_limits(section, &mut self.limits));
        top.table_or_defaults("connections", |section| read_doorway(section, &mut self.doorway));
        let bounded = self
            .listeners
            .iter()
            .filter_map(|listener| Some((listener.name().into(), listener.connections_max?)));
        self.doorway.max_by_listener = bounded.collect();
        top.table_or_defaults("features", |section| read_features(section, &mut self.features));
    }
}

fn read_store(section: &mut Section<'_, '_>, store: &mut StoreConfig) {
    let StoreConfig { data_dir, durability, interval_ms, repair, reserve_bytes, faults: _ } = store;
    let mut path = data_dir.to_string_lossy().into_owned();
    section.string_into("data_dir", &mut path);
    *data_dir = path.into();
    section.choice("durability", durability);
    section.number("interval_ms", 1, 3_600_000, interval_ms);
    section.choice("repair", repair);
    section.number("reserve_bytes", 0, u64::MAX, reserve_bytes);
}

impl Choice for Repair {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("quarantine", Self::Quarantine), ("refuse", Self::Refuse)];
}

impl Choice for Mode {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("sync", Self::Sync), ("interval", Self::Interval), ("memory", Self::Memory)];
}

impl Choice for LogLevel {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

const DENIED_PUBLISH: &[(&str, DeniedPublish)] =
    &[("acknowledge", DeniedPublish::Acknowledge), ("disconnect", DeniedPublish::Disconnect)];

#[cfg(test)]
mod tests {
    use codec::QoS;
    use session_core::{OverRate, QueueFull};

    use super::*;

    /// What is wrong with a file, as an operator reads it.
    fn problems(text: &str) -> String {
        Config::parse("c.toml", text, &[]).expect_err("something is wrong").join("\n")
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert_eq!(Config::parse("c.toml", "", &[]).unwrap().0, Config::default());
    }

    #[test]
    fn every_setting_is_read() {
        let text = r#"
            listen = ["tcp://127.0.0.1:1"]
            allow_anonymous = true
            workers = 3

            [[listener]]
            url = "tcp://[::1]:2"

            [log]
            level = "debug"

            [store]
            data_dir = "/var/lib/cairnmq"
            durability = "interval"
            interval_ms = 50
            repair = "refuse"
            reserve_bytes = 1

            [limits]
            packet_bytes_max = 1_000
            session_queue_full = "reject"
            retained_bytes_max = 18446744073709551615

            [features]
            maximum_qos = 1
            retain = false
            response_topic_prefix = "answers/"
        "#;
        let (config, _) = Config::parse("c.toml", text, &[]).unwrap();
        let listeners: Vec<_> =
            config.listeners.iter().map(|one| format!("{} {}", one.asker, one.url)).collect();
        assert_eq!(listeners, ["c.toml:2:23 tcp://127.0.0.1:1", "c.toml:7:19 tcp://[::1]:2"]);
        assert!(config.allow_anonymous);
        assert_eq!(config.workers, NonZeroU16::new(3));
        assert_eq!(config.log.level, LogLevel::Debug);
        let store = StoreConfig {
            data_dir: "/var/lib/cairnmq".into(),
            durability: Mode::Interval,
            interval_ms: 50,
            repair: Repair::Refuse,
            reserve_bytes: 1,
            faults: Faults::default(),
        };
        assert_eq!(config.store, store);
        let limits = Limits {
            packet_bytes_max: 1000,
            session_queue_full: QueueFull::Reject,
            retained_bytes_max: u64::MAX,
            ..Limits::default()
        };
        assert_eq!(config.limits, limits);
        let features = Features {
            maximum_qos: QoS::AtLeastOnce,
            retain: false,
            response_topic_prefix: Some("answers/".into()),
            ..Features::default()
        };
        assert_eq!(config.features, features);
    }

    #[test]
    fn doors_and_keys_are_read() {
        let text = r#"
            [[listener]]
            url = "wss://0.0.0.0:8084"
            name = "web"
            certificate = "a.crt"
            key = "a.key"
            client_certificates = "optional"
            client_ca = ["ca.pem"]
            crl = ["crl.pem"]
            tls_minimum = "1.3"
            origins = ["https://example.org"]
            forwarded_from = ["10.0.0.0/8"]
            proxy_from = ["192.0.2.1"]
            providers = ["tokens"]
            connections_max = 7
            publish_rate_in = "10:1,300:60"
            over_rate = "pause"
            [[listener.sni]]
            certificate = "b.crt"
            key = "b.key"

            [connections]
            rate = "1000:1"
            max_per_address = 5

            [limits]
            byte_rate_out = "1000000:1"
            all_publish_rate_in = "100000:1"

            [access]
            mosquitto_acl = "acl"
            subscribe = "as_mosquitto"
            denied_publish_v3 = "disconnect"
            [access.guard]
            failures = 3
            [[access.provider]]
            kind = "jwt"
            name = "tokens"
            algorithms = ["RS256"]
            jwks = { url = "https://keys.example/jwks" }
            required_claims = { id = "${clientid}" }
            on_error = "skip"
            [[access.provider]]
            kind = "http"
            endpoint = { url = "https://auth.example/", timeout_ms = 100 }
            options = { cache_accepted_s = 60 }
        "#;
        let (config, _) = Config::parse("c.toml", text, &[]).unwrap();
        let [web] = &*config.listeners else { panic!("{:?}", config.listeners) };
        assert_eq!(
            (web.name().as_str(), web.tls.certificates.len(), web.tls.minimum),
            ("web", 2, TlsVersion::V13)
        );
        let client = web.client.clone().unwrap();
        assert_eq!(
            (client.publishes_in.to_string(), client.over_rate),
            ("10:1,300:60".into(), OverRate::Pause)
        );
        assert_eq!(config.doorway.max_by_listener, [("web".into(), 7)]);
        assert_eq!(
            (config.doorway.rate.to_string(), config.doorway.max_per_address),
            ("1000:1".into(), Some(5))
        );
        assert_eq!(config.limits.client.bytes_out.to_string(), "1000000:1");
        assert_eq!(config.limits.all.publishes_in.to_string(), "100000:1");
        assert_eq!(config.denied_publish_v3, DeniedPublish::Disconnect);
        let access = config.access.unwrap();
        assert_eq!(access.guard.failures, 3);
        assert!(matches!(access.rules, RulesConfig::Mosquitto(..)));
        let [tokens, http] = &*access.providers else { panic!("{:?}", access.providers) };
        assert_eq!((tokens.name.as_str(), tokens.on_error), ("tokens", OnError::Skip));
        let ProviderKind::Jwt(jwt) = &tokens.kind else { panic!("{tokens:?}") };
        assert_eq!(jwt.claims.required.len(), 1);
        let ProviderKind::Http { endpoint, options } = &http.kind else { panic!("{http:?}") };
        assert_eq!(
            (endpoint.timeout_ms, options.cache_accepted_s, http.name.as_str()),
            (100, 60, "http")
        );
    }

    #[test]
    fn what_does_not_fit_a_door_or_a_key_is_named() {
        assert_eq!(
            problems(
                "[[listener]]\nurl = \"tls://[::1]:1\"\npath = \"/x\"\nmode = \"0660\"\n\
                 client_certificates = \"required\"\n[[listener]]\nurl = \"tcp://[::1]:1\"\ncrl = [\"x\"]\n\
                 publish_rate_in = \"fast\"\nproxy_from = [\"10.0.0.1/8\"]\n[[listener]]\n\
                 url = \"unix:///run/x\"\nproxy_from = [\"10.0.0.0/8\"]\n[[listener]]\nurl = \"tls://[::1]:2\"\n\
                 certificate = \"a\"\nkey = \"b\"\ncrl_strict = true"
            ),
            "c.toml:2:7: tls://[::1]:1 needs `certificate` and `key`, the paths of two PEM files\n\
             c.toml:2:7: `client_certificates` needs `client_ca`, the PEM files of who may have signed them\n\
             c.toml:2:7: `path` is for ws:// and wss://, and this is tls://[::1]:1\n\
             c.toml:2:7: `mode` is for unix://, and this is tls://[::1]:1\n\
             c.toml:7:7: `crl` is for tls:// and wss://, and this is tcp://[::1]:1\n\
             c.toml:9:19: `fast` is no rate; write COUNT:SECONDS, such as 10:1 (or 10:1,300:60)\n\
             c.toml:10:15: `10.0.0.1/8` names one address of a range; write 10.0.0.0/8\n\
             c.toml:12:7: `proxy_from` is for listeners whose peers have addresses, and this is unix:///run/x\n\
             c.toml:15:7: `crl_strict` needs `crl`, the PEM files of revocation lists"
        );
        let said = problems(
            "listen = [\"tls://[::1]:1\"]\n[access]\nrules = \"a\"\nmosquitto_acl = \"b\"\n[[access.provider]]\n\
             kind = \"jwt\"\nalgorithms = []\n[[access.provider]]\nkind = \"http\"\nendpoint = { ur = \"x\" }\n\
             [[access.provider]]\nfile = \"x\"\n[[access.provider]]\nkind = \"x509\"\npattern = \"(\"",
        );
        for expected in [
            "c.toml:1:11: tls://[::1]:1 needs a certificate; write it as a [[listener]]",
            "c.toml:4:17: write either `rules` or `mosquitto_acl`",
            "c.toml:5:1: a jwt provider has either `key_file` or `jwks",
            "unknown field `ur`",
            "`kind` is missing in [[access.provider]]",
            "`(` is no regular expression",
        ] {
            assert!(said.contains(expected), "{expected}\n---\n{said}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_a_suggestion() {
        assert_eq!(
            problems("workrs = 2"),
            "c.toml:1:1: unknown key `workrs`; did you mean `workers`?"
        );
        assert_eq!(
            problems("[limits]\n  conect_timeout_ms = 5\n  zzz = 1"),
            "c.toml:2:3: unknown key `conect_timeout_ms` in [limits]; \
             did you mean `connect_timeout_ms`?\n\
             c.toml:3:3: unknown key `zzz` in [limits]"
        );
        assert_eq!(
            problems("[[listener]]\nurl = \"tcp://[::1]:1\"\nport = 3"),
            "c.toml:3:1: unknown key `port` in [[listener]]"
        );
        assert_eq!(
            problems("[limit]\npacket_bytes_max = 100"),
            "c.toml:1:2: unknown key `limit`; did you mean `limits`?"
        );
    }

    #[test]
    fn a_wrong_type_is_named() {
        assert_eq!(
            problems(
                "workers = \"two\"\nallow_anonymous = 1\nlisten = 1883\nlog = 3\n\
                 listener = \"tcp://[::1]:1\"\n[limits]\nretained_max = 1.5\n\
                 session_queue_full = true"
            ),
            "c.toml:1:11: `workers` must be a number, not a string\n\
             c.toml:2:19: `allow_anonymous` must be true or false, not a number\n\
             c.toml:3:10: `listen` must be a list of strings, not a number\n\
             c.toml:4:7: `log` must be a table ([log]), not a number\n\
             c.toml:5:12: `listener` must be a list of tables ([[listener]]), not a string\n\
             c.toml:7:16: `retained_max` must be a whole number\n\
             c.toml:8:22: `session_queue_full` must be a string, not a boolean"
        );
        assert_eq!(
            problems("listen = [\"tcp://[::1]:1\", 2]"),
            "c.toml:1:28: `listen` must be a list of strings, not of a number"
        );
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        assert_eq!(
            problems(
                "workers = 0\n[limits]\nreceive_maximum = 70000\nretained_max = -1\n\
                 retained_bytes_max = 99999999999999999999\n[log]\nlevel = \"inof\"\n\
                 [features]\nmaximum_qos = 3"
            ),
            "c.toml:1:11: `workers` must be 1 to 1024, not 0\n\
             c.toml:3:19: `receive_maximum` must be 1 to 65535, not 70000\n\
             c.toml:4:16: `retained_max` must be 0 to 4294967295, not -1\n\
             c.toml:5:22: `retained_bytes_max` must be 0 to 18446744073709551615, \
             not 99999999999999999999\n\
             c.toml:7:9: `level` must be one of `error`, `warn`, `info`, `debug`, `trace`, \
             not `inof`; did you mean `info`?\n\
             c.toml:9:15: `maximum_qos` must be 0 to 2, not 3"
        );
    }

    #[test]
    fn a_wrong_address_is_named() {
        assert_eq!(
            problems("listen = [\n  \"tcp://[::1]:1\",\n  \"localhost\",\n]\n[[listener]]\n"),
            "c.toml:3:3: `localhost` is not an address; write tcp://HOST:PORT\n\
             c.toml:5:1: `url` is missing in [[listener]]"
        );
    }

    #[test]
    fn what_is_not_toml_is_named() {
        let problem = problems("workers = 2\nlisten = [\"a\"");
        assert!(problem.starts_with("c.toml:2:"), "{problem}");
        let problem = problems("workers = 2\nworkers = 3");
        assert_eq!(problem, "c.toml:2:1: duplicate key");
        let problem = problems("workers 2");
        assert!(problem.starts_with("c.toml:1:") && problem.lines().count() == 1, "{problem}");
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(
            problems("log = { level = \"ключ\", levl = 1 }"),
            "c.toml:1:17: `level` must be one of `error`, `warn`, `info`, `debug`, `trace`, \
             not `ключ`\n\
             c.toml:1:25: unknown key `levl` in [log]; did you mean `level`?"
        );
    }
}
