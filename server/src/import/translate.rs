//! From mosquitto's options to a configuration of ours.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Imported, Kind, Note,
    conf::Line,
    draft::{Access, Family, Listener, quoted},
    grant::{self, Wish},
    options::{self, OPTIONS},
};

/// Translates a configuration; `rules` is the name of the file of rules, if one is needed.
pub(super) fn translate(lines: &[Line], rules: &str) -> Imported {
    let mut translation = Translation::default();
    lines.iter().for_each(|line| translation.take(line));
    translation.finish(rules)
}

/// What a configuration wants, as far as it was read.
#[derive(Default)]
struct Translation {
    /// Keys of [limits], [features], [store], [log] and [sys].
    tables: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    listeners: Vec<Listener>,
    /// Options before the first `listener` are those of the default listener.
    default: Listener,
    has_default: bool,
    access: Access,
    per_listener: bool,
    /// A bridge is being read.
    in_bridge: bool,
    log_types: Vec<String>,
    notes: Vec<Note>,
}

impl Translation {
    fn note(&mut self, line: &Line, kind: Kind, text: impl Into<String>) {
        let text = format!("{}: {}", line.option, text.into());
        self.notes.push(Note { place: line.place.clone(), kind, text });
    }

    fn set(&mut self, table: &'static str, key: &'static str, value: impl ToString) {
        self.tables.entry(table).or_default().insert(key, value.to_string());
    }

    fn take(&mut self, line: &Line) {
        let option = line.option.as_str();
        if option == "connection" {
            self.in_bridge = true;
            let text = format!("the bridge {:?}: there are no bridges yet", line.value);
            return self.note(line, Kind::Lost, text);
        }
        if self.in_bridge && options::is_of_bridge(option) {
            return;
        }
        if let Some((_, kind, text)) = OPTIONS.iter().find(|(name, ..)| *name == option) {
            return self.note(line, *kind, *text);
        }
        if option.starts_with("auth_opt_") || option.starts_with("plugin_opt_") {
            return self.note(line, Kind::Lost, "it is for a plugin");
        }
        if options::is_of_bridge(option) {
            return self.note(line, Kind::Lost, "it is for a bridge, and there are none yet");
        }
        if line.value.is_empty() && options::TRANSLATED.contains(&option) {
            return self.note(line, Kind::Lost, "it has no value");
        }
        if !(self.take_listener(line)
            || self.take_access(line)
            || self.take_number(line)
            || self.take_rest(line))
        {
            let hint = options::nearest(option);
            let hint = hint.map_or_else(String::new, |name| format!("; did you mean {name}?"));
            self.note(line, Kind::Lost, format!("mosquitto has no such option{hint}"));
        }
    }

    /// The listener that options speak of.
    fn listener(&mut self) -> &mut Listener {
        match self.listeners.last_mut() {
            Some(listener) => listener,
            None => &mut self.default,
        }
    }

    fn take_listener(&mut self, line: &Line) -> bool {
        let value = line.value.clone();
        match line.option.as_str() {
            "listener" => self.begin_listener(line),
            "port" => match value.parse() {
                Ok(port) => {
                    (self.default.port, self.has_default) = (port, true);
                    self.default.place.clone_from(&line.place);
                }
                Err(_) => self.note(line, Kind::Lost, "this is no port"),
            },
            "bind_address" => {
                self.default.host = Some(value);
                self.has_default = true;
            }
            "protocol" => match value.as_str() {
                "websockets" => self.listener().is_websocket = true,
                "mqtt" => self.listener().is_websocket = false,
                _ => self.note(line, Kind::Lost, "there are mqtt and websockets"),
            },
            "socket_domain" => match value.as_str() {
                "ipv4" => self.listener().family = Family::V4,
                "ipv6" => self.listener().family = Family::V6,
                _ => self.note(line, Kind::Lost, "there are ipv4 and ipv6"),
            },
            "certfile" => self.listener().certificate = Some(value),
            "keyfile" => self.listener().key = Some(value),
            "cafile" => self.listener().authority = Some(value),
            "crlfile" => self.listener().crl = Some(value),
            "require_certificate" => self.listener().requires_certificate = value == "true",
            "use_identity_as_username" => self.listener().by_certificate = value == "true",
            "tls_version" => match value.as_str() {
                "tlsv1.3" => self.listener().tls_minimum = Some("1.3"),
                "tlsv1.2" => self.listener().tls_minimum = Some("1.2"),
                _ => self.note(line, Kind::Differs, "TLS 1.2 is the oldest version that is spoken"),
            },
            "max_connections" => match value.parse::<i64>() {
                Ok(max) if max > 0 => {
                    self.listener().connections_max = Some(u32::try_from(max).unwrap_or(u32::MAX));
                }
                _ => {}
            },
            _ => return false,
        }
        true
    }

