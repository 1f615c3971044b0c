//! `chronik start`.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::environment::environment;
use super::topic::parse_pair;
use crate::config::{self, Config};
use crate::node::NodeError;
use crate::server;
use crate::telemetry::{self, LogFormat};

/// The stack of a runtime thread, bytes.
const STACK_BYTES: usize = 1 << 20;

/// A node's settings come from defaults, then the file, then `CHRONIK_*` variables, then these flags.
#[derive(Debug, Args)]
pub(super) struct StartArgs {
    /// A YAML file of settings
    #[arg(long, value_name = "FILE", env = "CHRONIK_CONFIG")]
    config: Option<PathBuf>,
    /// Where Kafka clients are served (default: 0.0.0.0:9092)
    #[arg(long, value_name = "HOST:PORT")]
    kafka_addr: Option<String>,
    /// The address that Kafka clients are told (default: where they are served)
    #[arg(long, value_name = "HOST:PORT")]
    advertised_addr: Option<String>,
    /// Where other nodes' metadata and administrators are served (default: 0.0.0.0:9391; 127.0.0.1 where plaintext)
    #[arg(long, value_name = "HOST:PORT")]
    grpc_addr: Option<String>,
    /// Where leaders stream records to (default: 0.0.0.0:9291; 127.0.0.1 where plaintext)
    #[arg(long, value_name = "HOST:PORT")]
    wal_receiver_addr: Option<String>,
    /// Where health and metrics are served (default: 0.0.0.0:9491)
    #[arg(long, value_name = "HOST:PORT")]
    http_addr: Option<String>,
    /// The folder with everything that the node stores (default: ./data)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The node's id in its cluster (default: 0)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    node_id: Option<String>,
    /// Any setting, Kafka's by their names; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    set: Vec<(String, String)>,
    /// What is logged: a level, or targets with levels (default: info)
    #[arg(long, value_name = "FILTER", env = "CHRONIK_LOG")]
    log: Option<String>,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Auto, env = "CHRONIK_LOG_FORMAT")]
    log_format: LogFormat,
}

impl StartArgs {
    /// The flags that are settings, by the settings' names.
    fn settings(&self) -> Vec<(String, String)> {
        let named = [
            ("kafka_addr", &self.kafka_addr),
            ("advertised_addr", &self.advertised_addr),
            ("grpc_addr", &self.grpc_addr),
            ("wal_receiver_addr", &self.wal_receiver_addr),
            ("http_addr", &self.http_addr),
            ("data_dir", &self.data_dir),
            ("node_id", &self.node_id),
        ];
        let given = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        given.chain(self.set.iter().cloned()).collect()
    }
}

pub(super) fn run(args: StartArgs) -> Result<(), Failure> {
    let config = load(&args)?;
    let log_level =
        telemetry::start(args.log.as_deref(), args.log_format).map_err(|why| Failure::Usage(why.to_string()))?;
    end_on_panic();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()
        .map_err(|why| Failure::Failed(format!("start threads: {why}")))?;
    let outcome = runtime.block_on(server::run(config, log_level));
    // What still blocks after an orderly stop has been waited for long enough.
    runtime.shutdown_background();
    outcome.map_err(|why| match why {
        NodeError::Refused(why) => Failure::Usage(why),
        NodeError::Failed(why) => Failure::Failed(why),
    })
}

/// A panic is a defect, on whatever thread: it ends the process with its reason, before anything builds on what is half
/// done.
fn end_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::exit(1);
    }));
}

fn load(args: &StartArgs) -> Result<Config, Failure> {
    config::load(args.config.as_deref(), environment(), args.settings()).map_err(|why| Failure::Usage(why.to_string()))
}
