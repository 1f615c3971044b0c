//! The process, by the names that Prometheus' client libraries share. Read from `/proc`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::write::{counter, gauge};

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// What `/proc/self/stat` tells, in its own units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        // Without /proc there is nothing to tell: a metric that is missing says so better than a zero.
        let Some(stat) = std::fs::read_to_string("/proc/self/stat").ok().and_then(|text| parse_stat(&text)) else {
            return Ok(());
        };
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let cpu = stat.cpu_ticks as f64 / ticks_per_second;
        counter(encoder, ("process_cpu_seconds", "CPU time of the process, user and system"), cpu)?;
        let resident = stat.resident_pages as f64 * rustix::param::page_size() as f64;
        gauge(encoder, ("process_resident_memory_bytes", "Resident memory"), resident)?;
        gauge(encoder, ("process_virtual_memory_bytes", "Virtual memory"), stat.virtual_bytes as f64)?;
        gauge(encoder, ("process_threads", "Threads"), stat.threads as f64)?;
        if let Some(boot) = std::fs::read_to_string("/proc/stat").ok().and_then(|text| parse_boot_time(&text)) {
            let started = boot as f64 + stat.start_ticks as f64 / ticks_per_second;
            gauge(encoder, ("process_start_time_seconds", "When the process started, since the Unix epoch"), started)?;
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            gauge(encoder, ("process_open_fds", "Open file descriptors"), open.count() as f64)?;
        }
        if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            gauge(encoder, ("process_max_fds", "File descriptors it may open"), limit as f64)?;
        }
        Ok(())
    }
}

/// Reads proc_pid_stat(5): the command's name, field 2, may hold blanks and parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(14)? + field(15)?,
        threads: field(20)?,
        start_ticks: field(22)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

fn parse_boot_time(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_stat_is_read_whatever_the_command_is_called() {
        let text = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 20 13 14 15 16 8 18 5000 4096 33 0";
        let stat = Stat { cpu_ticks: 120, threads: 8, start_ticks: 5000, virtual_bytes: 4096, resident_pages: 33 };
        assert_eq!(parse_stat(text), Some(stat));
        assert_eq!(parse_stat("7 (a) S 1"), None);
        assert!(parse_stat(&std::fs::read_to_string("/proc/self/stat").unwrap()).is_some());
    }
}
