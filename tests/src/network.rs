//! Network namespaces: each node on a host of its own, and hosts that can be cut off from each other without a word.
//!
//! All hosts are on one bridge. A cut gives both ends a wrong hardware address of each other: what they send is lost, and
//! nobody is told, as when a cable is pulled behind a switch. Needs root and iproute2.

use std::process::{Command, Stdio};

/// Networks tried before there is none to be had.
const NETWORKS: u8 = 250;
/// Nobody's hardware address (locally administered).
const NOBODY: &str = "02:00:00:00:00:fe";

/// Hosts 0, 1, … and the machine itself; taken down when dropped.
#[derive(Debug)]
pub struct Network {
    number: u8,
    hosts: usize,
}

impl Network {
    /// A network of so many hosts; `None`, and said so, where this user or machine can't have one.
    ///
    /// # Panics
    /// When it can't be made for another reason.
    pub fn new(hosts: usize) -> Option<Self> {
        if !is_possible() {
            crate::skip("needs root, iproute2 and network namespaces");
            return None;
        }
        // Taking a name is what keeps tests that run at the same time apart.
        let free = |number: &u8| try_ip(&["link", "add", &bridge(*number), "type", "bridge"]);
        let number = (0..NETWORKS).find(free).expect("a free network");
        let mut network = Self { number, hosts: 0 };
        let own = format!("{}/24", network.machine());
        ip(&["address", "add", &own, "dev", &bridge(number)]);
        ip(&["link", "set", &bridge(number), "up"]);
        for host in 0..hosts {
            network.add(host);
        }
        Some(network)
    }

    fn add(&mut self, host: usize) {
        let (name, outer, inner) = (self.name(host), format!("chv{}-{host}", self.number), "eth0");
        ip(&["netns", "add", &name]);
        self.hosts += 1;
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", inner, "netns", &name]);
        ip(&["link", "set", &outer, "master", &bridge(self.number), "up"]);
        let address = format!("{}/24", self.address(host));
        ip(&["-n", &name, "address", "add", &address, "dev", inner]);
        for device in ["lo", inner] {
            ip(&["-n", &name, "link", "set", device, "up"]);
        }
    }

    /// The name of a host's namespace.
    pub fn name(&self, host: usize) -> String {
        format!("chronik{}-{host}", self.number)
    }

    /// A host's address.
    pub fn address(&self, host: usize) -> String {
        format!("198.19.{}.{}", self.number, host + 1)
    }

    fn machine(&self) -> String {
        format!("198.19.{}.254", self.number)
    }

    /// Two hosts lose each other.
    pub fn cut(&self, one: usize, other: usize) {
        self.lose(Some(one), &self.address(other));
        self.lose(Some(other), &self.address(one));
    }

    /// Two hosts find each other again.
    pub fn mend(&self, one: usize, other: usize) {
        self.find(Some(one), &self.address(other));
        self.find(Some(other), &self.address(one));
    }

    /// A host and the machine, where clients are, lose each other.
    pub fn cut_from_clients(&self, host: usize) {
        self.lose(Some(host), &self.machine());
        self.lose(None, &self.address(host));
    }

    /// They find each other again.
    pub fn mend_for_clients(&self, host: usize) {
        self.find(Some(host), &self.machine());
        self.find(None, &self.address(host));
    }

    /// A host loses all others; with `clients`, the machine, too.
    pub fn isolate(&self, host: usize, clients: bool) {
        self.others(host).for_each(|other| self.cut(host, other));
        if clients {
            self.cut_from_clients(host);
        }
    }

    /// It finds all of them again.
    pub fn rejoin(&self, host: usize) {
        self.others(host).for_each(|other| self.mend(host, other));
        self.mend_for_clients(host);
    }

    fn others(&self, host: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.hosts).filter(move |other| *other != host)
    }

    /// `from`: a host, or the machine itself.
    fn lose(&self, from: Option<usize>, address: &str) {
        self.neighbour(from, &["replace", address, "lladdr", NOBODY, "nud", "permanent"]);
    }

    fn find(&self, from: Option<usize>, address: &str) {
        // Replaced before it is deleted, so that it is there in any case.
        self.lose(from, address);
        self.neighbour(from, &["delete", address]);
    }

    fn neighbour(&self, from: Option<usize>, words: &[&str]) {
        match from {
            Some(host) => ip(&[&["-n", &self.name(host), "neighbour"], words, &["dev", "eth0"]].concat()),
            None => ip(&[&["neighbour"], words, &["dev", &bridge(self.number)]].concat()),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The devices in a namespace, and their other ends, go with it once its last process is gone.
        for host in 0..self.hosts {
            try_ip(&["link", "delete", &format!("chv{}-{host}", self.number)]);
            try_ip(&["netns", "delete", &self.name(host)]);
        }
        try_ip(&["link", "delete", &bridge(self.number)]);
    }
}

fn bridge(number: u8) -> String {
    format!("chronik{number}")
}

/// Makes, and removes, a namespace to see whether that is allowed.
fn is_possible() -> bool {
    let name = format!("chronik-probe-{}-{:?}", std::process::id(), std::thread::current().id());
    let name = name.replace(['(', ')'], "-");
    try_ip(&["netns", "add", &name]) && try_ip(&["netns", "delete", &name])
}

fn try_ip(words: &[&str]) -> bool {
    let status = Command::new("ip").args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().expect("ip runs");
    assert!(output.status.success(), "ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
}
