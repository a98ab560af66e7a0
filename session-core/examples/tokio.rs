//! The core under tokio: one shard, MQTT over TCP, nothing on disk, everybody may connect.
//!
//! One task owns the shard and everything that is known of connections, so nothing is locked. Each
//! connection has two more tasks, which move bytes and decide nothing. `docs/embedding.md` explains it.
//!
//! ```text
//! cargo run -p session-core --example tokio -- 127.0.0.1:1883
//! ```

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use codec::{Framer, Role};
use session_core::{
    ConnId, Effect, Effects, Input, Origin, Shard, ShardConfig, ShardId, ShardMap, Time, Transport,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, UnboundedSender},
    time,
};

/// Bytes that the shard may have on their way to one connection: what bounds the queue of its writer.
const CREDIT: u32 = 256 * 1024;
/// How long a connection that was closed here may take to read its last bytes.
const LINGER: Duration = Duration::from_secs(2);

/// What happened outside. The tasks of connections tell the one that owns the shard.
enum News {
    Accepted(TcpStream, SocketAddr),
    /// The next bytes of a connection; more are read once these are decoded.
    Read(ConnId, Vec<u8>),
    /// Its socket took so many bytes.
    Wrote(ConnId, usize),
    /// It ended, or cannot be written to.
    Lost(ConnId),
}

/// A connection as the owner of the shard knows it.
struct Conn {
    framer: Framer,
    /// Read, and not decoded since the shard wants no packet for now.
    undecoded: Vec<u8>,
    paused: bool,
    /// Lets the reader go on. It ends when this is dropped.
    go_on: Sender<()>,
    /// What the writer writes. It ends, once all is written, when this is dropped.
    out: UnboundedSender<Vec<u8>>,
}

/// The shard and its connections.
struct Broker {
    shard: Shard,
    packet_max: [u32; 2],
    conns: BTreeMap<ConnId, Conn>,
    epoch: u32,
    news: Sender<News>,
    wall_at_start: u64,
    start: Instant,
}

/// Serves clients for ever.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let (news, mut inbox) = mpsc::channel(1024);
    let accepts = news.clone();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            if accepts.send(News::Accepted(stream, peer)).await.is_err() {
                return;
            }
        }
    });
    let config = ShardConfig::new(ShardId(0), ShardMap::new(1, 2));
    let packet_max = [config.limits.connect_packet_bytes_max, config.limits.packet_bytes_max];
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut broker = Broker {
        shard: Shard::new(config),
        packet_max,
        conns: BTreeMap::new(),
        epoch: 0,
        news,
        wall_at_start: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        start: Instant::now(),
    };
    let mut effects = Effects::new();
    broker.shard.start(broker.now(), &mut effects);
    broker.carry_out(effects);
    loop {
        // Time is an input like any other: the shard says when it wants to hear of it.
        let wait = broker.shard.next_timeout().map(|at| at.since_ms(broker.now()));
        let tick = time::sleep(Duration::from_millis(wait.unwrap_or(60_000)));
        tokio::select! {
            Some(news) = inbox.recv() => broker.hear(news),
            () = tick => broker.handle(Input::Tick),
        }
    }
}

