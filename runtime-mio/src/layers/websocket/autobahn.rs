//! Echoes for the Autobahn test suite, which speaks no MQTT: what this layer takes out of frames goes back in one.
//! `docs/verification.md` says how it is run.

use std::{
    env,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use super::{WebSocket, WebSocketSetup};

/// What the suite does not say, and this layer wants to hear.
const OFFER: &str = "Sec-WebSocket-Protocol: mqtt\r\n";

#[test]
#[ignore = "serves CAIRNMQ_AUTOBAHN=HOST:PORT until it is killed"]
fn serve() {
    let address = env::var("CAIRNMQ_AUTOBAHN").expect("CAIRNMQ_AUTOBAHN is HOST:PORT");
    for stream in TcpListener::bind(address).unwrap().incoming() {
        thread::spawn(move || echo(&stream.unwrap()));
    }
}

fn echo(mut stream: &TcpStream) {
    let max = 64 << 20;
    let setup = WebSocketSetup {
        first_message_bytes_max: max,
        message_bytes_max: max,
        ..WebSocketSetup::default()
    };
    let mut websocket = WebSocket::new(Arc::new(setup));
    websocket.know();
    let mut buffer = vec![0; 65_536];
    let mut request = Vec::new();
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let (mut mqtt, mut wire) = (Vec::new(), Vec::new());
        let was_open = websocket.is_open();
        let mut bytes = buffer[..count].to_vec();
        if !was_open {
            request.extend(bytes);
            let text = String::from_utf8_lossy(&request);
            let Some(end) = text.find("\r\n\r\n") else { continue };
            bytes = request.clone();
            bytes.splice(end + 2..end + 2, OFFER.bytes());
        }
        let is_well = websocket.receive(&bytes, &mut mqtt, &mut wire).is_ok();
        if !was_open {
            wire = String::from_utf8_lossy(&wire).replace(OFFER, "").into_bytes();
        }
        if !mqtt.is_empty() {
            websocket.send(&mqtt, &mut wire);
        }
        if stream.write_all(&wire).is_err() || !is_well || websocket.is_over() {
            return;
        }
    }
}
