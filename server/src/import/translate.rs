//! From mosquitto's options to a configuration of ours.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use super::{
    Imported, Kind, Note,
    conf::Line,
    draft::{Access, Family, Listener, quoted},
    grant::{self, Wish},
    options::{self, OPTIONS},
};

/// Translates a configuration; `rules` is the name of the file of rules, if one is needed.
pub(super) fn translate(lines: &[Line], rules: &str) -> Imported {
    // It holds wherever it stands.
    let is_set = |line: &&Line| line.option == "per_listener_settings";
    let per_listener = lines.iter().rfind(is_set).is_some_and(|line| is_on(&line.value));
    let mut translation = Translation { per_listener, ..Translation::default() };
    lines.iter().for_each(|line| translation.take(line));
    translation.finish(rules)
}

/// What a configuration wants, as far as it was read.
#[derive(Default)]
struct Translation {
    /// Keys of [limits], [features], [store], [log] and [sys].
    tables: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    listeners: Vec<Listener>,
    /// The listener that options speak of, in each file.
    current: HashMap<String, usize>,
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
            if options::CLOSING.contains(&option) {
                self.close(line);
            }
            if options::DENYING.contains(&option) {
                self.deny_all(line);
            }
            return self.note(line, *kind, *text);
        }
        if option.starts_with("auth_opt_") || option.starts_with("plugin_opt_") {
            return self.note(line, Kind::Lost, "it is for a plugin");
        }
        if options::is_of_bridge(option) {
            return self.note(line, Kind::Lost, "it is for a bridge, and there are none yet");
        }
        if line.value.is_empty() && options::TRANSLATED.contains(&option) {
            match option {
                "password_file" | "acl_file" | "allow_anonymous" => self.deny_all(line),
                _ => self.close(line),
            }
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

    /// The listener that an option speaks of.
    fn listener(&mut self, line: &Line) -> &mut Listener {
        match self.current.get(line.file()).and_then(|at| self.listeners.get_mut(*at)) {
            Some(listener) => listener,
            None => {
                self.has_default = true;
                if self.default.place.is_empty() {
                    self.default.place.clone_from(&line.place);
                }
                &mut self.default
            }
        }
    }

    /// Rights of whoever an option speaks of.
    fn access(&mut self, line: &Line) -> &mut Access {
        if !self.per_listener {
            return &mut self.access;
        }
        match self.current.get(line.file()).and_then(|at| self.listeners.get_mut(*at)) {
            Some(listener) => &mut listener.access,
            None => &mut self.default.access,
        }
    }

    /// What an option protected is not served.
    fn close(&mut self, line: &Line) {
        let why = format!("{} {}", line.option, line.value).trim_end().to_owned();
        self.listener(line).closed.push(why);
    }

    /// What rights rest on is not there.
    fn deny_all(&mut self, line: &Line) {
        self.access(line).no_rights = true;
    }

    fn take_listener(&mut self, line: &Line) -> bool {
        let value = line.value.clone();
        match line.option.as_str() {
            "listener" => self.begin_listener(line),
            "port" => {
                self.has_default = true;
                self.default.place.clone_from(&line.place);
                match value.parse() {
                    Ok(port) => self.default.port = port,
                    Err(_) => {
                        self.default.closed.push(format!("port {value}"));
                        self.note(line, Kind::Lost, "this is no port");
                    }
                }
            }
            "bind_address" => {
                self.has_default = true;
                self.default.host = Some(value);
            }
            "protocol" => match value.as_str() {
                "websockets" => self.listener(line).is_websocket = true,
                "mqtt" => {}
                _ => self.close_with(line, "there are mqtt and websockets"),
            },
            "socket_domain" => match value.as_str() {
                "ipv4" => self.listener(line).family = Family::V4,
                "ipv6" => self.listener(line).family = Family::V6,
                _ => self.close_with(line, "there are ipv4 and ipv6"),
            },
            "certfile" => self.listener(line).certificate = Some(value),
            "keyfile" => self.listener(line).key = Some(value),
            "cafile" => self.listener(line).authority = Some(value),
            "crlfile" => self.listener(line).crl = Some(value),
            "require_certificate" => self.listener(line).requires_certificate |= !is_off(&value),
            "use_identity_as_username" if is_off(&value) => {}
            "use_identity_as_username" => {
                // Nobody has another name there, so a certificate has to be shown.
                let listener = self.listener(line);
                (listener.by_certificate, listener.requires_certificate) = (true, true);
            }
            "tls_version" => match value.as_str() {
                "tlsv1.3" => self.listener(line).tls_minimum = Some("1.3"),
                "tlsv1.2" => self.listener(line).tls_minimum = Some("1.2"),
                _ => self.note(line, Kind::Differs, "TLS 1.2 is the oldest version that is spoken"),
            },
            "max_connections" => match value.parse::<i64>() {
                Ok(max) if max > 0 => {
                    let max = u32::try_from(max).unwrap_or(u32::MAX);
                    self.listener(line).connections_max = Some(max);
                }
                Ok(_) => {}
                Err(_) => self.close_with(line, "this is no number"),
            },
            _ => return false,
        }
        true
    }

    fn close_with(&mut self, line: &Line, why: &str) {
        self.close(line);
        self.note(line, Kind::Lost, why);
    }

    fn begin_listener(&mut self, line: &Line) {
        self.in_bridge = false;
        let mut parts = line.value.split_whitespace();
        let port = parts.next().and_then(|port| port.parse().ok());
        let host = parts.next().map(str::to_owned);
        let place = line.place.clone();
        let is_path = host.as_deref().is_some_and(|path| path.starts_with('/'));
        // What follows speaks of this one, even if it is none.
        self.current.insert(line.file().to_owned(), self.listeners.len());
        let port_or_none = port.unwrap_or(1883);
        self.listeners.push(Listener { place, port: port_or_none, host, ..Listener::default() });
        if port.is_none() {
            self.close_with(line, "this is no port");
        } else if port == Some(0) && !is_path {
            self.close_with(line, "a socket of the file system needs an absolute path");
        }
    }

    fn take_access(&mut self, line: &Line) -> bool {
        let value = line.value.clone();
        match line.option.as_str() {
            "per_listener_settings" => {}
            "allow_anonymous" => self.access(line).anonymous = Some(is_on(&value)),
            "password_file" => self.access(line).passwords = Some(value),
            "acl_file" => self.access(line).acl = Some(value),
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
            "retain_available" => self.set("features", "retain", is_on(value)),
            "persistence" if is_on(value) => {
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
        self.close_what_cannot_be_had();
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
        if !self.listeners.is_empty() && self.listeners.iter().all(|one| !one.closed.is_empty()) {
            text.push_str("\n# None of the listeners can be served as it was.\nlisten = []\n");
        }
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

    /// A listener whose protection cannot be had here is not served.
    fn close_what_cannot_be_had(&mut self) {
        let acl = self.listeners.iter().find_map(|one| one.access.acl.clone());
        let mut lost = Vec::new();
        for listener in &mut self.listeners {
            let is_tls = listener.certificate.is_some() && listener.key.is_some();
            let wants_tls = listener.certificate.is_some()
                || listener.key.is_some()
                || listener.requires_certificate
                || listener.crl.is_some();
            if wants_tls && !is_tls {
                listener.closed.push("TLS without both certfile and keyfile".to_owned());
            }
            if listener.requires_certificate && listener.authority.is_none() {
                listener.closed.push("client certificates without a cafile".to_owned());
            }
            if self.per_listener && listener.access.acl.is_some() && listener.access.acl != acl {
                listener.closed.push("another acl_file than that of the first listener".to_owned());
            }
            if let Some(why) = listener.closed.first() {
                let text = format!(
                    "the listener is written as a comment, so that nobody gets in who did not before: {why}"
                );
                lost.push(Note { place: listener.place.clone(), kind: Kind::Lost, text });
            }
        }
        self.notes.extend(lost);
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
            is_private: listener.is_private() || !listener.closed.is_empty(),
        };
        if self.listeners.is_empty() {
            let access = if self.per_listener { &self.default.access } else { &self.access };
            let (place, access) = (String::new(), access.clone());
            return vec![Wish { place, access, by_certificate: false, is_private: true }];
        }
        self.listeners.iter().map(of).collect()
    }
}

/// Whether a switch is on; what is not clearly so is not.
fn is_on(value: &str) -> bool {
    matches!(value, "true" | "1")
}

/// Whether a switch is off; what is not clearly so is not.
fn is_off(value: &str) -> bool {
    matches!(value, "false" | "0")
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
mod tests;
