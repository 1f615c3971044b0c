//! A network of machines in memory: streams that deliver in order, late, and not at all while a link is cut.
//!
//! As with TCP, what a cut holds back is delivered when it ends; a process that dies has its connections reset; a
//! machine that loses power falls silent, and resets them once it is back. So a link that is to notice sooner must do
//! so by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

use super::trace::{Event, Trace};
use crate::io::net::{Connecting, Connection, Listener, Network};

/// Where nodes listen for the metadata plane, and for the WAL's stream.
pub(super) const METADATA_PORT: u16 = 9391;
pub(super) const WAL_PORT: u16 = 9291;
/// Bytes on their way in one direction; a writer waits for more room.
const WINDOW: usize = 64 << 10;
/// How often a connection is asked for that gets no answer.
const DIAL_AGAIN: Duration = Duration::from_millis(300);
/// One that never gets an answer fails after so many times.
const DIALS: u32 = 60;

/// How long messages take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latency {
    /// At least, µs.
    pub(super) least_us: u64,
    /// As much more at most, µs, mostly.
    pub(super) spread_us: u64,
    /// One message of so many is late; 0 for none.
    pub(super) late_of: u32,
    /// By at most so much, ms.
    pub(super) late_ms: u64,
}

/// A process on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) machine: i32,
    /// Counts up with each start of the machine's node.
    pub(super) start: u64,
}

#[derive(Default)]
struct Pipe {
    chunks: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// When the reader sees the end; whether it is an orderly one.
    end: Option<(Instant, bool)>,
    /// Nothing arrives any more.
    silent: bool,
    last: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

struct Wire {
    ends: [Process; 2],
    /// Where it was dialled.
    port: u16,
    /// Ends whose process is gone, or that were dropped.
    gone: [bool; 2],
    /// What each end has written.
    pipes: [Pipe; 2],
}

struct Net {
    rng: SmallRng,
    trace: Trace,
    latency: Latency,
    /// Machines without power.
    dark: BTreeSet<i32>,
    /// Processes that live.
    alive: BTreeSet<Process>,
    /// From whom to whom nothing arrives on the connections to this port.
    cuts: BTreeSet<(i32, i32, u16)>,
    listeners: BTreeMap<(i32, u16), (Process, mpsc::UnboundedSender<Connection>)>,
    wires: BTreeMap<u64, Wire>,
    next: u64,
}

/// How an end goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Its process closes it.
    Closed,
    /// Its process is gone.
    Reset,
    /// Its machine is gone: nobody hears of it.
    Silent,
}

/// All machines' network; clones are the same.
#[derive(Clone)]
pub(super) struct SimNetwork(Arc<Mutex<Net>>);

impl Net {
    fn delay(&mut self) -> Duration {
        let Latency { least_us, spread_us, late_of, late_ms } = self.latency;
        let late = late_of > 0 && self.rng.random_range(0..late_of) == 0;
        let extra = if late { self.rng.random_range(0..=late_ms) * 1000 } else { 0 };
        Duration::from_micros(least_us + self.rng.random_range(0..=spread_us) + extra)
    }

    fn is_cut(&self, from: i32, to: i32, port: u16) -> bool {
        self.cuts.contains(&(from, to, port))
    }

    /// An end is gone.
    fn end(&mut self, id: u64, side: usize, how: Ending) {
        let delay = self.delay();
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.gone[side] = true;
        let written = &mut wire.pipes[side];
        if how == Ending::Silent {
            written.silent = true;
        } else if written.end.is_none() {
            let at = written.last.map_or(Instant::now() + delay, |last| last.max(Instant::now() + delay));
            written.end = Some((at, how == Ending::Closed));
        }
        wire.pipes.iter_mut().for_each(Pipe::wake);
        if wire.gone == [true, true] {
            self.wires.remove(&id);
        }
    }

    fn wires_of(&self, of: impl Fn(Process) -> bool) -> Vec<(u64, usize)> {
        let sides = self.wires.iter().flat_map(|(id, wire)| [(*id, 0, wire), (*id, 1, wire)]);
        sides.filter(|(_, side, wire)| of(wire.ends[*side])).map(|(id, side, _)| (id, side)).collect()
    }
}

