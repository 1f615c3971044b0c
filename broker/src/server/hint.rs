//! What a new user may try, once a node serves.

use std::net::SocketAddr;

use crate::client::DEFAULT_BOOTSTRAP;

/// Commands that work as they stand, against this node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hint {
    /// Where a client on this machine reaches it.
    bootstrap: String,
    commands: [String; 3],
}

impl Hint {
    /// For a node that serves clients on `kafka`; `program` is what the commands are called by.
    pub(super) fn of(program: &str, kafka: SocketAddr) -> Self {
        let bootstrap = if kafka.ip().is_unspecified() || kafka.ip().is_loopback() && kafka.is_ipv4() {
            format!("localhost:{}", kafka.port())
        } else {
            kafka.to_string()
        };
        let known = bootstrap == DEFAULT_BOOTSTRAP;
        let flag = if known { String::new() } else { format!(" --bootstrap {bootstrap}") };
        let commands = [
            format!("{program} topic create greetings --if-not-exists{flag}"),
            format!("echo 'hello, log' | {program} produce greetings{flag}"),
            format!("{program} consume greetings --from-beginning --exit-at-end{flag}"),
        ];
        Self { bootstrap, commands }
    }

    /// One event: a line that can be pasted into a shell.
    pub(super) fn tell(&self) {
        tracing::info!(bootstrap = self.bootstrap, "to try it: {}", self.commands.join(" && "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_reach_the_node_as_they_stand() {
        for (kafka, bootstrap, flag) in [
            ("0.0.0.0:9092", "localhost:9092", ""),
            ("[::]:9092", "localhost:9092", ""),
            ("127.0.0.1:9092", "localhost:9092", ""),
            ("127.0.0.1:4711", "localhost:4711", " --bootstrap localhost:4711"),
            ("10.0.0.7:9092", "10.0.0.7:9092", " --bootstrap 10.0.0.7:9092"),
            ("[::1]:9092", "[::1]:9092", " --bootstrap [::1]:9092"),
        ] {
            let hint = Hint::of("./chronik", kafka.parse().expect("an address"));
            assert_eq!(hint.bootstrap, bootstrap);
            assert_eq!(hint.commands[1], format!("echo 'hello, log' | ./chronik produce greetings{flag}"));
        }
    }
}
