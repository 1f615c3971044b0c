//! A client can send anything to a real node: it gets a clear error or loses its connection; memory stays bounded, and
//! everybody else keeps working.

use std::net::Shutdown;

use chronik_tests::cluster::wait_for;
use chronik_tests::wire::{Wire, blob, frame, string};
use chronik_tests::{Node, NodeBuilder};

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 9;
const DESCRIBE_GROUPS: i16 = 15;
const DESCRIBE_CONFIGS: i16 = 32;

/// What a node may take at its peak, bytes: the bound under load.
const MEMORY: u64 = 512 << 20;
const IDLE_CONNECTIONS: usize = 10_000;

/// A node with a topic, a client that was there before, and records that must be there afterwards.
struct Harness {
    node: Node,
    other: Wire,
}

impl Harness {
    fn start() -> Self {
        let node = NodeBuilder::default().set("offsets.topic.num.partitions", "1").start();
        node.run(&["topic", "create", "t", "--partitions", "1"]).ok();
        node.feed(&["produce", "t"], b"before\n").ok();
        let other = Wire::connect(&node);
        Self { node, other }
    }

    /// Sends bytes on a connection of its own and expects its end.
    fn ends(&mut self, bytes: &[u8]) {
        let mut client = Wire::connect(&self.node);
        client.send(bytes);
        assert!(client.is_closed(), "{:?}", &bytes[..bytes.len().min(100)]);
        self.other.works();
    }

    /// Produces a batch and gives the error code that comes of it.
    fn produce(&self, batch: &[u8]) -> i16 {
        let head = [&(-1_i16).to_be_bytes()[..], &[0, 1], &1000_i32.to_be_bytes(), &1_i32.to_be_bytes()].concat();
        let partition = [&string("t")[..], &1_i32.to_be_bytes(), &0_i32.to_be_bytes(), &blob(batch)].concat();
        let response = Wire::connect(&self.node).ask(PRODUCE, 3, &[head, partition].concat());
        short(&response, 4 + 3 + 4 + 4)
    }

    /// What was there is there, nothing else is, and the node took no more memory than it may.
    fn survived(mut self) {
        self.other.works();
        let all = self.node.run(&["consume", "t", "--from-beginning", "--exit-at-end"]).ok();
        assert_eq!(all, "before\n");
        let peak = self.node.peak_memory();
        assert!(peak < MEMORY, "{} MiB at the peak", peak >> 20);
    }
}