    fn begin_listener(&mut self, line: &Line) {
        self.in_bridge = false;
        let mut parts = line.value.split_whitespace();
        let port = parts.next().and_then(|port| port.parse().ok());
        let Some(port) = port else { return self.note(line, Kind::Lost, "this is no port") };
        let host = parts.next().map(str::to_owned);
        if port == 0 && !host.as_deref().is_some_and(|path| path.starts_with('/')) {
            return self.note(
                line,
                Kind::Lost,
                "a socket of the file system needs an absolute path",
            );
        }
        let place = line.place.clone();
        self.listeners.push(Listener { place, port, host, ..Listener::default() });
    }

    fn take_access(&mut self, line: &Line) -> bool {
        let value = line.value.clone();
        let access = match (self.per_listener, self.listeners.last_mut()) {
            (true, Some(listener)) => &mut listener.access,
            _ => &mut self.access,
        };
        match line.option.as_str() {
            "per_listener_settings" => self.per_listener = value == "true",
            "allow_anonymous" => access.anonymous = Some(value == "true"),
            "password_file" => access.passwords = Some(value),
            "acl_file" => access.acl = Some(value),
            _ => return false,
        }
        true
    }

    /// Numbers that have a key of their own; where 0 is no limit, it is the largest here.
    fn take_number(&mut self, line: &Line) -> bool {
        let keys: &[(&'static str, &'static str, u64, u64)] = match line.option.as_str() {
            "max_inflight_messages" => &[
                ("limits", "send_window_max", 1, 65_535),
                ("limits", "receive_maximum", 1, 65_535),
            ],
            "max_queued_messages" => &[("limits", "session_queue_max", 1, u32::MAX as u64)],
            "max_queued_bytes" => &[("limits", "session_queue_bytes_max", 1, i64::MAX as u64)],
            "max_packet_size" | "message_size_limit" => {
                &[("limits", "packet_bytes_max", 32, 268_435_460)]
            }
            "max_keepalive" => &[("limits", "keep_alive_s_max", 0, 65_535)],
            "max_topic_alias" => &[("limits", "topic_alias_maximum", 0, 65_535)],
            "max_topic_alias_broker" => &[("limits", "topic_alias_out_max", 0, 65_535)],
            "max_qos" => &[("features", "maximum_qos", 0, 2)],
            "sys_interval" => &[("sys", "interval_s", 0, 86_400)],
            _ => return false,
        };
        let Ok(number) = line.value.parse::<u64>() else {
            self.note(line, Kind::Lost, format!("{:?} is no number", line.value));
            return true;
        };
        for (table, key, least, most) in keys {
            let is_unbounded = number == 0 && *least > 0;
            let in_force = if is_unbounded { *most } else { number.clamp(*least, *most) };
            self.set(table, key, in_force);
        }
        match line.option.as_str() {
            "message_size_limit" => {
                self.note(
                    line,
                    Kind::Differs,
                    "it bounds whole packets here (limits.packet_bytes_max)",
                );
            }
            "max_qos" | "max_topic_alias" if !self.listeners.is_empty() => {
                self.note(line, Kind::Differs, "it holds at all listeners here");
            }
            _ => {}
        }
        true
    }

    fn take_rest(&mut self, line: &Line) -> bool {
        let value = line.value.as_str();
        match line.option.as_str() {
            "retain_available" => self.set("features", "retain", value == "true"),
            "persistence" if value == "true" => {
                let text =
                    "sessions and messages are always kept; those of mosquitto are not taken over";
                self.note(line, Kind::Differs, text);
            }
            "persistence" => self.set("store", "durability", quoted("memory")),
            "persistence_location" => {
                let path = format!("{}/cairnmq", value.trim_end_matches('/'));
                self.set("store", "data_dir", quoted(&path));
            }
            "persistent_client_expiration" => match seconds(value) {
                Some(seconds) => self.set("limits", "session_expiry_s_max", seconds),
                None => self.note(line, Kind::Lost, format!("{value:?} is no duration")),
            },
            "log_type" => self.log_types.push(value.to_owned()),
            "log_dest" => match value {
                "stderr" => {}
                "stdout" | "syslog" => {
                    self.note(
                        line,
                        Kind::Differs,
                        "the log goes to standard error, or to the journal (log.target)",
                    );
                }
                _ => self.note(
                    line,
                    Kind::Lost,
                    "the log goes to standard error; let the service write it to a file",
                ),
            },
            _ => return false,
        }
        true
    }