impl SimNetwork {
    pub(super) fn new(seed: u64, latency: Latency, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Net {
            rng: SmallRng::seed_from_u64(seed),
            trace,
            latency,
            dark: BTreeSet::new(),
            alive: BTreeSet::new(),
            cuts: BTreeSet::new(),
            listeners: BTreeMap::new(),
            wires: BTreeMap::new(),
            next: 0,
        })))
    }

    /// The network as a new process sees it. A machine that was dark has power again.
    pub(super) fn attach(&self, process: Process) -> Arc<dyn Network> {
        let mut net = self.0.lock();
        net.alive.insert(process);
        if net.dark.remove(&process.machine) {
            // Who still talks to a process of before hears that there is none.
            for (id, side) in net.wires_of(|end| end.machine == process.machine && end != process) {
                if let Some(wire) = net.wires.get_mut(&id) {
                    wire.pipes[side].silent = false;
                    wire.pipes[side].chunks.clear();
                }
                net.end(id, side, Ending::Reset);
            }
        }
        drop(net);
        Arc::new(Attached { net: self.clone(), process })
    }

    /// A process is gone; with its machine's power, nobody is told.
    pub(super) fn detach(&self, process: Process, power_loss: bool) {
        let mut net = self.0.lock();
        net.alive.remove(&process);
        if power_loss {
            net.dark.insert(process.machine);
        }
        let before = std::mem::take(&mut net.listeners);
        let (gone, kept) = before.into_iter().partition(|(_, (listens, _))| *listens == process);
        net.listeners = kept;
        for (id, side) in net.wires_of(|end| end == process) {
            net.end(id, side, if power_loss { Ending::Silent } else { Ending::Reset });
        }
        drop(net);
        // Connections that nobody has accepted end with it, which takes the lock.
        drop::<BTreeMap<(i32, u16), (Process, mpsc::UnboundedSender<Connection>)>>(gone);
    }

    /// From now on nothing arrives at `to` from `from`.
    pub(super) fn cut(&self, from: i32, to: i32) {
        self.cut_port(from, to, METADATA_PORT);
        self.cut_port(from, to, WAL_PORT);
    }

    /// As when one of several paths between two machines is broken: nothing arrives at `to` from `from` on the
    /// connections that were dialled to this port, by whichever of the two.
    pub(super) fn cut_port(&self, from: i32, to: i32, port: u16) {
        self.0.lock().cuts.insert((from, to, port));
    }

    /// Ends the cuts between two machines on the connections to this port.
    pub(super) fn heal_port(&self, one: i32, other: i32, port: u16) {
        let mut net = self.0.lock();
        net.cuts.remove(&(one, other, port));
        net.cuts.remove(&(other, one, port));
        net.wires.values_mut().flat_map(|wire| &mut wire.pipes).for_each(Pipe::wake);
    }

    /// All cuts end.
    pub(super) fn heal(&self) {
        let mut net = self.0.lock();
        net.cuts.clear();
        net.wires.values_mut().flat_map(|wire| &mut wire.pipes).for_each(Pipe::wake);
    }

    /// From now on messages take so long.
    pub(super) fn set_latency(&self, latency: Latency) {
        self.0.lock().latency = latency;
    }

    /// How long a client's message takes.
    pub(super) fn delay(&self) -> Duration {
        self.0.lock().delay()
    }
}

/// `node3:9391`.
fn parse(address: &str) -> io::Result<(i32, u16)> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is no address here"));
    let (host, port) = address.strip_prefix("node").and_then(|rest| rest.split_once(':')).ok_or_else(wrong)?;
    Ok((host.parse().map_err(|_| wrong())?, port.parse().map_err(|_| wrong())?))
}

fn socket_address(machine: i32, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, 0, machine as u8).into(), port)
}

/// The network as one process sees it.
struct Attached {
    net: SimNetwork,
    process: Process,
}

/// What comes of asking for a connection.
enum Dialled {
    Connected(End, End),
    Refused,
    NoAnswer,
}

impl Attached {
    fn dial_once(&self, to: (i32, u16)) -> Dialled {
        let mut net = self.net.0.lock();
        let (here, there) = (self.process.machine, to.0);
        let cut = net.is_cut(here, there, to.1) || net.is_cut(there, here, to.1);
        if cut || net.dark.contains(&there) || !net.alive.contains(&self.process) {
            return Dialled::NoAnswer;
        }
        let Some((process, _)) = net.listeners.get(&to) else { return Dialled::Refused };
        let ends = [self.process, *process];
        net.next += 1;
        let id = net.next;
        let pipes = [Pipe::default(), Pipe::default()];
        net.wires.insert(id, Wire { ends, port: to.1, gone: [false; 2], pipes });
        drop(net);
        let end = |side| End { net: self.net.clone(), id, side, timer: None };
        Dialled::Connected(end(0), end(1))
    }
}

impl Network for Attached {
    fn listen<'a>(&'a self, address: &'a str) -> Connecting<'a, Box<dyn Listener>> {
        Box::pin(async move {
            let at = parse(address)?;
            let (sender, accepted) = mpsc::unbounded_channel();
            let mut net = self.net.0.lock();
            if net.listeners.contains_key(&at) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            net.listeners.insert(at, (self.process, sender));
            Ok(Box::new(SimListener { at, accepted }) as Box<dyn Listener>)
        })
    }

