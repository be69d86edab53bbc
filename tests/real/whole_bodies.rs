//! Permits that last until bodies are sent, on a real server with many kinds of readers.

use crate::trial::trials;
use axum::{
    Router,
    body::{Body, Bytes},
    response::Response,
    routing::get,
};
use futures::future::join_all;
use hyper::body::{Body as _, Frame};
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{http::Peer, load_shed::Limiter};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::sleep,
};

trials![there_are_never_more_bodies_in_progress_than_permits];

const PLACES: usize = 8;
const CLIENTS: usize = 40;
/// The responses that each client gets.
const ANSWERS: usize = 3;
/// Small, so that a body does not fit into the kernel's buffers, and slow readers delay it.
const SOCKET_BUFFER: u32 = 16 * 1024;
const CHUNK: usize = 16 * 1024;
const CHUNKS: usize = 32;

/// The bodies in progress.
#[derive(Default)]
struct Sending {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A body that counts itself from its creation to its drop.
struct Counted {
    sending: Arc<Sending>,
    chunks: usize,
}

impl Counted {
    fn new(sending: Arc<Sending>) -> Self {
        let now = sending.now.fetch_add(1, Ordering::SeqCst) + 1;
        sending.most.fetch_max(now, Ordering::SeqCst);
        Self { sending, chunks: CHUNKS }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.sending.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.chunks == 0 {
            return Poll::Ready(None);
        }
        self.chunks -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; CHUNK])))))
    }
}

/// How a client reads a response.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Fast,
    Slow,
    /// Closes its connection after half of the body.
    Vanishes,
    /// Closes its connection after reading nothing for a while.
    Stalls,
}

const READERS: [Reader; 4] = [Reader::Fast, Reader::Slow, Reader::Vanishes, Reader::Stalls];

async fn serve(limiter: Limiter, sending: Arc<Sending>) -> SocketAddr {
    let stack = steadfast::server().load_shed(limiter).http(Peer::External).whole_body().layer().unwrap();
    let answer = async move || {
        let body = Counted::new(sending.clone());
        assert!(!body.is_end_stream());
        Response::new(Body::new(body))
    };
    let router = Router::new().route("/", get(answer)).layer(stack);
    let socket = TcpSocket::new_v4().unwrap();
    // Connections inherit this size.
    socket.set_send_buffer_size(SOCKET_BUFFER).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1024).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}

/// Sends a request. Returns the connection, whether the request was admitted, and all bytes that came with the head.
async fn ask(address: SocketAddr) -> (TcpStream, bool, usize) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SOCKET_BUFFER).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    loop {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0, "an answer has a head");
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let is_admitted = read.starts_with(b"HTTP/1.1 200");
            assert!(is_admitted || read.starts_with(b"HTTP/1.1 503"), "{:?}", String::from_utf8_lossy(&read[..end]));
            let body = read[end..].iter().filter(|&&byte| byte == b'x').count();
            return (stream, is_admitted, body);
        }
    }
}

/// Reads a response. `read` bytes of its body have come already.
async fn read(reader: Reader, mut stream: TcpStream, mut read: usize) {
    let mut buffer = vec![0; CHUNK];
    if matches!(reader, Reader::Stalls) {
        return sleep(Duration::from_millis(20)).await;
    }
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        read += buffer[..count].iter().filter(|&&byte| byte == b'x').count();
        match reader {
            Reader::Vanishes if read > CHUNK * CHUNKS / 2 => return,
            Reader::Slow => sleep(Duration::from_millis(1)).await,
            _ => {}
        }
        if count == 0 {
            // The whole body, because the connection ends only after it.
            return assert_eq!(read, CHUNK * CHUNKS);
        }
    }
}

async fn there_are_never_more_bodies_in_progress_than_permits() {
    let limiter = Limiter::fixed(PLACES).unwrap();
    let sending = Arc::new(Sending::default());
    let address = serve(limiter.clone(), sending.clone()).await;

    let refused = AtomicUsize::new(0);
    let clients = (0..CLIENTS).map(async |number| {
        let mut answers = 0;
        while answers < ANSWERS {
            let (stream, is_admitted, begun) = ask(address).await;
            if is_admitted {
                read(READERS[number % READERS.len()], stream, begun).await;
                answers += 1;
            } else {
                refused.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(2)).await;
            }
        }
    });
    join_all(clients).await;

    assert_eq!(sending.most.load(Ordering::SeqCst), PLACES);
    assert!(refused.into_inner() > 0);
    // The server notices the end of some connections a little later.
    while limiter.in_flight() > 0 || sending.now.load(Ordering::SeqCst) > 0 {
        sleep(Duration::from_millis(1)).await;
    }
}
