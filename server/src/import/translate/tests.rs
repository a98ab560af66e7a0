//! What a translation keeps, and what it never lets in.

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
    assert!(imported.notes.iter().all(|note| note.kind != Kind::Lost), "{:?}", notes(&imported));
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
        "password_file never\nlistener 1883\npassword_file a\nacl_file x\nlistener 1884\n\
         allow_anonymous 1\nacl_file x\nlistener 8883\ncertfile c\nkeyfile k\ncafile ca\n\
         use_identity_as_username 1\nallow_anonymous true\nacl_file x\nlistener 1885 127.0.0.1\n\
         acl_file y\nallow_anonymous true\nper_listener_settings 1\n",
    );
    let asked: Vec<_> =
        config.listeners.iter().map(|one| one.providers.clone().unwrap().join("+")).collect();
    let wanted =
        ["passwords a", "passwords a", "everybody", "everybody", "certificates", "certificates"];
    assert_eq!(asked, wanted);
    let said = notes(&imported);
    assert!(
        said.iter().any(|note| note.contains("another acl_file than that of the first")),
        "{said:?}"
    );
    let certificates = config.access.unwrap();
    let certificates = certificates.providers.iter().find(|one| one.name == "certificates");
    let Some(crate::config::ProviderKind::X509(x509)) = certificates.map(|one| &one.kind) else {
        panic!("no x509")
    };
    assert_eq!((x509.required, x509.depth), (true, Some(0)));
}

/// Whatever is missing, unclear or not there: nobody gets in, or may do anything, who did not before.
#[test]
fn nobody_gets_in_who_did_not_before() {
    let tls = "certfile c\nkeyfile k\ncafile ca\n";
    // Listeners that are not served.
    for text in [
        "listener 1883\nallow_anonymous true\nmount_point a/\n",
        "listener 1883\nallow_anonymous true\nbind_interface eth0\n",
        "listener 8883\nallow_anonymous true\npsk_hint x\n",
        "listener 8883\nallow_anonymous true\nkeyfile k\nrequire_certificate true\n",
        "listener 8883\nallow_anonymous true\ncertfile c\n",
        "listener 8883\nallow_anonymous true\ncertfile c\nkeyfile k\nrequire_certificate 1\ncapath d\n",
        "listener abc\nallow_anonymous true\n",
        "listener 0 relative\nallow_anonymous true\n",
        "port abc\nallow_anonymous true\n",
        "listener 8883\nallow_anonymous true\ncrlfile\n",
        &format!("listener 8883\nallow_anonymous true\n{tls}use_subject_as_username true\n"),
        "listener 1883\nallow_anonymous true\nmax_connections few\n",
    ] {
        let (config, imported) = import(text);
        assert!(config.listeners.is_empty(), "{text}\n{}", imported.settings);
        assert!(imported.notes.iter().any(|note| note.kind == Kind::Lost), "{text}");
    }
    // Rights that rest on what is not there.
    for text in [
        "listener 1883\nallow_anonymous true\nacl_file\n",
        "listener 1883\nallow_anonymous true\nclientid_prefixes a-\n",
        "listener 1883\nplugin /x.so\npassword_file p\n",
        "listener 1883\nallow_anonymous true\npassword_file\n",
    ] {
        let (config, imported) = import(text);
        let access = config.access.expect(text);
        assert!(matches!(access.rules, crate::config::RulesConfig::Nothing), "{text}");
        assert!(!config.allow_anonymous && imported.rules.is_none(), "{text}");
    }
    // Switches that are not clearly off protect, and those that are not clearly on let nobody in.
    let (config, _) =
        import(&format!("listener 8883\nallow_anonymous true\n{tls}require_certificate 1\n"));
    let asked = config.listeners[0].tls.client_certificates;
    assert_eq!(asked.name(), "required");
    let (config, _) = import("listener 1883\nallow_anonymous yes\n");
    assert!(config.access.is_some_and(|access| access.providers.is_empty()));
    // TLS of the default listener.
    let (config, _) = import(&format!("{tls}password_file p\n"));
    let urls: Vec<_> = config.listeners.iter().map(|one| one.url.to_string()).collect();
    assert_eq!(urls, ["tls://0.0.0.0:1883", "tls://[::]:1883"]);
    assert_eq!(config.listeners[0].providers, Some(vec!["passwords p".to_owned()]));
}

/// Options of an included file speak of no listener of the file that includes it.
#[test]
fn each_file_has_a_listener_of_its_own() {
    let mut lines = conf::parse("m", "listener 1883 127.0.0.1\n");
    lines.extend(conf::parse(
        "d/a",
        "max_connections 3\nlistener 1884 127.0.0.1\nmax_connections 4\n",
    ));
    lines.extend(conf::parse("m", "max_connections 5\nallow_anonymous true\n"));
    let imported = translate(&lines, "rules.toml");
    let (config, _) = Config::parse("c.toml", &imported.settings, &[]).unwrap();
    let max: Vec<_> =
        config.listeners.iter().map(|one| (one.url.port(), one.connections_max)).collect();
    assert_eq!(max, [(1883, Some(3)), (1883, Some(3)), (1883, Some(5)), (1884, Some(4))]);
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
    let because = "m:5: NOT TRANSLATED: the listener is written as a comment";
    assert!(said.iter().any(|note| note.starts_with(because)), "{said:#?}");
}

/// Every option of the manual is known; the manual is there if mosquitto is.
#[test]
fn every_option_has_something_to_say_or_to_do() {
    let known = |name: &str| {
        options::TRANSLATED.contains(&name)
            || options::is_of_bridge(name)
            || OPTIONS.iter().any(|(option, ..)| *option == name)
    };
    for name in
        options::TRANSLATED.iter().filter(|name| !matches!(**name, "include_dir" | "connection"))
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
        let is_option =
            word.contains('_') && word.chars().all(|char| char.is_ascii_lowercase() || char == '_');
        assert!(!is_option || known(word), "{word}");
    }
}