impl Broker {
    fn now(&self) -> Time {
        Time(self.wall_at_start)
            .plus_ms(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0))
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Accepted(stream, peer) => self.open(stream, peer),
            News::Read(conn, bytes) => {
                if let Some(known) = self.conns.get_mut(&conn) {
                    known.undecoded.extend(bytes);
                    self.decode(conn);
                }
            }
            News::Wrote(conn, bytes) => {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                self.handle(Input::Sent { conn, bytes });
            }
            News::Lost(conn) => {
                if self.conns.remove(&conn).is_some() {
                    self.handle(Input::Closed { conn });
                }
            }
        }
    }

    fn open(&mut self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let used = self.conns.keys().map(|conn| conn.slot);
        let slot = (0..)
            .zip(used)
            .find(|(slot, used)| slot != used)
            .map_or(self.conns.len(), |(slot, _)| slot as usize);
        self.epoch = self.epoch.wrapping_add(1);
        // The shard knows connections by small numbers that are used again, each user by its epoch.
        let conn = ConnId { slot: slot as u32, epoch: self.epoch };
        let (reader, writer) = stream.into_split();
        let (go_on, goes_on) = mpsc::channel(1);
        let (out, queue) = mpsc::unbounded_channel();
        tokio::spawn(read(conn, reader, goes_on, self.news.clone()));
        tokio::spawn(write(conn, writer, queue, self.news.clone()));
        let framer = Framer::new(Role::Server, self.packet_max[0], self.packet_max[1]);
        let known = Conn { framer, undecoded: Vec::new(), paused: false, go_on, out };
        self.conns.insert(conn, known);
        let origin = Origin {
            listener: "tcp".into(),
            peer: Some(peer),
            transport: Transport::Tcp,
            certificates: Vec::new(),
            server_name: None,
            proxied: None,
        };
        self.handle(Input::Opened { conn, origin: Box::new(origin), credit: CREDIT });
    }

    /// Hands packets to the shard as long as it wants them; then the reader goes on.
    fn decode(&mut self, conn: ConnId) {
        while let Some(known) = self.conns.get_mut(&conn) {
            if known.paused {
                return;
            }
            let mut input = &known.undecoded[..];
            let packet = known.framer.decode(&mut input);
            let rest = input.len();
            known.undecoded.drain(..known.undecoded.len() - rest);
            match packet {
                Ok(Some(packet)) => self.handle(Input::Packet { conn, packet }),
                Ok(None) => {
                    // It fails only if the reader goes on anyway, or has ended.
                    let _ = known.go_on.try_send(());
                    return;
                }
                Err(error) => {
                    let version = known.framer.version();
                    // Nothing is decoded any more: the shard closes.
                    known.paused = true;
                    return self.handle(Input::Malformed { conn, error, version });
                }
            }
        }
    }

    fn handle(&mut self, input: Input) {
        let mut effects = Effects::new();
        self.shard.handle(self.now(), input, &mut effects);
        self.carry_out(effects);
    }

    /// Carries effects out, in their order.
    fn carry_out(&mut self, effects: Effects) {
        for effect in effects.into_iter().flat_map(Effect::each) {
            match effect {
                Effect::Send { conn, frame } => {
                    if let Some(known) = self.conns.get(&conn) {
                        let mut bytes = Vec::with_capacity(frame.len());
                        frame.encode(&mut bytes);
                        let _ = known.out.send(bytes);
                    }
                }
                // What is queued is written, then both tasks end by themselves.
                Effect::Close { conn, .. } => drop(self.conns.remove(&conn)),
                Effect::Pause { conn } => {
                    if let Some(known) = self.conns.get_mut(&conn) {
                        known.paused = true;
                    }
                }
                Effect::Resume { conn } => {
                    if let Some(known) = self.conns.get_mut(&conn) {
                        known.paused = false;
                        self.decode(conn);
                    }
                }
                // A single shard tells and moves nothing; it is not durable, so it persists and loads
                // nothing; it is anonymous, so it asks nobody; and nobody gives it commands. Notes are
                // for a log, which is left out here.
                Effect::SendMany(_)
                | Effect::Tell { .. }
                | Effect::Move { .. }
                | Effect::Persist { .. }
                | Effect::Load(_)
                | Effect::Ask { .. }
                | Effect::Reply { .. }
                | Effect::Note(_) => {}
            }
        }
    }
}

/// Reads, and waits until what was read is wanted; at the end it throws away what still comes, so that
/// no reset destroys the last packet on its way to the client.
async fn read(
    conn: ConnId,
    mut from: OwnedReadHalf,
    mut goes_on: Receiver<()>,
    news: Sender<News>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        let said = match count {
            0 => News::Lost(conn),
            _ => News::Read(conn, buffer[..count].to_vec()),
        };
        if news.send(said).await.is_err() || count == 0 {
            return;
        }
        if goes_on.recv().await.is_none() {
            let drain =
                async { while from.read(&mut buffer).await.is_ok_and(|count| count > 0) {} };
            let _ = time::timeout(LINGER, drain).await;
            return;
        }
    }
}

/// Writes what is queued, and says how much was taken.
async fn write(
    conn: ConnId,
    mut to: OwnedWriteHalf,
    mut queue: UnboundedReceiver<Vec<u8>>,
    news: Sender<News>,
) {
    while let Some(bytes) = queue.recv().await {
        let said = match to.write_all(&bytes).await {
            Ok(()) => News::Wrote(conn, bytes.len()),
            Err(_) => News::Lost(conn),
        };
        if news.send(said).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Serves the address that is given, or a free port.
#[allow(clippy::print_stdout, reason = "whoever starts it wants to know the port")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("listening on {}", listener.local_addr()?);
    serve(listener).await
}
