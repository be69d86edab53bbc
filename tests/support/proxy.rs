//! A TCP proxy that simulates a bad network in front of a good server.

use std::{
    future::pending,
    io::Error,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Listens on a port of 127.0.0.1 and forwards bytes to another address, with the faults that the test sets. Dropping
/// it closes all its connections. Must be created inside a tokio runtime.
pub struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    accepting: JoinHandle<()>,
}

/// The treatment of connections and bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    /// The port on 127.0.0.1 for new connections.
    port: u16,
    delay_there: Duration,
    delay_back: Duration,
    swallows: bool,
    refuses: bool,
    /// Connections of an earlier generation are closed.
    generation: u64,
}

impl Proxy {
    /// Creates a proxy that forwards to this port of 127.0.0.1.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (way, ways) = watch::channel(Way { port, ..Way::default() });
        let accepting = tokio::spawn(accept(listener, ways));
        Self { address, way, accepting }
    }

    /// Returns the URL for a client.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Sends new connections to this port, as a DNS name does after a failover. Existing connections stay.
    pub fn lead_to(&self, port: u16) {
        self.way.send_modify(|way| way.port = port);
    }

    /// Delays bytes to the server and back. The order of the bytes stays, and the throughput is not limited.
    pub fn delay(&self, there: Duration, back: Duration) {
        self.way.send_modify(|way| (way.delay_there, way.delay_back) = (there, back));
    }

    /// Starts or ends a black hole: it drops bytes in both directions, and accepts new connections without an answer.
    /// When it ends, connections that lost bytes or were made during it stay open and silent.
    pub fn black_hole(&self, swallows: bool) {
        self.way.send_modify(|way| way.swallows = swallows);
    }

    /// Closes all connections at once. New connections are accepted.
    pub fn cut(&self) {
        self.way.send_modify(|way| way.generation += 1);
    }

    /// Closes all connections. If `refuses`, resets each new connection at once from then on. Otherwise accepts new
    /// connections again.
    pub fn refuse(&self, refuses: bool) {
        self.way.send_modify(|way| {
            way.generation += 1;
            way.refuses = refuses;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, ways: watch::Receiver<Way>) {
    while let Ok((client, _)) = listener.accept().await {
        let now = *ways.borrow();
        if now.refuses {
            // Dropping it closes it with a reset.
            let _ = client.set_zero_linger();
            continue;
        }
        let server = SocketAddr::from(([127, 0, 0, 1], now.port));
        tokio::spawn(pass(client, server, ways.clone(), now.generation));
    }
}

async fn pass(client: TcpStream, server: SocketAddr, ways: watch::Receiver<Way>, generation: u64) {
    let passing = async {
        // A black hole has no server behind it.
        let swallows = ways.borrow().swallows;
        if swallows {
            return pending::<Result<(), Error>>().await;
        }
        let server = TcpStream::connect(server).await?;
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let dead = AtomicBool::new(false);
        // The end of either direction ends both.
        tokio::select! {
            () = one_way(from_client, to_server, &ways, &dead, |way| way.delay_there) => {}
            () = one_way(from_server, to_client, &ways, &dead, |way| way.delay_back) => {}
        }
        Ok(())
    };
    let mut cuts = ways.clone();
    tokio::select! {
        _ = passing => {}
        _ = cuts.wait_for(|way| way.generation != generation) => {}
    }
}

async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    ways: &watch::Receiver<Way>,
    dead: &AtomicBool,
    delay: impl Fn(&Way) -> Duration,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    // Owns the sender. When this direction ends, the sender is dropped, and `writing` ends after the bytes in flight.
    let reading = async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                return Ok::<(), Error>(());
            }
            let way = *ways.borrow();
            dead.fetch_or(way.swallows, Ordering::Relaxed);
            if !dead.load(Ordering::Relaxed)
                && sender.send((Instant::now() + delay(&way), buffer[..length].to_vec())).is_err()
            {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((at, bytes)) = receiver.recv().await {
            // A timer may be a millisecond late, so bytes without a delay use none.
            if at > Instant::now() {
                sleep_until(at).await;
            }
            to.write_all(&bytes).await?;
        }
        Ok::<(), Error>(())
    };
    let _ = tokio::try_join!(reading, writing);
}
