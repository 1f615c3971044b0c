//! Listens in on a link between two nodes: passes everything on, and keeps what the follower says.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Bytes of each conversation that are kept.
const KEPT: usize = 256;
/// Lengths and checksum before a frame's header (`stream/links/codec.rs`).
const PREFIX: usize = 12;
/// Which frame a HelloAck is.
const HELLO_ACK: u32 = 1;

/// The first bytes that one connection's follower said.
type Said = Arc<Mutex<Vec<u8>>>;

/// A tap before a follower's port; ends with the test's process.
#[derive(Debug)]
pub struct Tap {
    address: String,
    conversations: Arc<Mutex<Vec<Said>>>,
}

impl Tap {
    /// Before this address.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn before(follower: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let conversations = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&conversations);
        thread::spawn(move || {
            for leader in listener.incoming().map_while(Result::ok) {
                let Ok(follower) = TcpStream::connect(&follower) else { continue };
                let said = Said::default();
                kept.lock().expect("nobody panics with the lock").push(Arc::clone(&said));
                let (from, to) = (leader.try_clone(), follower.try_clone());
                thread::spawn(move || pass(from.expect("a socket can be shared"), follower, None));
                thread::spawn(move || pass(to.expect("a socket can be shared"), leader, Some(&said)));
            }
        });
        Self { address, conversations }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The node ids that were read in HelloAcks so far.
    ///
    /// # Panics
    /// When a tap's thread has panicked.
    pub fn answered_as(&self) -> Vec<i32> {
        let conversations = self.conversations.lock().expect("nobody panics with the lock");
        let id = |said: &Said| node_of_hello_ack(&said.lock().expect("nobody panics with the lock"));
        conversations.iter().filter_map(id).collect()
    }
}

/// Passes bytes on until either end closes.
fn pass(mut from: TcpStream, mut to: TcpStream, kept: Option<&Said>) {
    let mut buffer = [0; 16 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        if let Some(kept) = kept {
            let mut kept = kept.lock().expect("nobody panics with the lock");
            let room = KEPT.saturating_sub(kept.len()).min(bytes);
            kept.extend_from_slice(&buffer[..room]);
        }
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    // The other end may be closed already.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// The node id in a HelloAck, when these bytes begin with one: behind the prefix, which frame it is, then the id.
fn node_of_hello_ack(said: &[u8]) -> Option<i32> {
    let field = |at: usize| Some(said.get(at..at + 4)?.try_into().expect("four bytes"));
    (field(PREFIX).map(u32::from_le_bytes)? == HELLO_ACK).then(|| field(PREFIX + 4).map(i32::from_le_bytes))?
}
