//! Programs that the tests run: kubectl and helm, as people run them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a program left.
#[derive(Debug)]
pub struct Finished {
    /// Whether it succeeded.
    pub ok: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Finished {
    /// Its standard output.
    ///
    /// # Panics
    /// When it failed.
    pub fn expect(self, what: &str) -> String {
        assert!(self.ok, "{what} failed: {}{}", self.out, self.err);
        self.out
    }
}

/// Runs a program to its end with this standard input.
///
/// # Panics
/// When it is not installed.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Finished {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|why| panic!("{program} can't be run: {why}"));
    let mut stdin = child.stdin.take().expect("it was piped");
    let input = input.to_owned();
    // A program that does not read its input closes the pipe: its exit code tells.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("a child can be waited for");
    feeder.join().expect("writing does not panic");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Finished { ok: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Whether a program is installed.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The repository.
pub fn repository() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.ancestors().nth(2).expect("the crate is two levels down").to_owned()
}

/// A path of the repository, as programs take it.
pub fn path(relative: &str) -> String {
    repository().join(relative).to_string_lossy().into_owned()
}
