//! A browser that a test drives: Chromium without a window, spoken to in its DevTools protocol
//! (<https://chromedevtools.github.io/devtools-protocol/>) over two pipes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Long enough for any machine; it only keeps a hanging browser from hanging the tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// A page in a browser of its own, which ends with it.
pub(crate) struct Page {
    browser: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    calls: u64,
    session: Option<String>,
    /// What the page complained about: exceptions, errors and warnings of console and browser.
    pub(crate) complaints: Vec<String>,
    loaded: bool,
    _profile: TempDir,
}

/// The installed browser.
fn executable() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
    let found = names.iter().flat_map(|name| std::env::split_paths(&paths).map(move |path| path.join(name)));
    found.into_iter().find(|path| path.is_file())
}

impl Page {
    /// An empty page; none where no browser is installed.
    pub(crate) fn open() -> Option<Self> {
        let Some(executable) = executable() else {
            let required = std::env::var_os("MSRNN_REQUIRE_BROWSER").is_some_and(|value| value == "1");
            assert!(!required, "MSRNN_REQUIRE_BROWSER=1, but there is no chromium: apt-get install chromium");
            eprintln!("skipped: no chromium on PATH (apt-get install chromium)");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        // The browser reads commands from descriptor 3 and answers on 4.
        let mut browser = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2"])
            .arg(executable)
            .args(["--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--hide-scrollbars"])
            .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
            // Containers have no user namespaces, nor does root; only our own file is loaded.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = browser.stdin.take().unwrap();
        let output = BufReader::new(browser.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in output.split(0) {
                let Ok(message) = message else { return };
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut page = Self {
            browser,
            input,
            messages,
            calls: 0,
            session: None,
            complaints: Vec::new(),
            loaded: false,
            _profile: profile,
        };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let session = page.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        page.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        Some(page)
    }

    /// Calls a method of the protocol and returns its answer.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.next(method);
            if answer["id"] == id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// The next message; what it tells is noted.
    fn next(&mut self, waiting: &str) -> Value {
        let message = self.messages.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{waiting}: no answer: {e}"));
        let about = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Page.loadEventFired") => {
                self.loaded = true;
                false
            }
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                ["error", "warning", "assert"].map(Value::from).contains(&about["type"])
            }
            Some("Log.entryAdded") => ["error", "warning"].map(Value::from).contains(&about["entry"]["level"]),
            _ => false,
        };
        if complaint {
            self.complaints.push(about.to_string());
        }
        message
    }

    /// Sets size and colours, as a computer or a phone would have them.
    pub(crate) fn set(&mut self, width: u32, height: u32, phone: bool, scheme: &str) {
        let scale = if phone { 2 } else { 1 };
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// Loads a file and waits until its scripts have drawn.
    pub(crate) fn load(&mut self, file: &Path) {
        self.load_only(file);
        self.frame();
    }

    /// Loads a file.
    pub(crate) fn load_only(&mut self, file: &Path) {
        self.loaded = false;
        let url = format!("file://{}", file.canonicalize().unwrap().display());
        self.call("Page.navigate", json!({ "url": url }));
        while !self.loaded {
            self.next("load");
        }
    }

    /// Waits for what scripts do before the next drawing.
    pub(crate) fn frame(&mut self) {
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))");
    }

    /// The value of an expression in the page, awaited if it is a promise.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The value of an expression that is a string.
    pub(crate) fn text(&mut self, expression: &str) -> String {
        self.evaluate(expression).as_str().unwrap_or_else(|| panic!("{expression} is no string")).to_owned()
    }

    /// Scrolls an element into view and returns its place: left, top, width, height.
    pub(crate) fn place(&mut self, selector: &str) -> [f64; 4] {
        let expression = format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{ block: 'center' }}); \
             const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; }})()"
        );
        serde_json::from_value(self.evaluate(&expression)).unwrap_or_else(|e| panic!("{selector}: {e}"))
    }

    /// Moves, presses, releases the mouse, or turns its wheel.
    pub(crate) fn mouse(&mut self, kind: &str, (x, y): (f64, f64), more: Value) {
        let mut parameters = json!({ "type": kind, "x": x, "y": y });
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.call("Input.dispatchMouseEvent", parameters);
        self.frame();
    }

    /// Clicks into the middle of an element.
    pub(crate) fn click(&mut self, selector: &str) {
        let [left, top, width, height] = self.place(selector);
        let at = (left + width / 2.0, top + height / 2.0);
        for kind in ["mousePressed", "mouseReleased"] {
            self.mouse(kind, at, json!({ "button": "left", "clickCount": 1 }));
        }
    }

    /// Presses and releases a key.
    pub(crate) fn key(&mut self, key: &str, code: u32) {
        for kind in ["keyDown", "keyUp"] {
            let mut parameters = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && key.len() == 1 {
                parameters["text"] = json!(key);
            }
            self.call("Input.dispatchKeyEvent", parameters);
        }
        self.frame();
    }

    /// Writes a picture of the whole page into the folder that `MSRNN_SCREENSHOTS` names, if it does.
    pub(crate) fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("MSRNN_SCREENSHOTS") else { return };
        let parameters = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.call("Page.captureScreenshot", parameters)["data"].clone();
        let bytes = BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
    }

    /// The page as PDF.
    pub(crate) fn pdf(&mut self) -> Vec<u8> {
        let pdf = self.call("Page.printToPDF", json!({ "preferCSSPageSize": true }));
        BASE64_STANDARD.decode(pdf["data"].as_str().unwrap()).unwrap()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
