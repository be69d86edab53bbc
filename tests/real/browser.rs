//! A headless Chromium, driven over WebDriver by `chromedriver`.

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// The longest wait for something on the page, many times the usual time.
const PATIENCE: Duration = Duration::from_secs(30);
/// The key of an element in WebDriver's answers.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Returns what is missing to run a browser on this machine.
pub fn missing() -> Option<String> {
    let found = |program: &str| Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    (!found("chromedriver")).then(|| "no chromedriver: install chromium and chromium-driver".to_owned())
}

/// A browser with one page. Dropping it ends the browser.
pub struct Browser {
    driver: Child,
    http: reqwest::Client,
    session: String,
}

impl Browser {
    pub async fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver starts");
        let mut said = BufReader::new(driver.stdout.take().expect("standard output is a pipe")).lines();
        let port = said.by_ref().map_while(Result::ok).find_map(|line| {
            let port = line.strip_prefix("ChromeDriver was started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        // It may write more, and must not block on a full pipe.
        std::thread::spawn(move || said.for_each(drop));
        let http = reqwest::Client::builder().no_proxy().timeout(2 * PATIENCE).build().expect("a client");
        let port = port.expect("chromedriver says its port");
        let mut browser = Self { driver, http, session: format!("http://127.0.0.1:{port}/session") };
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        } } });
        let session = browser.post("", capabilities).await;
        browser.session.push('/');
        browser.session.push_str(session["sessionId"].as_str().expect("a session has a name"));
        browser
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}{path}", self.session)).body(body.to_string());
        let answer = request.send().await.expect("chromedriver answers").bytes().await.expect("in full");
        let mut answer: Value = serde_json::from_slice(&answer).expect("chromedriver speaks JSON");
        assert!(answer["value"]["error"].is_null(), "{path} {body}: {}", answer["value"]["message"]);
        answer["value"].take()
    }

    pub async fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// Runs the body of an async function in the page, and returns its result.
    pub async fn run(&self, body: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; const threw = (error) => done({{ threw: String(error) }}); \
             (async () => {{ {body} }})().then(done, threw);"
        );
        let answer = self.post("/execute/async", json!({ "script": script, "args": [] })).await;
        assert!(answer["threw"].is_null(), "{body} threw {}", answer["threw"]);
        answer
    }

    /// Waits until an expression is neither `null` nor `false`, and returns its value.
    pub async fn until(&self, expression: &str) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.run(&format!("return {expression};")).await;
            if !matches!(answer, Value::Null | Value::Bool(false)) {
                return answer;
            }
            let waited = Instant::now().saturating_duration_since(begun);
            assert!(waited < PATIENCE, "still not: {expression}; the page says {}", self.text("body").await);
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns the text of the first element that a CSS selector finds.
    pub async fn text(&self, selector: &str) -> String {
        let text = self.run(&format!("return document.querySelector({}).innerText;", json!(selector))).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    async fn element(&self, selector: &str) -> String {
        let found = self.post("/element", json!({ "using": "css selector", "value": selector })).await;
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("no {selector}")).to_owned()
    }

    /// Clicks as a person does: covered and hidden elements cannot be clicked.
    pub async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
    }

    /// Replaces the text of a field.
    pub async fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/clear"), json!({})).await;
        self.post(&format!("/element/{element}/value"), json!({ "text": text })).await;
    }

    /// Calls a method of the DevTools protocol.
    pub async fn cdp(&self, method: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": method, "params": parameters })).await
    }

    /// Shows the page in a window of this size, light or dark.
    pub async fn look(&self, width: u32, height: u32, scheme: &str) {
        let window = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.cdp("Emulation.setDeviceMetricsOverride", window).await;
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.cdp("Emulation.setEmulatedMedia", features).await;
    }

    /// Returns the console messages and failed loads since the last call.
    pub async fn console(&self) -> Vec<Value> {
        match self.post("/se/log", json!({ "type": "browser" })).await {
            Value::Array(lines) => lines,
            other => panic!("a log is a list, not {other}"),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Kills the driver and its browser. Fails only if all have ended.
        let _ = kill_process_group(Pid::from_child(&self.driver), Signal::KILL);
        let _ = self.driver.wait();
    }
}
