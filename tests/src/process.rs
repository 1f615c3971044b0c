//! Real `chronik` processes: started on free ports in a folder of their own, waited for, killed by their id.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long a node may take to serve, or to stop: far more than it takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Flags that let a node take any free ports.
pub const ANY_PORTS: [&str; 8] = [
    "--kafka-addr",
    "127.0.0.1:0",
    "--wal-receiver-addr",
    "127.0.0.1:0",
    "--grpc-addr",
    "127.0.0.1:0",
    "--http-addr",
    "127.0.0.1:0",
];

/// The program under test: built by `make test` before the tests, in the same profile.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CHRONIK_BIN") {
        return path.into();
    }
    let mut folder = std::env::current_exe().expect("a running test has a path");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let binary = folder.join("chronik");
    assert!(binary.exists(), "{} is not built: cargo build -p chronik-broker", binary.display());
    binary
}

/// What a finished command left.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Finished {
    /// Its standard output, when it succeeded.
    ///
    /// # Panics
    /// When it failed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Its standard output as JSON, when it succeeded.
    pub fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}"))
    }
}

/// Nodes and commands are what their settings make them, not what the tests are told (`CHRONIK_…_SECONDS`).
fn without_test_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHRONIK_") && name != "CHRONIK_LOG" {
            command.env_remove(name);
        }
    }
}

/// Runs `chronik` with arguments to its end; `input` is its standard input.
pub fn chronik(arguments: &[&str], input: &[u8]) -> Finished {
    chronik_in(&[], arguments, input)
}

/// The same, with these variables in its environment.
///
/// # Panics
/// When it can't be run.
pub fn chronik_in(environment: &[(&str, &str)], arguments: &[&str], input: &[u8]) -> Finished {
    let mut command = Command::new(binary());
    without_test_variables(&mut command);
    let mut child = command
        .envs(environment.iter().copied())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("chronik starts");
    let mut stdin = child.stdin.take().expect("it was piped");
    let input = input.to_vec();
    // A command that does not read its input closes the pipe: no failure of the test.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("chronik ends");
    feeder.join().expect("writing does not panic");
    Finished {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// How a node is started.
#[derive(Debug, Clone, Default)]
pub struct NodeBuilder {
    settings: Vec<(String, String)>,
    data_dir: Option<PathBuf>,
    host: Option<String>,
    program: Option<PathBuf>,
    within: Vec<String>,
}

impl NodeBuilder {
    /// Gives a setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// At this address instead of 127.0.0.1.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Started by this command, which becomes the node: `ip netns exec NAME`.
    #[must_use]
    pub fn within(mut self, command: &[&str]) -> Self {
        self.within = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// In this data folder instead of a new one.
    #[must_use]
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_owned());
        self
    }

    /// Starts the node and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(self) -> Node {
        let mut node = self.build();
        node.start();
        node
    }

    /// A node that is not started yet.
    ///
    /// # Panics
    /// When there is no room for its folder.
    pub fn build(self) -> Node {
        let own = TempDir::new().expect("a temporary folder");
        let data_dir = self.data_dir.clone().unwrap_or_else(|| own.path().join("data"));
        Node { builder: self, _own: own, data_dir, ports: Ports::default(), child: None }
    }
}

/// The ports that a node has taken; 0 before its first start, which takes any.
#[derive(Debug, Clone, Copy, Default)]
struct Ports {
    kafka: u16,
    wal: u16,
    grpc: u16,
    http: u16,
}

impl Ports {
    /// From the log line that says ready.
    fn of(ready: &Value) -> Self {
        let port = |field: &str| {
            let address = ready[field].as_str().expect("an address");
            address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("host:port")
        };
        Self { kafka: port("kafka"), wal: port("wal"), grpc: port("grpc"), http: port("http") }
    }
}

/// A node's process.
#[derive(Debug)]
struct Process {
    child: Child,
    /// Its log up to the line that says ready, until somebody has waited for that. Locked for the sake of threads that share
    /// a node.
    log: Option<Mutex<mpsc::Receiver<String>>>,
    /// All of its log.
    logged: Arc<Mutex<Vec<String>>>,
}

/// A node; killed when dropped.
#[derive(Debug)]
pub struct Node {
    builder: NodeBuilder,
    _own: TempDir,
    data_dir: PathBuf,
    ports: Ports,
    child: Option<Process>,
}

impl Node {
    /// A node with default settings.
    pub fn start_default() -> Self {
        NodeBuilder::default().start()
    }

