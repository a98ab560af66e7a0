//! TLS handshakes: full ones, with a P-256 certificate, one after the other.

use std::time::{Duration, Instant};

use crate::{broker::Broker, client::Wire, pki};

pub(crate) fn run(seconds: u64) -> Result<(), String> {
    println!("Full TLS 1.3 handshakes, one client after the other for {seconds} s");
    let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
    let config = pki::make(folder.path())?;
    let own = "allow_anonymous = true\n[[listener]]\nurl = \"tls://ADDRESS\"\ncertificate = \"server.crt\"\n\
               key = \"server.key\"\n";
    let theirs = "user root\nlistener PORT 127.0.0.1\nallow_anonymous true\ncertfile server.crt\nkeyfile server.key\n";
    let brokers = [
        ("cairnmq", Some(Broker::own(folder.path(), own))),
        ("mosquitto", Broker::mosquitto(folder.path(), theirs)),
    ];
    for (name, broker) in brokers {
        let Some(broker) = broker.transpose()? else { continue };
        let before = broker.cpu()?;
        let (began, mut count) = (Instant::now(), 0_u32);
        while began.elapsed() < Duration::from_secs(seconds) {
            Wire::tls(broker.address, &config)?;
            count += 1;
        }
        let per_second = f64::from(count) / began.elapsed().as_secs_f64();
        let cpu = (broker.cpu()? - before) / count.max(1);
        println!(
            "  {name:<10} {per_second:>7.0} a second, {:>5} us of the broker's processor time each",
            cpu.as_micros()
        );
    }
    Ok(())
}