    fn finish(mut self, rules: &str) -> Imported {
        if self.has_default {
            let mut default = std::mem::take(&mut self.default);
            if default.port == 0 {
                default.port = 1883;
            }
            self.listeners.insert(0, default);
        }
        let level = match &*self.log_types {
            [] => None,
            types if types.iter().any(|kind| kind == "debug" || kind == "all") => Some("debug"),
            types if types.iter().any(|kind| matches!(kind.as_str(), "information" | "notice")) => {
                Some("info")
            }
            types if types.iter().any(|kind| kind == "warning") => Some("warn"),
            _ => Some("error"),
        };
        if let Some(level) = level {
            self.set("log", "level", quoted(level));
        }
        let mut text = String::from(
            "# Translated from a mosquitto.conf by `cairnmq config import mosquitto`.\n",
        );
        let granted = grant::grant(&self.wishes(), rules, &mut self.notes);
        text.push_str(&granted.top);
        for (table, keys) in &self.tables {
            let _ = writeln!(text, "\n[{table}]");
            for (key, value) in keys {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        for (listener, providers) in self.listeners.iter().zip(&granted.providers) {
            text.push_str(&listener.text(providers.as_deref()));
        }
        text.push_str(&granted.access);
        Imported { settings: text, rules: granted.rules, notes: self.notes }
    }

    /// Who may connect at each listener.
    fn wishes(&self) -> Vec<Wish> {
        let of = |listener: &Listener| Wish {
            place: listener.place.clone(),
            access: match self.per_listener {
                true => listener.access.clone(),
                false => self.access.clone(),
            },
            by_certificate: listener.by_certificate,
            is_private: listener.is_private(),
        };
        if self.listeners.is_empty() {
            let (place, access) = (String::new(), self.access.clone());
            return vec![Wish { place, access, by_certificate: false, is_private: true }];
        }
        self.listeners.iter().map(of).collect()
    }
}

/// `14d` and the like: hours, days, weeks, months and years.
fn seconds(text: &str) -> Option<u32> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let hours: u64 = match unit {
        "h" => 1,
        "d" => 24,
        "w" => 24 * 7,
        "m" => 24 * 30,
        "y" => 24 * 365,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(hours * 3600)?;
    Some(u32::try_from(seconds).unwrap_or(u32::MAX - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, import::conf};

    fn import(text: &str) -> (Config, Imported) {
        let imported = translate(&conf::parse("m", text), "rules.toml");
        let parsed = Config::parse("c.toml", &imported.settings, &[]);
        let (config, _) = parsed.unwrap_or_else(|why| panic!("{why:?}\n{}", imported.settings));
        (config, imported)
    }

    fn notes(imported: &Imported) -> Vec<String> {
        imported.notes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_usual_file_is_translated() {
        let (config, imported) = import(
            "persistence true\npersistence_location /var/lib/mosquitto/\nmax_queued_messages 500\n\
             max_inflight_messages 0\npersistent_client_expiration 2w\nlog_type error\nlog_type warning\n\
             password_file /etc/mosquitto/pw\nacl_file /etc/mosquitto/acl\nlistener 1883 127.0.0.1\n\
             listener 8883\ncertfile /c.pem\nkeyfile /k.pem\ncafile /ca.pem\nrequire_certificate true\n\
             max_connections 100\nlistener 9001\nprotocol websockets\nsocket_domain ipv4\nlistener 0 /run/m.sock\n",
        );
        let urls: Vec<_> = config.listeners.iter().map(|one| one.url.to_string()).collect();
        assert_eq!(
            urls,
            [
                "tcp://127.0.0.1:1883",
                "tls://0.0.0.0:8883",
                "tls://[::]:8883",
                "ws://0.0.0.0:9001",
                "unix:///run/m.sock"
            ]
        );
        assert_eq!(config.listeners[1].connections_max, Some(100));
        let limits = &config.limits;
        assert_eq!(
            (limits.session_queue_max, limits.send_window_max, limits.session_expiry_s_max),
            (500, 65_535, 2 * 7 * 86_400)
        );
        assert_eq!(config.log.level, crate::config::LogLevel::Warn);
        assert_eq!(config.store.data_dir.to_str(), Some("/var/lib/mosquitto/cairnmq"));
        let access = config.access.unwrap();
        assert_eq!(access.providers.len(), 1);
        assert!(matches!(access.rules, crate::config::RulesConfig::Mosquitto(..)));
        assert!(!config.allow_anonymous && imported.rules.is_none());
        assert!(
            imported.notes.iter().all(|note| note.kind != Kind::Lost),
            "{:?}",
            notes(&imported)
        );
    }

    #[test]
    fn what_was_open_stays_open_and_is_said_aloud() {
        let (config, imported) = import("listener 1883\nallow_anonymous true\n");
        assert!(config.allow_anonymous && config.access.is_none());
        assert!(notes(&imported)[0].contains("everybody from other machines may connect"));
        let (config, imported) = import("listener 1883 127.0.0.1\nallow_anonymous true\n");
        assert!(!config.allow_anonymous && imported.notes.is_empty());
        // Nobody gets in, as in mosquitto since 2.0.
        let (config, imported) = import("listener 1883\n");
        assert!(config.access.is_some_and(|access| access.providers.is_empty()));
        assert!(notes(&imported)[0].contains("nobody may connect here"));
        let (config, _) = import("");
        assert_eq!(config, Config::default());
    }

    #[test]
    fn without_an_acl_file_rules_allow_everything() {
        let (config, imported) = import("listener 1883\npassword_file pw\nallow_anonymous true\n");
        let rules = imported.rules.unwrap();
        access::Policy::parse_rules("rules.toml", &rules).unwrap();
        let access = config.access.unwrap();
        let names: Vec<_> = access.providers.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["everybody", "passwords pw"]);
        let asked = config.listeners[0].providers.clone().unwrap();
        assert_eq!(asked, ["passwords pw", "everybody"]);
    }

    #[test]
    fn settings_by_listener_are_kept_apart() {
        let (config, imported) = import(
            "per_listener_settings true\nlistener 1883\npassword_file a\nacl_file x\nlistener 1884\n\
             allow_anonymous true\nacl_file y\nlistener 8883\ncertfile c\nkeyfile k\ncafile ca\n\
             require_certificate true\nuse_identity_as_username true\n",
        );
        let asked: Vec<_> =
            config.listeners.iter().map(|one| one.providers.clone().unwrap().join("+")).collect();
        assert_eq!(
            asked,
            [
                "passwords a",
                "passwords a",
                "everybody",
                "everybody",
                "certificates",
                "certificates"
            ]
        );
        assert!(
            notes(&imported).iter().any(|note| note.contains("one file holds for all listeners"))
        );
    }

    #[test]
    fn what_is_not_there_is_said_with_its_place() {
        let (_, imported) = import(
            "connection cloud\naddress x:1883\ntopic # out 1\nremote_password s3cret\nlistener 1883 ::1\r\n\
             mount_point a/\nmax_conections 5\nplugin /x.so\nplugin_opt_a b\nmax_keepalive many\nallow_anonymous\n",
        );
        let said = notes(&imported);
        for (at, wanted) in [
            "m:1: NOT TRANSLATED: connection: the bridge \"cloud\"",
            "m:6: NOT TRANSLATED: mount_point: ",
            "m:7: NOT TRANSLATED: max_conections: mosquitto has no such option; did you mean max_connections?",
            "m:8: NOT TRANSLATED: plugin: ",
            "m:9: NOT TRANSLATED: plugin_opt_a: ",
            "m:10: NOT TRANSLATED: max_keepalive: \"many\" is no number",
            "m:11: NOT TRANSLATED: allow_anonymous: it has no value",
        ]
        .iter()
        .enumerate()
        {
            assert!(said[at].starts_with(wanted), "{wanted}\n{said:#?}");
        }
        assert!(!imported.settings.contains("s3cret"));
    }

    /// Every option of the manual is known; the manual is there if mosquitto is.
    #[test]
    fn every_option_has_something_to_say_or_to_do() {
        let known = |name: &str| {
            options::TRANSLATED.contains(&name)
                || options::is_of_bridge(name)
                || OPTIONS.iter().any(|(option, ..)| *option == name)
        };
        for name in options::TRANSLATED
            .iter()
            .filter(|name| !matches!(**name, "include_dir" | "connection"))
        {
            let line = Line { place: "m:1".into(), option: (*name).into(), value: "1".into() };
            let mut translation = Translation::default();
            translation.take(&line);
            let unknown = translation.notes.iter().any(|note| note.text.contains("no such option"));
            assert!(!unknown, "{name}");
        }
        let examples = std::fs::read_to_string("/usr/share/doc/mosquitto/examples/mosquitto.conf");
        for line in examples.unwrap_or_default().lines() {
            // Options stand there as comments, each with its default.
            let Some(option) = line.strip_prefix('#') else { continue };
            let word = option.split(' ').next().unwrap_or_default();
            let is_option = word.contains('_')
                && word.chars().all(|char| char.is_ascii_lowercase() || char == '_');
            assert!(!is_option || known(word), "{word}");
        }
    }
}
