//! Kafka's wire protocol by hand, for requests that no client would send.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::Node;
use crate::clients::PATIENCE;

/// The correlation id of every request.
const CORRELATION: i32 = 7;

/// One connection.
#[derive(Debug)]
pub struct Wire(pub TcpStream);

impl Wire {
    /// Connects.
    ///
    /// # Panics
    /// When it is not let in.
    pub fn connect(node: &Node) -> Self {
        let stream = TcpStream::connect(node.bootstrap()).expect("the node listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("the time is not zero");
        Self(stream)
    }

    /// Sends bytes as they are. A node that has closed the connection takes none: what it tells is for `closed`.
    pub fn send(&mut self, bytes: &[u8]) {
        drop(self.0.write_all(bytes));
    }

    /// Sends a request without tagged fields, and receives the body of its response.
    ///
    /// # Panics
    /// When there is none.
    pub fn ask(&mut self, api: i16, version: i16, body: &[u8]) -> Vec<u8> {
        self.send(&frame(api, version, body));
        self.receive()
    }

    /// Receives the body of a response.
    ///
    /// # Panics
    /// When there is none.
    pub fn receive(&mut self) -> Vec<u8> {
        let mut size = [0; 4];
        self.0.read_exact(&mut size).expect("a response comes");
        let mut response = vec![0; usize::try_from(i32::from_be_bytes(size)).expect("a response has a size")];
        self.0.read_exact(&mut response).expect("the response is whole");
        assert_eq!(response[..4], CORRELATION.to_be_bytes(), "the response is the request's");
        response.split_off(4)
    }

    /// Whether the node closed the connection, once it has answered or closed.
    ///
    /// # Panics
    /// When it does neither.
    pub fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => true,
            Err(why) => panic!("neither an answer nor the end: {why}"),
        }
    }

    /// Asks for the API versions, as a client does first.
    pub fn works(&mut self) {
        let versions = self.ask(18, 0, b"");
        assert_eq!(versions[..2], [0, 0], "no error");
    }
}

/// A request whose header has no tagged fields.
pub fn frame(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let no_client_id = (-1_i16).to_be_bytes();
    let header = [&api.to_be_bytes()[..], &version.to_be_bytes(), &CORRELATION.to_be_bytes(), &no_client_id].concat();
    let size = i32::try_from(header.len() + body.len()).expect("a test's request is short");
    [&size.to_be_bytes()[..], &header, body].concat()
}

/// A string as fields have it.
pub fn string(text: &str) -> Vec<u8> {
    let len = i16::try_from(text.len()).expect("a test's string is short");
    [&len.to_be_bytes()[..], text.as_bytes()].concat()
}

/// A blob as fields have it.
pub fn blob(bytes: &[u8]) -> Vec<u8> {
    let len = i32::try_from(bytes.len()).expect("a test's blob is short");
    [&len.to_be_bytes()[..], bytes].concat()
}