    fn dial<'a>(&'a self, address: &'a str) -> Connecting<'a, Connection> {
        Box::pin(async move {
            let to = parse(address)?;
            for _ in 0..DIALS {
                let there_and_back = {
                    let mut net = self.net.0.lock();
                    net.delay() + net.delay()
                };
                sleep(there_and_back).await;
                match self.dial_once(to) {
                    Dialled::Connected(near, far) => {
                        let listener = self.net.0.lock().listeners.get(&to).map(|(_, listener)| listener.clone());
                        let peer = socket_address(self.process.machine, 0);
                        let accepted = Connection { stream: Box::new(far), peer, identity: None };
                        let taken = listener.is_some_and(|listener| listener.send(accepted).is_ok());
                        let peer = socket_address(to.0, to.1);
                        let dialled = Connection { stream: Box::new(near), peer, identity: None };
                        return if taken { Ok(dialled) } else { Err(io::ErrorKind::ConnectionRefused.into()) };
                    }
                    Dialled::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
                    Dialled::NoAnswer => sleep(DIAL_AGAIN).await,
                }
            }
            Err(io::ErrorKind::TimedOut.into())
        })
    }
}

struct SimListener {
    at: (i32, u16),
    accepted: mpsc::UnboundedReceiver<Connection>,
}

impl Listener for SimListener {
    fn local_addr(&self) -> SocketAddr {
        socket_address(self.at.0, self.at.1)
    }

    fn accept(&mut self) -> Connecting<'_, Connection> {
        Box::pin(async move {
            match self.accepted.recv().await {
                Some(connection) => Ok(connection),
                // Its process is gone.
                None => std::future::pending().await,
            }
        })
    }
}

/// One end of a connection.
struct End {
    net: SimNetwork,
    id: u64,
    side: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What an end finds when it reads.
enum Found {
    Bytes,
    End,
    Later(Instant),
    Nothing,
}

impl End {
    fn find(&self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> io::Result<Found> {
        let mut net = self.net.0.lock();
        let (id, side) = (self.id, self.side);
        let wire = net.wires.get(&id).ok_or(io::ErrorKind::ConnectionReset)?;
        let cut = net.is_cut(wire.ends[1 - side].machine, wire.ends[side].machine, wire.port);
        let wire = net.wires.get_mut(&id).ok_or(io::ErrorKind::ConnectionReset)?;
        if wire.gone[side] {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let pipe = &mut wire.pipes[1 - side];
        let now = Instant::now();
        if cut || pipe.silent {
            pipe.reader = Some(cx.waker().clone());
            return Ok(Found::Nothing);
        }
        let mut found = false;
        while buf.remaining() > 0
            && let Some((at, chunk)) = pipe.chunks.front_mut()
        {
            if *at > now {
                let at = *at;
                if found {
                    break;
                }
                pipe.reader = Some(cx.waker().clone());
                return Ok(Found::Later(at));
            }
            let count = chunk.len().min(buf.remaining());
            buf.put_slice(&chunk[..count]);
            chunk.advance(count);
            pipe.bytes -= count;
            found = true;
            if chunk.is_empty() {
                pipe.chunks.pop_front();
            }
        }
        if found {
            pipe.writer.take().into_iter().for_each(Waker::wake);
            net.trace.add(Event::Arrived { wire: id, side });
            return Ok(Found::Bytes);
        }
        match pipe.end {
            Some((at, _)) if at > now => {
                pipe.reader = Some(cx.waker().clone());
                Ok(Found::Later(at))
            }
            Some((_, orderly)) => {
                net.trace.add(Event::Arrived { wire: id, side });
                if orderly { Ok(Found::End) } else { Err(io::ErrorKind::ConnectionReset.into()) }
            }
            None => {
                pipe.reader = Some(cx.waker().clone());
                Ok(Found::Nothing)
            }
        }
    }
}

impl AsyncRead for End {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.find(cx, buf)? {
                Found::Bytes | Found::End => return Poll::Ready(Ok(())),
                Found::Nothing => return Poll::Pending,
                Found::Later(at) => {
                    let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                    if timer.deadline() != at {
                        timer.as_mut().reset(at);
                    }
                    if timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.timer = None;
                }
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut net = self.net.0.lock();
        let delay = net.delay();
        let now = Instant::now();
        let Some(wire) = net.wires.get_mut(&self.id) else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let side = self.side;
        let refused = wire.gone[1 - side] && wire.pipes[1 - side].end.is_some_and(|(at, _)| at <= now);
        let pipe = &mut wire.pipes[side];
        if wire.gone[side] || refused || pipe.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW.saturating_sub(pipe.bytes);
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(room);
        let at = pipe.last.map_or(now + delay, |last| last.max(now + delay));
        pipe.last = Some(at);
        pipe.bytes += count;
        pipe.chunks.push_back((at, Bytes::copy_from_slice(&bytes[..count])));
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut net = self.net.0.lock();
        let at = Instant::now() + net.delay();
        if let Some(wire) = net.wires.get_mut(&self.id) {
            let pipe = &mut wire.pipes[self.side];
            if pipe.end.is_none() {
                pipe.end = Some((pipe.last.map_or(at, |last| last.max(at)), true));
            }
            pipe.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.net.0.lock().end(self.id, self.side, Ending::Closed);
    }
}
