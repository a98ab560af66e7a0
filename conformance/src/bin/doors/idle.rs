//! Memory of connections that do nothing.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::{
    broker::Broker,
    client::{Client, Wire},
    pki,
};

/// Connections before the first look: what is only there once shall not count.
const BEFORE: usize = 50;

pub(crate) fn run(connections: usize) -> Result<(), String> {
    println!(
        "Resident bytes of an idle connection ({connections} of them; client and MQTT session included)"
    );
    let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
    let config = pki::make(folder.path())?;
    let own = |url: &str, keys: &str| {
        format!("allow_anonymous = true\n[[listener]]\nurl = \"{url}://ADDRESS\"\n{keys}")
    };
    let keys = "certificate = \"server.crt\"\nkey = \"server.key\"\n";
    let plain = Broker::own(folder.path(), &own("tcp", ""))?;
    println!("  cairnmq, tcp    {:>8}", per_connection(&plain, None, connections)?);
    drop(plain);
    let tls = Broker::own(folder.path(), &own("tls", keys))?;
    println!("  cairnmq, tls    {:>8}", per_connection(&tls, Some(&config), connections)?);
    drop(tls);
    for (name, more, config) in
        [("tcp", "", None), ("tls", "certfile server.crt\nkeyfile server.key\n", Some(&config))]
    {
        let text = format!("user root\nlistener PORT 127.0.0.1\nallow_anonymous true\n{more}");
        if let Some(broker) = Broker::mosquitto(folder.path(), &text) {
            println!("  mosquitto, {name}  {:>8}", per_connection(&broker?, config, connections)?);
        }
    }
    Ok(())
}

fn per_connection(
    broker: &Broker,
    config: Option<&Arc<ClientConfig>>,
    connections: usize,
) -> Result<u64, String> {
    let connect = |number: usize| {
        let wire = match config {
            None => Wire::Tcp(Wire::tcp(broker.address)?),
            Some(config) => Wire::tls(broker.address, config)?,
        };
        Client::connect(wire, &format!("idle-{number}"), None)
    };
    let mut clients = (0..BEFORE).map(connect).collect::<Result<Vec<_>, _>>()?;
    let before = broker.resident_bytes()?;
    for number in 0..connections {
        clients.push(connect(BEFORE + number)?);
    }
    let after = broker.resident_bytes()?;
    Ok(after.saturating_sub(before) / connections as u64)
}
