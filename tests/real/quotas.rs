//! `quotas`: tiers by key, and the headers for callers.

use crate::process::{self, Server};
use crate::trial::trials;
use http_body_util::Empty;
use hyper::{HeaderMap, Request, StatusCode, body::Bytes, client::conn::http1, header::RETRY_AFTER};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;

trials![each_key_has_the_quota_of_its_tier_and_headers_show_the_rest,];

/// Sends `count` requests with this key, one after the other. Returns the statuses, and the headers of the last answer.
async fn ask(address: SocketAddr, key: &str, count: usize) -> (Vec<StatusCode>, HeaderMap) {
    let stream = process::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (mut statuses, mut headers) = (Vec::new(), HeaderMap::new());
    for _ in 0..count {
        let request = Request::get("/report").header("host", "localhost").header("x-api-key", key);
        sender.ready().await.unwrap();
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        statuses.push(response.status());
        headers = response.headers().clone();
    }
    (statuses, headers)
}

async fn each_key_has_the_quota_of_its_tier_and_headers_show_the_rest() {
    let server = Server::start_with("quotas", &["--serve", "0"]);
    let (statuses, headers) = ask(server.address(), "free-ben", 1).await;
    assert_eq!(statuses, [StatusCode::OK]);
    assert_eq!(headers["ratelimit-policy"], "\"requests\";q=5;w=1");
    assert_eq!(headers["ratelimit"], "\"requests\";r=9;t=1");
    assert_eq!(headers.get(RETRY_AFTER), None);

    // Far more requests than a burst of ten and the refill in that time allow.
    let (statuses, headers) = ask(server.address(), "free-eve", 500).await;
    let answered = statuses.iter().filter(|status| status.is_success()).count();
    assert!((10..100).contains(&answered), "{answered} of 500");
    assert_eq!(statuses[..10], [StatusCode::OK; 10]);
    if statuses.last() == Some(&StatusCode::TOO_MANY_REQUESTS) {
        assert_eq!(headers[RETRY_AFTER], "1");
        assert_eq!(headers["ratelimit"], "\"requests\";r=0;t=2");
    }

    let (statuses, headers) = ask(server.address(), "pro-anna", 50).await;
    assert_eq!(statuses, [StatusCode::OK; 50]);
    assert_eq!(headers["ratelimit-policy"], "\"requests\";q=50;w=1");
}
