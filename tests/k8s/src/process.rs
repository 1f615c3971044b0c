//! A broker's process, from the machine that it runs on: a container can't kill its own first process.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The process that runs this program in the pod with this UID, where it runs on this machine.
pub fn find(pod_uid: &str, program: &str, argument: &str) -> Option<u32> {
    // Cgroups of systemd have `_` for `-`.
    let uids = [pod_uid.to_owned(), pod_uid.replace('-', "_")];
    let is_it = |process: &Path| {
        let cgroup = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        let mut words = command.split('\0');
        uids.iter().any(|uid| cgroup.contains(uid))
            && words.next() == Some(program)
            && words.any(|word| word == argument)
    };
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let found = processes.into_iter().find(|process| is_it(process))?;
    found.file_name()?.to_str()?.parse().ok()
}

/// Kills a process without warning.
///
/// # Panics
/// When that is not allowed.
pub fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill can be run");
    assert!(killed.success(), "kill -9 {pid}");
}
