//! mosquitto's options that are not translated by themselves, and what is to be said of each. Those of version 2.0's
//! manual are all known, here or in `translate`.

use super::Kind;

/// The option, what became of it, and what to say.
pub(super) const OPTIONS: &[(&str, Kind, &str)] = &[
    (
        "allow_duplicate_messages",
        Kind::Differs,
        "a client gets a message once, with all Subscription Identifiers, however many of its subscriptions match",
    ),
    (
        "allow_zero_length_clientid",
        Kind::Differs,
        "clients without an identifier are given one, as the standard says",
    ),
    ("auto_id_prefix", Kind::Differs, "identifiers that the broker gives begin with auto-"),
    ("autosave_interval", Kind::NotNeeded, "what is acknowledged is on disk at once"),
    ("autosave_on_changes", Kind::NotNeeded, "what is acknowledged is on disk at once"),
    (
        "check_retain_source",
        Kind::NotNeeded,
        "retained messages are judged by the rights of who published them",
    ),
    ("connection_messages", Kind::Differs, "connects and disconnects are logged at level info"),
    ("dhparamfile", Kind::NotNeeded, "there is no finite-field key exchange"),
    ("disable_client_cert_date_checks", Kind::Lost, "certificates out of their time are refused"),
    ("http_dir", Kind::Lost, "no files are served; use a web server"),
    ("log_facility", Kind::NotNeeded, "the journal is written to, not syslog"),
    ("log_timestamp", Kind::NotNeeded, "each line has its time"),
    ("log_timestamp_format", Kind::NotNeeded, "each line has its time, as RFC 3339 has it"),
    (
        "max_inflight_bytes",
        Kind::Lost,
        "messages in flight are bounded by number (limits.send_window_max)",
    ),
    (
        "memory_limit",
        Kind::Lost,
        "queues, sessions and retained messages are bounded one by one, in [limits]",
    ),
    ("persistence_file", Kind::NotNeeded, "the data directory has several files"),
    ("pid_file", Kind::NotNeeded, "the program stays in the foreground; systemd knows its id"),
    ("set_tcp_nodelay", Kind::NotNeeded, "it is always on"),
    ("tls_engine", Kind::Lost, "keys are in files"),
    ("tls_engine_kpass_sha1", Kind::Lost, "keys are in files"),
    ("tls_keyform", Kind::Lost, "keys are in files"),
    ("user", Kind::NotNeeded, "the service's unit says who the program runs as"),
    ("websockets_headers_size", Kind::NotNeeded, "requests are bounded anyway"),
    ("websockets_log_level", Kind::NotNeeded, "there is one log"),
    (
        "auth_plugin",
        Kind::Lost,
        "plugins of mosquitto cannot be loaded; [[access.provider]] asks servers by HTTP, verifies tokens and certificates",
    ),
    (
        "auth_plugin_deny_special_chars",
        Kind::NotNeeded,
        "identifiers with + and # are taken as text wherever they stand for somebody",
    ),
    (
        "plugin",
        Kind::Lost,
        "plugins of mosquitto cannot be loaded; [[access.provider]] asks servers by HTTP, verifies tokens and certificates",
    ),
    ("psk_file", Kind::Lost, "there are no pre-shared keys; use certificates, or passwords in TLS"),
    ("psk_hint", Kind::Lost, "there are no pre-shared keys; use certificates, or passwords in TLS"),
    (
        "queue_qos0_messages",
        Kind::Differs,
        "QoS 0 messages wait for clients that are connected only",
    ),
    (
        "upgrade_outgoing_qos",
        Kind::Differs,
        "a message keeps the QoS that it was published with, if the subscription grants it",
    ),
    (
        "clientid_prefixes",
        Kind::Lost,
        "rules can name Client Identifiers by a regular expression: [patterns] and client_id_pattern",
    ),
    ("accept_protocol_versions", Kind::Lost, "all versions are taken at each listener"),
    ("bind_interface", Kind::Lost, "a listener has an address; name that of the interface"),
    ("capath", Kind::Lost, "authorities are in one PEM file each: client_ca"),
    (
        "mount_point",
        Kind::Lost,
        "topics have no prefix by listener; rules can keep clients of a listener below one",
    ),
    (
        "use_subject_as_username",
        Kind::Lost,
        "the name of a certificate is its common name, or its alternative name: `from` of an x509 provider",
    ),
    ("use_username_as_clientid", Kind::Lost, "rules can bind the Client Identifier to the user"),
    ("ciphers_tls1.3", Kind::Lost, "cipher_suites of the listener names suites as rustls does"),
    ("ciphers", Kind::Lost, "cipher_suites of the listener names suites as rustls does"),
];

/// Options that keep clients out of a listener, or apart from others, and are not there: without them the listener is
/// not served.
pub(super) const CLOSING: &[&str] = &[
    "bind_interface",
    "capath",
    "mount_point",
    "psk_hint",
    "tls_engine",
    "tls_keyform",
    "use_subject_as_username",
    "use_username_as_clientid",
];

/// Options on which rights rest, and that are not there: without them nobody has any.
pub(super) const DENYING: &[&str] = &["auth_plugin", "clientid_prefixes", "plugin", "psk_file"];

/// Options of a bridge, which are passed over together with it.
pub(super) const BRIDGE: &[&str] = &[
    "address",
    "addresses",
    "cleansession",
    "idle_timeout",
    "keepalive_interval",
    "notification_topic",
    "notifications",
    "notifications_local_only",
    "restart_timeout",
    "round_robin",
    "start_type",
    "threshold",
    "topic",
    "try_private",
];

/// Whether an option is one of a bridge.
pub(super) fn is_of_bridge(option: &str) -> bool {
    BRIDGE.contains(&option)
        || ["bridge_", "local_", "remote_"].iter().any(|prefix| option.starts_with(prefix))
}

/// Options that `translate` takes by itself.
pub(super) const TRANSLATED: &[&str] = &[
    "acl_file",
    "allow_anonymous",
    "bind_address",
    "cafile",
    "certfile",
    "connection",
    "crlfile",
    "include_dir",
    "keyfile",
    "listener",
    "log_dest",
    "log_type",
    "max_connections",
    "max_inflight_messages",
    "max_keepalive",
    "max_packet_size",
    "max_qos",
    "max_queued_bytes",
    "max_queued_messages",
    "max_topic_alias",
    "max_topic_alias_broker",
    "message_size_limit",
    "password_file",
    "per_listener_settings",
    "persistence",
    "persistence_location",
    "persistent_client_expiration",
    "port",
    "protocol",
    "require_certificate",
    "retain_available",
    "socket_domain",
    "sys_interval",
    "tls_version",
    "use_identity_as_username",
];

/// The option that looks most like this one.
pub(super) fn nearest(option: &str) -> Option<&'static str> {
    let known = OPTIONS.iter().map(|(name, ..)| *name).chain(TRANSLATED.iter().copied());
    let alike = known.map(|name| (strsim::normalized_damerau_levenshtein(option, name), name));
    let best = alike.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= 0.7).then_some(best.1)
}