fn short(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

/// Random bytes, the same in each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn random_bytes_huge_lengths_and_unknown_apis_cost_their_connection_only() {
    let mut harness = Harness::start();
    for size in [-1, i32::MIN, i32::MAX, (100 << 20) + 1] {
        harness.ends(&size.to_be_bytes());
    }
    for (api, version) in [(999, 0), (-1, 0), (4, 0), (METADATA, 99), (METADATA, -1), (PRODUCE, i16::MAX)] {
        harness.ends(&frame(api, version, b""));
    }
    // 44 bytes that claim two billion topics.
    let body = [&(-1_i16).to_be_bytes()[..], &[0, 1], &1000_i32.to_be_bytes(), &i32::MAX.to_be_bytes()].concat();
    let padded = [body, vec![0; 44 - 8 - 2 - 12]].concat();
    harness.ends(&frame(PRODUCE, 3, &padded));
    harness.ends(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut noise = Noise(42);
    for round in 0..300 {
        let mut client = Wire::connect(&harness.node);
        let len = noise.next() as usize % 400;
        let bytes = noise.bytes(len);
        let api = (noise.next() % 76) as i16;
        let version = (noise.next() % 14) as i16;
        client.send(&if round % 2 == 0 { bytes } else { frame(api, version, &bytes) });
        // Whatever they meant, no more comes: the node ends what it has not ended yet.
        drop(client.0.shutdown(Shutdown::Write));
        while !client.is_closed() {}
        harness.other.works();
    }
    harness.survived();
}

#[test]
fn a_flood_of_bad_requests_is_ten_lines_and_a_number() {
    const BAD: usize = 300;
    let mut harness = Harness::start();
    for _ in 0..BAD {
        harness.ends(&(-1_i32).to_be_bytes());
    }
    let closed = || harness.node.logged("connection closed: ");
    let told = wait_for("the log says how many lines it left out", || {
        let lines = harness.node.logged("connections that are closed for what the client did");
        lines.first().and_then(|line| line["left_out"].as_u64())
    });
    let written = closed();
    let in_lines: u64 = written.iter().filter_map(|line| line["left_out"].as_u64()).sum();
    assert_eq!(written.len() as u64 + in_lines + told, BAD as u64, "each is written or counted");
    assert!(written.len() <= 20, "{} lines", written.len());
    harness.survived();
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

/// A batch that says it has `count` records, packed as `codec` says.
fn batch(codec: u8, count: i32, payload: &[u8]) -> Vec<u8> {
    let ids = [[0xff; 8].as_slice(), &[0xff; 2], &[0xff; 4]].concat();
    let times = [1000_i64.to_be_bytes(), 1000_i64.to_be_bytes()].concat();
    let last = count.saturating_sub(1).to_be_bytes();
    let checked = [&[0, codec][..], &last, &times, &ids, &count.to_be_bytes(), payload].concat();
    let crc = crc32c(&checked).to_be_bytes();
    let rest = [&0_i32.to_be_bytes()[..], &[2], &crc, &checked].concat();
    [&[0; 8][..], &blob(&rest)].concat()
}

/// One record: no key, no value.
const RECORD: [u8; 7] = [12, 0, 0, 0, 1, 1, 0];

/// A zstd frame of a few bytes for each 128 KiB that come out.
fn zstd_bomb(blocks: usize) -> Vec<u8> {
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    let block = |last: u32| {
        let head = last | 1 << 1 | (128 << 10) << 3;
        [&head.to_le_bytes()[..3], &[0]].concat()
    };
    [header.to_vec(), block(0).repeat(blocks), block(1)].concat()
}

#[test]
fn wrong_checksums_lying_counts_and_bombs_are_errors_and_store_nothing() {
    const ZSTD: u8 = 4;
    let harness = Harness::start();
    let honest = batch(0, 1, &RECORD);
    let mut damaged = honest.clone();
    *damaged.last_mut().expect("it has bytes") ^= 1;
    assert_eq!(harness.produce(&damaged), 2, "CORRUPT_MESSAGE");
    for count in [0, -1, 2, 1000, i32::MAX] {
        assert_ne!(harness.produce(&batch(0, count, &RECORD)), 0, "{count} records");
    }
    for codec in 1..=7 {
        assert_ne!(harness.produce(&batch(codec, 1, b"no such stream")), 0, "codec {codec}");
    }
    // 32 GiB out of 1 MiB.
    for count in [1, 1000] {
        assert_ne!(harness.produce(&batch(ZSTD, count, &zstd_bomb(250_000))), 0);
    }
    harness.survived();
    let harness = Harness::start();
    assert_eq!(harness.produce(&honest), 0, "what the others differ from is right");
}

/// Each announces 90 MB and sends a little of it.
#[test]
fn half_requests_that_stall_keep_nobody_from_memory() {
    let harness = Harness::start();
    let mut stalled = Vec::new();
    for _ in 0..200 {
        let mut client = Wire::connect(&harness.node);
        client.send(&(90_i32 << 20).to_be_bytes());
        client.send(&[0; 5_000]);
        stalled.push(client);
    }
    for _ in 0..200 {
        let mut client = Wire::connect(&harness.node);
        client.send(&frame(METADATA, 1, &[0; 100])[..20]);
        stalled.push(client);
    }
    harness.survived();
}

/// Zigzag, then seven bits at a time.
fn varint(value: i64) -> Vec<u8> {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while left > 0x7f {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

/// A record of so many bytes.
fn record(bytes: usize) -> Vec<u8> {
    let value = [varint(bytes as i64), vec![7; bytes], vec![0]].concat();
    let body = [&[0, 0, 0, 1][..], &value].concat();
    [varint(body.len() as i64), body].concat()
}

/// Asks for all of a partition.
fn fetch_all(topic: &str) -> Vec<u8> {
    const ALL: i32 = 100 << 20;
    let waits = [-1_i32, 500, 1, ALL].map(i32::to_be_bytes).concat();
    let topic = [&[0][..], &1_i32.to_be_bytes(), &string(topic)].concat();
    let partition = [&1_i32.to_be_bytes()[..], &0_i32.to_be_bytes(), &0_i64.to_be_bytes(), &ALL.to_be_bytes()].concat();
    [waits, topic, partition].concat()
}

/// Each asks for all there is, five times, and takes nothing.
#[test]
fn readers_that_take_nothing_neither_fill_the_memory_nor_stop_the_others() {
    const FETCH: i16 = 1;
    const READERS: usize = 60;
    let harness = Harness::start();
    harness.node.run(&["topic", "create", "large", "--partitions", "1"]).ok();
    let batch = batch(0, 1, &record(900_000));
    let produce = |client: &mut Wire| {
        let head = [&(-1_i16).to_be_bytes()[..], &[0, 1], &5000_i32.to_be_bytes(), &1_i32.to_be_bytes()].concat();
        let partition = [&string("large")[..], &1_i32.to_be_bytes(), &0_i32.to_be_bytes(), &blob(&batch)].concat();
        let response = client.ask(PRODUCE, 3, &[head, partition].concat());
        assert_eq!(short(&response, 4 + 7 + 4 + 4), 0, "it is stored");
    };
    let mut producer = Wire::connect(&harness.node);
    for _ in 0..70 {
        produce(&mut producer);
    }
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = Wire::connect(&harness.node);
        reader.send(&frame(FETCH, 4, &fetch_all("large")).repeat(5));
        readers.push(reader);
    }
    produce(&mut producer);
    let mut honest = Wire::connect(&harness.node);
    let response = honest.ask(FETCH, 4, &fetch_all("large"));
    assert!(response.len() > 900_000, "an honest reader has at least one batch: {}", response.len());
    produce(&mut producer);
    harness.survived();
}

/// Gzip of so many zeros.
fn gzip_zeros(bytes: usize) -> Vec<u8> {
    let mut gzip = std::process::Command::new("gzip")
        .args(["-c", "-9"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("gzip is there");
    let mut stdin = gzip.stdin.take().expect("it was piped");
    let feeder = std::thread::spawn(move || {
        use std::io::Write;
        let zeros = vec![0; 1 << 20];
        (0..bytes >> 20).for_each(|_| stdin.write_all(&zeros).expect("gzip reads"));
    });
    let output = gzip.wait_with_output().expect("gzip ends");
    feeder.join().expect("gzip read all");
    output.stdout
}

#[test]
fn bombs_take_no_memory_even_many_at_once() {
    let harness = Harness::start();
    let before = harness.node.peak_memory();
    let bomb = batch(1, 1, &gzip_zeros(900 << 20));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_ne!(harness.produce(&bomb), 0));
        }
    });
    let taken = harness.node.peak_memory().saturating_sub(before);
    assert!(taken < 64 << 20, "{} MiB were taken", taken >> 20);
    harness.survived();
}

#[test]
fn thousands_of_idle_connections_are_no_burden() {
    let harness = Harness::start();
    let mut idle: Vec<Wire> = (0..IDLE_CONNECTIONS).map(|_| Wire::connect(&harness.node)).collect();
    for client in idle.iter_mut().step_by(100) {
        client.works();
    }
    harness.survived();
}

/// Commits an offset with as much metadata as there may be.
fn commit(client: &mut Wire) {
    let metadata = "m".repeat(4096);
    let member = [&string("g")[..], &(-1_i32).to_be_bytes(), &string(""), &(-1_i64).to_be_bytes()].concat();
    let topic = [&1_i32.to_be_bytes()[..], &string("t"), &1_i32.to_be_bytes()].concat();
    let partition = [&0_i32.to_be_bytes()[..], &1_i64.to_be_bytes(), &string(&metadata)].concat();
    let body = [member, topic, partition].concat();
    // The coordinator makes its topic and loads it first.
    client.ask(10, 0, &string("g"));
    let deadline = std::time::Instant::now() + chronik_tests::clients::PATIENCE;
    loop {
        let response = client.ask(OFFSET_COMMIT, 2, &body);
        match short(&response, response.len() - 2) {
            0 => return,
            14..=16 => assert!(std::time::Instant::now() < deadline, "the coordinator loads"),
            error => panic!("error {error}"),
        }
    }
}

/// A short question must not have an answer of gigabytes, because it asks for the same thing very often.
#[test]
fn asking_for_the_same_a_hundred_thousand_times_is_answered_once() {
    const TIMES: usize = 100_000;
    let count = (TIMES as i32).to_be_bytes();
    let harness = Harness::start();
    let mut client = Wire::connect(&harness.node);
    commit(&mut client);
    let topic = [&1_i32.to_be_bytes()[..], &string("t"), &count].concat();
    let body = [string("g"), topic, 0_i32.to_be_bytes().repeat(TIMES)].concat();
    let response = client.ask(OFFSET_FETCH, 5, &body);
    assert!(response.len() < 10_000, "offsets: {} bytes", response.len());
    let topics = [string("t"), 1_i32.to_be_bytes().to_vec(), 0_i32.to_be_bytes().to_vec()].concat().repeat(TIMES);
    let response = client.ask(OFFSET_FETCH, 5, &[string("g"), count.to_vec(), topics].concat());
    assert!(response.len() < 10_000, "topics of offsets: {} bytes", response.len());
    let response = client.ask(DESCRIBE_GROUPS, 0, &[count.to_vec(), string("g").repeat(TIMES)].concat());
    assert!(response.len() < 10_000, "groups: {} bytes", response.len());
    let response = client.ask(METADATA, 1, &[count.to_vec(), string("t").repeat(TIMES)].concat());
    assert!(response.len() < 10_000, "metadata: {} bytes", response.len());
    let resource = [&[2][..], &string("t"), &(-1_i32).to_be_bytes()].concat();
    let body = [count.to_vec(), resource.repeat(TIMES), vec![1]].concat();
    let response = client.ask(DESCRIBE_CONFIGS, 1, &body);
    assert!(response.len() < 100_000, "configs: {} bytes", response.len());
    harness.survived();
}
