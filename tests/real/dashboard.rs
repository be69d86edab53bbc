//! The page of the example `dashboard` in a real browser.

use crate::{browser::Browser, process::Process, trial::trial};
use base64::{Engine, prelude::BASE64_STANDARD};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::{env, fs, path::PathBuf, time::Duration};
use tokio::{
    runtime,
    time::{Instant, sleep_until},
};

/// A starting browser delays every timer, which would make every failure inconclusive. These tests depend on time only
/// through long waits, so each failure counts.
pub fn trials() -> Vec<Trial> {
    vec![
        test("the_arithmetic_of_the_page_is_correct", the_arithmetic_of_the_page_is_correct),
        test("the_page_shows_numbers_that_move_and_its_switches_work", the_page_shows_changing_numbers),
        test(
            "the_page_fits_the_window_and_shows_since_when_it_is_stale",
            the_page_fits_the_window_and_shows_since_when_it_is_stale,
        ),
    ]
}

fn test<Running: Future<Output = ()> + 'static>(name: &str, run: fn() -> Running) -> Trial {
    Trial::test(format!("dashboard::{name}"), move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        runtime.block_on(run());
        Ok(())
    })
}

/// The folder for pictures of the page, which are only made if this is set. The pictures beside the example are
/// `outage-1600-light`, `outage-1600-dark` and `outage-400-light`, with fewer colours.
const PICTURES: &str = "STEADFAST_SCREENSHOTS";

/// The test that makes the pictures.
pub fn pictures() -> Vec<Trial> {
    let wanted = env::var_os(PICTURES).is_some();
    wanted.then(|| trial("real::dashboard::pictures_of_each_phase", pictures_of_each_phase)).into_iter().collect()
}

struct Dashboard {
    _process: Process,
    address: String,
    token: String,
}

