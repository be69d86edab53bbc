//! The board of the example `dashboard`: permissions, patches, viewers.

#[path = "../../examples/dashboard/board/mod.rs"]
mod copied;

use self::copied::Board;
use crate::trial::trials;
use futures::StreamExt;
use reqwest::{Client, Response, StatusCode, header::CONTENT_SECURITY_POLICY};
use serde_json::{Value, json};
use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use steadfast::{
    load_shed::Limiter,
    rate_limit::{Quota, RateLimit, TokenBucket},
    stack::live::Control,
    telemetry::Metrics,
};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tower::{Layer, ServiceExt, service_fn};

trials![
    a_patch_needs_the_whole_token,
    a_patch_changes_only_the_fields_that_it_names,
    a_board_without_a_token_has_no_switches,
    every_response_forbids_foreign_scripts_and_caching,
    a_viewer_above_the_limit_is_rejected_until_another_leaves,
    the_metrics_are_read_once_for_all_viewers_and_only_while_there_are_any,
    a_note_that_panics_is_called_again,
];

const SECOND: Duration = Duration::from_secs(1);

/// A live stack with two rate limits that has served a call.
async fn stack(metrics: &Metrics) -> Control {
    let bucket = |count| TokenBucket::builder(count, SECOND).build().unwrap();
    let (layer, control) = steadfast::server()
        .observe("shop", metrics.clone())
        .rate_limit(RateLimit::from(bucket(10)).named("all").and(RateLimit::from(bucket(20)).named("more")))
        .load_shed(Limiter::fixed(8).unwrap())
        .timeout(SECOND)
        .live()
        .unwrap();
    layer.layer(service_fn(async |()| Ok::<_, std::io::Error>(()))).oneshot(()).await.unwrap();
    control
}

async fn serve(board: Board) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, board.router()).await });
    address
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