    /// Starts it (again), on the ports that it had, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(&mut self) {
        self.launch();
        self.await_ready();
    }

    /// Starts it (again), on the ports that it had.
    ///
    /// # Panics
    /// When it runs already.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let Ports { kafka, wal, grpc, http } = self.ports;
        let program = self.builder.program.clone().unwrap_or_else(binary);
        let mut command = match self.builder.within.split_first() {
            None => Command::new(program),
            Some((outer, words)) => {
                let mut command = Command::new(outer);
                command.args(words).arg(program);
                command
            }
        };
        without_test_variables(&mut command);
        let host = self.host();
        command.args(["start", "--log-format", "json"]).arg("--data-dir").arg(&self.data_dir);
        for (flag, port) in [("kafka", kafka), ("wal-receiver", wal), ("grpc", grpc), ("http", http)] {
            command.arg(format!("--{flag}-addr")).arg(format!("{host}:{port}"));
        }
        for (name, value) in &self.builder.settings {
            command.arg("--set").arg(format!("{name}={value}"));
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("chronik starts");
        let logged = Arc::default();
        let log = Some(Mutex::new(read_log(&mut child, Arc::clone(&logged))));
        self.child = Some(Process { child, log, logged });
    }

    /// Waits until a node that was launched serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn await_ready(&mut self) {
        let process = self.child.as_mut().expect("it was launched");
        let log = process.log.take().expect("nobody has waited for it yet");
        let log = log.into_inner().expect("nobody panics with the lock");
        self.ports = Ports::of(&ready_line(&log));
    }

    /// The lines of its log that speak of something, since it was started last.
    ///
    /// # Panics
    /// When it does not run.
    pub fn logged(&self, of: &str) -> Vec<Value> {
        let process = self.child.as_ref().expect("it runs");
        let lines = process.logged.lock().expect("nobody panics with the lock");
        lines.iter().filter(|line| line.contains(of)).filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The address of its ports.
    pub fn host(&self) -> &str {
        self.builder.host.as_deref().unwrap_or("127.0.0.1")
    }

    /// Where other nodes and administrators reach it.
    pub fn grpc_address(&self) -> String {
        format!("{}:{}", self.host(), self.ports.grpc)
    }

    /// Where leaders stream to it.
    pub fn wal_address(&self) -> String {
        format!("{}:{}", self.host(), self.ports.wal)
    }

    /// Whether it runs, as far as is known here.
    pub fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Starts another build from its next start on; `None`: the one under test.
    pub fn set_program(&mut self, program: Option<PathBuf>) {
        self.builder.program = program;
    }

    /// Changes a setting for its next start.
    pub fn reset(&mut self, name: &str, value: &str) {
        self.builder.settings.retain(|(given, _)| given != name);
        self.builder.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Gives it the port that its peers will know, before its first start.
    pub(crate) fn set_grpc_port(&mut self, port: u16) {
        self.ports.grpc = port;
    }

    /// Gives it the port that leaders will know, before its first start.
    pub fn set_wal_port(&mut self, port: u16) {
        self.ports.wal = port;
    }

    /// A setting that it is given.
    ///
    /// # Panics
    /// When it is not given.
    pub fn setting(&self, name: &str) -> &str {
        let given = self.builder.settings.iter().rfind(|(given, _)| given == name);
        &given.expect("it is given").1
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").child.id()
    }

    /// Sends it a signal by name: `STOP` keeps it from running, `CONT` lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill runs").success(), "{name} was sent");
    }

    /// Where it serves Kafka clients.
    pub fn bootstrap(&self) -> String {
        format!("{}:{}", self.host(), self.ports.kafka)
    }

    /// A figure of its memory, MiB: `VmRSS` (now) or `VmHWM` (the most so far).
    ///
    /// # Panics
    /// When it does not run.
    pub fn memory_mib(&self, figure: &str) -> f64 {
        let line = self.status(figure);
        let kib: f64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("in KiB");
        kib / 1024.0
    }

    /// What the kernel says of it: the line of `/proc/PID/status` that begins so.
    ///
    /// # Panics
    /// When it does not run.
    pub fn status(&self, field: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process has a status");
        let line = status.lines().find(|line| line.starts_with(field)).expect("Linux tells this figure");
        line.trim_end().to_owned()
    }

    /// Its data folder.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The most memory that it has had resident, bytes.
    ///
    /// # Panics
    /// When it does not run.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it is our child");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts it");
        let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kibibytes << 10
    }

    /// Runs a client command against it.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.feed(arguments, b"")
    }

    /// Runs a client command against it, with standard input.
    pub fn feed(&self, arguments: &[&str], input: &[u8]) -> Finished {
        let bootstrap = self.bootstrap();
        chronik(&[arguments, &["--bootstrap", &bootstrap]].concat(), input)
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs").child;
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Panics
    /// When it does not run, or does not stop.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        let mut child = self.child.take().expect("it runs").child;
        let (ended, end) = mpsc::channel();
        let waiter = std::thread::spawn(move || drop(ended.send(child.wait())));
        let status = end.recv_timeout(PATIENCE).expect("it stops in time").expect("it is our child");
        waiter.join().expect("waiting does not panic");
        status
    }

    /// A connection to its HTTP side.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn connect_http(&self) -> TcpStream {
        TcpStream::connect((self.host(), self.ports.http)).expect("it serves HTTP")
    }

    /// One HTTP request: the status and the body.
    ///
    /// # Panics
    /// When it is not answered.
    pub fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = self.connect_http();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("the request is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is text");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        (status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// The lines of a node's log, for whoever waits until it is ready; the rest is passed on to the test's output.
fn read_log(child: &mut Child, logged: Arc<Mutex<Vec<String>>>) -> mpsc::Receiver<String> {
    let stderr = child.stderr.take().expect("it was piped");
    let (lines, line) = mpsc::channel();
    std::thread::spawn(move || {
        for text in BufReader::new(stderr).lines().map_while(Result::ok) {
            if lines.send(text.clone()).is_err() {
                eprintln!("{text}");
            }
            logged.lock().expect("nobody panics with the lock").push(text);
        }
    });
    line
}

/// The line that says ready.
fn ready_line(line: &mpsc::Receiver<String>) -> Value {
    let mut log = String::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        // One that goes on complaining is not ready either.
        match line.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(text) => {
                let event: Value = serde_json::from_str(&text).unwrap_or_default();
                if event["message"] == "ready" {
                    return event;
                }
                log = log + &text + "\n";
            }
            Err(why) => panic!("it is not ready ({why}):\n{log}"),
        }
    }
}
