//! A configuration on its way from mosquitto's form to ours.

use std::fmt::Write as _;

/// A listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Listener {
    /// Where it stands.
    pub(super) place: String,
    pub(super) port: u16,
    /// An address, or the path of a socket.
    pub(super) host: Option<String>,
    pub(super) is_websocket: bool,
    pub(super) family: Family,
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
    pub(super) authority: Option<String>,
    pub(super) crl: Option<String>,
    pub(super) requires_certificate: bool,
    pub(super) by_certificate: bool,
    pub(super) tls_minimum: Option<&'static str>,
    pub(super) connections_max: Option<u32>,
    /// With `per_listener_settings`.
    pub(super) access: Access,
    /// What kept clients out or apart and is not there: it is written as a comment, so that nobody gets in who did not
    /// before.
    pub(super) closed: Vec<String>,
}

/// Which addresses an address stands for that is not named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Family {
    #[default]
    Both,
    V4,
    V6,
}

/// Who may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) anonymous: Option<bool>,
    pub(super) passwords: Option<String>,
    pub(super) acl: Option<String>,
    /// What rights rest on is not there, so nobody has any.
    pub(super) no_rights: bool,
}

impl Listener {
    /// All addresses that it stands for.
    pub(super) fn urls(&self) -> Vec<String> {
        let scheme = match (self.certificate.is_some(), self.is_websocket) {
            (false, false) => "tcp",
            (true, false) => "tls",
            (false, true) => "ws",
            (true, true) => "wss",
        };
        let url = |host: &str| match host.contains(':') {
            true => format!("{scheme}://[{host}]:{}", self.port),
            false => format!("{scheme}://{host}:{}", self.port),
        };
        match (&self.host, self.family) {
            (Some(path), _) if self.port == 0 => vec![format!("unix://{path}")],
            (Some(host), _) => vec![url(host)],
            (None, Family::V4) => vec![url("0.0.0.0")],
            (None, Family::V6) => vec![url("::")],
            (None, Family::Both) => vec![url("0.0.0.0"), url("::")],
        }
    }

    /// Whether only this machine can reach it.
    pub(super) fn is_private(&self) -> bool {
        self.port == 0
            || self
                .host
                .as_deref()
                .is_some_and(|host| matches!(host, "localhost" | "::1") || host.starts_with("127."))
    }

    /// Its tables; `providers` are those that are asked here.
    pub(super) fn text(&self, providers: Option<&[String]>) -> String {
        let text = self.open_text(providers);
        if self.closed.is_empty() {
            return text;
        }
        let lines = text.lines().map(|line| match line.is_empty() {
            true => "\n".to_owned(),
            false => format!("#{line}\n"),
        });
        let why = self.closed.join(", ");
        format!("\n# Not served, since this is not there: {why}{}", lines.collect::<String>())
    }

    fn open_text(&self, providers: Option<&[String]>) -> String {
        let mut text = String::new();
        for url in self.urls() {
            let _ = writeln!(text, "\n[[listener]]                    # {}", self.place);
            let mut put = |key: &str, value: String| {
                let _ = writeln!(text, "{key} = {value}");
            };
            put("url", quoted(&url));
            for (key, value) in [("certificate", &self.certificate), ("key", &self.key)] {
                value.iter().for_each(|value| put(key, quoted(value)));
            }
            if self.certificate.is_some() {
                if self.requires_certificate {
                    put("client_certificates", quoted("required"));
                }
                let authority = self.authority.iter().filter(|_| self.requires_certificate);
                authority.for_each(|path| put("client_ca", format!("[{}]", quoted(path))));
                if let Some(path) = &self.crl {
                    put("crl", format!("[{}]", quoted(path)));
                    put("crl_strict", "true".to_owned());
                }
                self.tls_minimum.iter().for_each(|version| put("tls_minimum", quoted(version)));
            }
            self.connections_max.iter().for_each(|max| put("connections_max", max.to_string()));
            if let Some(providers) = providers {
                let names: Vec<_> = providers.iter().map(|name| quoted(name)).collect();
                put("providers", format!("[{}]", names.join(", ")));
            }
        }
        text
    }
}

/// A string as TOML has it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