async fn patch(address: &str, stack: &str, authorization: Option<&str>, body: &str) -> (StatusCode, String) {
    let mut request = client().post(format!("{address}/stacks/{stack}")).body(body.to_owned());
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let answer = request.send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

async fn look(address: &str) -> Response {
    client().get(format!("{address}/events")).send().await.unwrap()
}

/// The next message of a stream.
async fn message(viewer: &mut (impl futures::Stream<Item = reqwest::Result<axum::body::Bytes>> + Unpin)) -> Value {
    let mut text = Vec::new();
    while !text.ends_with(b"\n\n") {
        let more = timeout(10 * SECOND, viewer.next()).await.expect("a message comes each second");
        text.extend(more.expect("the stream goes on").unwrap());
    }
    serde_json::from_slice(text.strip_prefix(b"data: ").expect("an event has data")).unwrap()
}

async fn a_patch_needs_the_whole_token() {
    let metrics = Metrics::new();
    let control = stack(&metrics).await;
    let address = serve(Board::new(metrics).stack("shop", control.clone()).token("secret")).await;
    let off = r#"{ "switched_off": true }"#;
    for wrong in [None, Some(""), Some("secret"), Some("Bearer"), Some("Bearer "), Some("Basic secret")] {
        assert_eq!(patch(&address, "shop", wrong, off).await.0, StatusCode::UNAUTHORIZED, "{wrong:?}");
    }
    for wrong in ["Bearer secre", "Bearer secrets", "Bearer Secret", "Bearer secreT", "Bearer secret, Bearer secret"] {
        let answer = patch(&address, "shop", Some(wrong), off).await;
        assert_eq!(answer, (StatusCode::UNAUTHORIZED, "the token is missing or wrong\n".to_owned()), "{wrong}");
    }
    // The answer does not even reveal which stacks exist.
    assert_eq!(patch(&address, "bank", Some("Bearer x"), off).await.0, StatusCode::UNAUTHORIZED);
    assert!(!control.config().switched_off);
    assert_eq!(patch(&address, "bank", Some("Bearer secret"), off).await.0, StatusCode::NOT_FOUND);
    assert_eq!(patch(&address, "shop", Some("Bearer secret"), off).await.0, StatusCode::NO_CONTENT);
    assert!(control.config().switched_off);
}

async fn a_patch_changes_only_the_fields_that_it_names() {
    let metrics = Metrics::new();
    let control = stack(&metrics).await;
    let address = serve(Board::new(metrics).stack("shop", control.clone()).token("secret")).await;
    let send = async |body: &str| patch(&address, "shop", Some("Bearer secret"), body).await;
    let mut expected = control.config();

    assert_eq!(send(r#"{ "load_shed": { "limit": 5 } }"#).await.0, StatusCode::NO_CONTENT);
    assert_eq!(send(r#"{ "timeout": "2s" }"#).await.0, StatusCode::NO_CONTENT);
    assert_eq!(send(r#"{ "rate_limit": [{}, { "shadow": true }] }"#).await.0, StatusCode::NO_CONTENT);
    expected.load_shed.as_mut().unwrap().limit = 5;
    expected.timeout = Some(2 * SECOND);
    expected.rate_limit[1].shadow = true;
    assert_eq!(control.config(), expected);
    assert_eq!(expected.rate_limit[0].quotas, [Quota::new(10, SECOND)]);

    let refusals = [
        (r#"{ "load_shed": { "limit": 0 } }"#, "load_shed.limit = 0: must be at least 1\n"),
        (r#"{ "attempt_timeout": "1s" }"#, "attempt_timeout = 1s: "),
        (r#"{ "timeout": "5M" }"#, "timeout = \"5M\": "),
        (r#"{ "rate_limit": [{ "shadow": true }] }"#, "missing field `quotas`"),
        (r#"{ "limits": 3 }"#, "unknown field `limits`"),
        (r#"{ "switched_off": "yes" }"#, "invalid type: string \"yes\""),
        ("[]", "the patch must be a JSON object\n"),
        ("{", "the patch must be a JSON object\n"),
        ("", "the patch must be a JSON object\n"),
    ];
    for (body, expected) in refusals {
        let (status, text) = send(body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert!(text.starts_with(expected), "{body}: {text}");
    }
    assert_eq!(control.config(), expected);
    let (status, _) = send(&format!(r#"{{ "timeout": "{}" }}"#, "1".repeat(100_000))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);

    assert_eq!(send(r#"{ "load_shed": null, "timeout": null, "rate_limit": null }"#).await.0, StatusCode::NO_CONTENT);
    assert_eq!(control.config(), *control.built());
}

async fn a_board_without_a_token_has_no_switches() {
    for token in [None, Some("")] {
        let metrics = Metrics::new();
        let mut board = Board::new(metrics.clone()).stack("shop", stack(&metrics).await);
        if let Some(token) = token {
            board = board.token(token);
        }
        let address = serve(board).await;
        let body = r#"{ "switched_off": true }"#;
        assert_eq!(patch(&address, "shop", Some("Bearer "), body).await.0, StatusCode::NOT_FOUND);
        let message = message(&mut look(&address).await.bytes_stream()).await;
        assert_eq!(message["switches"], json!(false));
        assert_eq!(message["stacks"][0]["config"]["load_shed"], json!({ "limit": 8, "shadow": false }));
    }
}

async fn every_response_forbids_foreign_scripts_and_caching() {
    let address = serve(Board::new(Metrics::new()).token("secret")).await;
    let page = client().get(format!("{address}/")).send().await.unwrap().text().await.unwrap();
    // The page has no inline scripts or styles, and refers to no other host.
    assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("//"), "{page}");
    for path in ["/", "/board.css", "/board.js", "/card.js", "/model.js", "/events", "/nothing"] {
        let answer = client().get(format!("{address}{path}")).send().await.unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(answer.status().is_success(), path != "/nothing", "{path}");
        assert!(
            header(CONTENT_SECURITY_POLICY.as_str()).starts_with("default-src 'none'; script-src 'self';"),
            "{path}"
        );
        assert_eq!(
            (header("cache-control").as_str(), header("x-content-type-options").as_str()),
            ("no-store", "nosniff")
        );
    }
}

async fn a_viewer_above_the_limit_is_rejected_until_another_leaves() {
    let address = serve(Board::new(Metrics::new())).await;
    let mut viewers = Vec::new();
    for number in 0..64 {
        let viewer = look(&address).await;
        assert_eq!(viewer.status(), StatusCode::OK, "{number}");
        viewers.push(viewer);
    }
    let refused = look(&address).await;
    assert_eq!((refused.status(), refused.headers()["retry-after"].to_str().unwrap()), (503.try_into().unwrap(), "10"));
    assert_eq!(refused.text().await.unwrap(), "the limit of 64 viewers is reached\n");
    drop(viewers.pop());
    // The server notices at the next message that it cannot send.
    for _ in 0..100 {
        if look(&address).await.status().is_success() {
            return;
        }
        sleep(SECOND / 10).await;
    }
    panic!("a viewer who has left is still counted");
}

async fn the_metrics_are_read_once_for_all_viewers_and_only_while_there_are_any() {
    let (metrics, notes) = (Metrics::new(), Arc::new(AtomicU32::new(0)));
    stack(&metrics).await;
    let counted = notes.clone();
    let board = Board::new(metrics).note(move || format!("note {}", counted.fetch_add(1, Ordering::SeqCst)));
    let address = serve(board).await;
    sleep(SECOND / 10).await;
    assert_eq!(notes.load(Ordering::SeqCst), 0);

    let (mut one, mut other) = (look(&address).await.bytes_stream(), look(&address).await.bytes_stream());
    for number in 0..3 {
        let (seen, also) = (message(&mut one).await, message(&mut other).await);
        assert_eq!((&seen["note"], &seen), (&json!(format!("note {number}")), &also));
        let calls = seen["samples"].as_array().unwrap().iter().find(|sample| {
            sample["name"] == "steadfast_call_duration_seconds" && sample["labels"]["outcome"] == "success"
        });
        let counts = calls.expect("the call is counted")["histogram"]["counts"].as_array().unwrap();
        assert_eq!(counts.iter().filter_map(Value::as_u64).sum::<u64>(), 1);
    }
    drop((one, other));
    // At most two more: the message that fails, and one in progress.
    sleep(5 * SECOND / 2).await;
    let left = notes.load(Ordering::SeqCst);
    sleep(5 * SECOND / 2).await;
    assert_eq!(notes.load(Ordering::SeqCst), left, "the board reads metrics without viewers");
    assert!((3..=6).contains(&left), "{left}");
    let again = message(&mut look(&address).await.bytes_stream()).await;
    assert_eq!(again["note"], json!(format!("note {left}")));
}

async fn a_note_that_panics_is_called_again() {
    let calls = AtomicU32::new(0);
    let board = Board::new(Metrics::new()).note(move || {
        assert!(calls.fetch_add(1, Ordering::SeqCst) > 0, "the first note panics");
        "well again".to_owned()
    });
    let address = serve(board).await;
    // Viewers keep getting messages, and get the note once it succeeds.
    let mut messages = look(&address).await.bytes_stream();
    let mut notes = Vec::new();
    for _ in 0..3 {
        notes.push(message(&mut messages).await["note"].clone());
    }
    assert_eq!(notes[2], "well again", "{notes:?}");
}