impl Dashboard {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Process::start("dashboard", arguments);
        let mut said = |begin: &str| {
            let line = process.next_line().expect("the example says where it listens, and its token");
            line.strip_prefix(begin).unwrap_or_else(|| panic!("it says {line:?}")).to_owned()
        };
        let (address, token) = (said("listening on "), said("token "));
        Self { _process: process, address, token }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

/// Finds the card of a stack by its title.
fn card(stack: &str) -> String {
    format!("[aria-labelledby=\"stack-{stack}\"]")
}

/// Returns the calls per second of an outcome in the legend of a card, or 0 without an entry.
fn rate_of(stack: &str, outcome: &str) -> String {
    let rows = format!("{} .legend li", card(stack));
    format!(
        "(() => {{ const row = [...document.querySelectorAll({})].find((row) => row.children[1].textContent === {}); \
         return row ? Number(row.children[2].textContent.replace(',', '')) : 0; }})()",
        json!(rows),
        json!(outcome)
    )
}

async fn the_page_shows_changing_numbers() {
    let dashboard = Dashboard::start(&["--seed", "7"]);
    let browser = Browser::start().await;
    browser.open(&dashboard.url()).await;
    browser.until("document.querySelectorAll('.card').length === 2").await;
    browser.until("document.querySelector('#status').textContent === 'live'").await;
    assert!(browser.text("#note").await.starts_with("calm: "));
    browser.until(&format!("{} > 5", rate_of("orders", "success"))).await;
    browser.until(&format!("{} > 5", rate_of("payments", "success"))).await;
    let text = browser.text("body").await;
    for part in
        ["In flight", "Queue", "Rate limit", "Circuit", "closed", "Retry budget", "Attempts per call", "tier 1: 50/s"]
    {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let chart = format!("document.querySelector('{} svg .of-success').getAttribute('d')", card("orders"));
    let before = browser.run(&format!("return {chart};")).await;
    browser.until(&format!("{chart} !== {before}")).await;
    assert_eq!(browser.console().await, [] as [Value; 0]);

    let orders = card("orders");
    let kill_switch = format!("{orders} .switches [role=switch]");
    let answer = format!("{orders} .answer");
    browser.click(&kill_switch).await;
    assert!(browser.text(&answer).await.starts_with("Enter the token first"));
    browser.fill("#token", "a guess").await;
    browser.click(&kill_switch).await;
    browser.until(&format!("document.querySelector('{answer}').textContent !== ''")).await;
    assert_eq!(browser.text(&answer).await, "Refused (401): the token is missing or wrong");
    browser.until(&format!("!document.querySelector('{kill_switch}').checked")).await;
    assert!(!browser.text(&orders).await.contains("switched off"));
    // The console contains only the failed request.
    let console = browser.console().await;
    assert!(
        console.len() == 1 && console[0]["message"].as_str().is_some_and(|said| said.contains("401")),
        "{console:?}"
    );

    browser.fill("#token", &dashboard.token).await;
    browser.click(&kill_switch).await;
    browser.until(&format!("{} > 5 && {} === 0", rate_of("orders", "rejected"), rate_of("orders", "success"))).await;
    assert!(browser.text(&orders).await.contains("switched off"));
    assert!(browser.text(&orders).await.contains("kill switch"), "the table names the mechanism");
    browser.click(&kill_switch).await;
    browser.until(&format!("{} > 5", rate_of("orders", "success"))).await;

    let limit = format!("{orders} input[type=number]");
    browser.fill(&limit, "10").await;
    browser.click(&format!("{orders} button")).await;
    browser.until(&format!("document.querySelector('{answer}').textContent !== ''")).await;
    let refusal = browser.text(&answer).await;
    assert!(refusal.starts_with("Refused (422): load_shed.limit = 10: must be"), "{refusal}");
    browser.fill(&limit, "48").await;
    browser.click(&format!("{orders} button")).await;
    browser.until(&format!("document.querySelector('{orders}').innerText.includes('/ 48')")).await;
    assert_eq!(browser.text(&answer).await, "");
}

async fn the_page_fits_the_window_and_shows_since_when_it_is_stale() {
    let dashboard = Dashboard::start(&["--speed", "4"]);
    let browser = Browser::start().await;
    browser.open(&dashboard.url()).await;
    // The tables of the rush and of the outage make the page as full as possible.
    browser.until("document.querySelectorAll('.card').length === 2").await;
    let open = format!("document.querySelector('{} .circuit').textContent.startsWith('open')", card("payments"));
    browser.until(&open).await;
    browser.until("document.querySelector('#announcer').textContent.includes('Circuit of payments')").await;
    browser
        .until(&format!("/probes in [0-9.]+ m?s/.test(document.querySelector('{}').innerText)", card("payments")))
        .await;
    for width in [400, 1600] {
        for scheme in ["light", "dark"] {
            browser.look(width, 900, scheme).await;
            let wide = "const page = document.documentElement; \
                        return [page.scrollWidth - page.clientWidth, innerWidth, \
                        [...document.querySelectorAll('.tile, .value, .detail, td, th, .badge')].filter((element) => \
                        element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0)\
                        .map((element) => element.outerHTML)];";
            assert_eq!(browser.run(wide).await, json!([0, width, []]), "{width} {scheme}");
            let dark = "getComputedStyle(document.body).backgroundColor";
            let color = browser.run(&format!("return {dark};")).await;
            let light = color.as_str().is_some_and(|color| color.starts_with("rgb(24"));
            assert_eq!(light, scheme == "light", "{color}");
        }
    }
    assert_eq!(browser.console().await, [] as [Value; 0]);

    let address = dashboard.address.clone();
    drop(dashboard);
    let stale = r"/^stale since \d\d:\d\d:\d\d \(\d+ s\)$/.test(document.querySelector('#status').textContent)";
    browser.until(stale).await;
    let port = address.rsplit(':').next().expect("an address has a port");
    let _again = Dashboard::start(&["--port", port]);
    browser.until("document.querySelector('#status').textContent === 'live'").await;
    browser.until(&format!("{} > 5", rate_of("orders", "success"))).await;
}

async fn the_arithmetic_of_the_page_is_correct() {
    let dashboard = Dashboard::start(&[]);
    let browser = Browser::start().await;
    browser.open(&dashboard.url()).await;
    let imports = "const n = await import('./numbers.js'); const { Model } = await import('./model.js');";
    let cases = [
        ("n.increase(undefined, 3)", json!(3)),
        ("n.increase(3, 10)", json!(7)),
        // Restarted, and counted to 4 since.
        ("n.increase(10, 4)", json!(4)),
        (
            "n.histogramIncrease({ counts: [1, 2], sum: 3 }, { counts: [1, 5], sum: 9 })",
            json!({ "counts": [0, 3], "sum": 6 }),
        ),
        (
            "n.histogramIncrease({ counts: [4, 2], sum: 3 }, { counts: [1, 5], sum: 9 })",
            json!({ "counts": [1, 5], "sum": 9 }),
        ),
        ("n.histogramIncrease(undefined, { counts: [1], sum: 2 })", json!({ "counts": [1], "sum": 2 })),
        ("n.together({ counts: [1, 2], sum: 3 }, { counts: [10], sum: 4 })", json!({ "counts": [11, 2], "sum": 7 })),
        ("n.quantile({ counts: [0, 0, 0], sum: 0 }, [1, 2], 0.5)", Value::Null),
        ("n.quantile(undefined, [1, 2], 0.5)", Value::Null),
        ("n.quantile({ counts: [10, 0, 0], sum: 0 }, [1, 2], 0.5)", json!(0.5)),
        ("n.quantile({ counts: [0, 10, 0], sum: 0 }, [1, 2], 0.5)", json!(1.5)),
        ("n.quantile({ counts: [50, 50, 0], sum: 0 }, [1, 2], 0.75)", json!(1.5)),
        ("n.quantile({ counts: [1, 0, 9], sum: 0 }, [1, 2], 0.99) === Infinity", json!(true)),
        ("n.delay(Infinity, [1, 60])", json!("> 60.0 s")),
        ("[0, 3, 12, 101, 260, 300].map(n.ceiling)", json!([1, 3, 15, 150, 300, 300])),
        (
            "[0, 0.00042, 0.0042, 0.042, 0.9996, 3.21, 99.9, 7200].map(n.seconds)",
            json!(["0 s", "420 µs", "4.2 ms", "42 ms", "1.0 s", "3.2 s", "2 min", "2.0 h"]),
        ),
        ("[null, NaN, 0, 7].map(n.number)", json!(["–", "–", "0", "7"])),
        ("[0.123, 12.34, 1234.5].map(n.number)", json!(["0.12", "12.3", "1,235"])),
        ("[null, 0, 0.04, 12.34, 99.99, 1234].map(n.rate)", json!(["–", "0", "0.0", "12.3", "100", "1,234"])),
        ("[0, 0.004, 0.0999, 0.62, 1].map(n.percent)", json!(["0 %", "0.4 %", "10 %", "62 %", "100 %"])),
    ];
    for (expression, expected) in cases {
        assert_eq!(browser.run(&format!("{imports} return {expression};")).await, expected, "{expression}");
    }
    let script = format!("{imports}\n{}", include_str!("dashboard.js"));
    let seen = browser.run(&script).await;
    assert_eq!(
        seen,
        json!({
            "first": [null, null, null],
            "second": {
                "success": 20,
                "rejected": 5,
                "p50": 0.5,
                "attempts": 1.5,
                "table": [["load_shed", "limit", 5, 10]],
            },
            "averaged": [15, "16.67"],
            "restarted": { "history": 0, "success": null },
            "after": 6,
            "circuit": ["open", 3.5],
            "drain": [null, true],
        })
    );
}

async fn pictures_of_each_phase() {
    let folder = PathBuf::from(env::var_os(PICTURES).expect("pictures are asked for"));
    let (dashboard, browser) = (Dashboard::start(&[]), Browser::start().await);
    let begun = Instant::now();
    browser.open(&dashboard.url()).await;
    for (second, phase) in [(13, "calm"), (33, "rush"), (50, "slow"), (62, "outage"), (83, "recovery")] {
        sleep_until(begun + Duration::from_secs(second)).await;
        for (width, scheme) in [(1600, "light"), (1600, "dark"), (400, "light"), (400, "dark")] {
            browser.look(width, 800, scheme).await;
            // As tall as the page, whose height depends on the width.
            let height = browser.run("return document.documentElement.scrollHeight;").await;
            browser.look(width, height.as_u64().and_then(|height| height.try_into().ok()).unwrap_or(800), scheme).await;
            let picture = browser.cdp("Page.captureScreenshot", json!({ "format": "png" })).await;
            let bytes = BASE64_STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("in base 64");
            fs::write(folder.join(format!("{phase}-{width}-{scheme}.png")), bytes)
                .expect("the folder can be written to");
        }
    }
}
