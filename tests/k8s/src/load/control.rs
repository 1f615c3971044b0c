//! The local port: one word in, one report out.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Report;

/// By default: nothing else is in the pod that could have it.
pub(super) const ADDRESS: &str = "127.0.0.1:7070";
/// Reading a topic to its end may take so long.
const ANSWER_WITHIN: Duration = Duration::from_mins(3);

/// Asks the load that runs beside this process, and prints its report.
pub fn ask(what: &str) -> Result<(), String> {
    let failed = |why: std::io::Error| format!("the load at {ADDRESS} does not answer: {why}");
    let mut stream = std::net::TcpStream::connect(ADDRESS).map_err(failed)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(failed)?;
    writeln!(stream, "{what}").map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(failed)?;
    if answer.is_empty() {
        return Err(format!("the load at {ADDRESS} ended without an answer"));
    }
    print!("{answer}");
    Ok(())
}

pub(super) async fn listen(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|why| format!("can't listen on {address}: {why}"))
}

/// Answers `progress` until somebody says `stop`: who did so is told the end later.
pub(super) async fn serve(listener: &TcpListener, progress: impl Fn() -> Report) -> Result<TcpStream, String> {
    loop {
        let (mut stream, _) = listener.accept().await.map_err(|why| format!("accept: {why}"))?;
        let mut word = String::new();
        if tokio::io::BufReader::new(&mut stream).read_line(&mut word).await.is_err() {
            continue;
        }
        match word.trim() {
            "stop" => return Ok(stream),
            // Who asked may have gone; the load goes on.
            _ => drop(answer(stream, &progress()).await),
        }
    }
}

pub(super) async fn answer(mut stream: TcpStream, report: &Report) -> Result<(), String> {
    let line = serde_json::to_string(report).expect("a report is JSON") + "\n";
    stream.write_all(line.as_bytes()).await.map_err(|why| format!("the report was not taken: {why}"))
}
