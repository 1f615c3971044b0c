//! `chronik certificate`: keeps one node's certificate, out of a folder with those of several, in a folder of its own.
//!
//! On Kubernetes the pods of a StatefulSet mount the same Secret, which holds the keys of all its nodes. This runs in a
//! container of its own beside the broker: only it sees that Secret, and the broker's process, which faces the network, only
//! what is put into the folder here. New certificates are taken up while both run.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;

/// How often it is looked for new certificates. The broker looks at its folder as often again.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Who is trusted.
const CA: &str = "ca.crt";
/// What the broker reads.
const OWN: [&str; 3] = [CA, "tls.crt", "tls.key"];

#[derive(Debug, Args)]
pub(super) struct CertificateArgs {
    /// The folder with ca.crt, and NAME.crt and NAME.key of every node
    #[arg(long, value_name = "DIR", required_unless_present = "check")]
    from: Option<PathBuf>,
    /// The node's name in that folder
    #[arg(long, value_name = "NAME", required_unless_present = "check")]
    name: Option<String>,
    /// The folder that gets ca.crt, tls.crt and tls.key
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// Only tells whether that folder has them: exit code 0 or 1
    #[arg(long, conflicts_with_all = ["from", "name"])]
    check: bool,
}

pub(super) async fn run(args: CertificateArgs) -> Result<(), Failure> {
    let CertificateArgs { from: Some(from), name: Some(name), into, check: false } = args else {
        return check(&args.into);
    };
    if name.is_empty() || name.contains('/') {
        return Err(Failure::Usage(format!("{name:?} is no name of a node")));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut missing = false;
    loop {
        match take_up(&from, &name, &into) {
            Ok(true) => eprintln!("chronik: the certificate of {name} is in {}", into.display()),
            // It is put there later: waited for, and told once.
            Err(Failure::Failed(why)) if !missing => eprintln!("chronik: {why}"),
            Ok(false) | Err(Failure::Failed(_)) => {}
            Err(other) => return Err(other),
        }
        missing = OWN.iter().any(|file| !into.join(file).exists());
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = terminate.recv() => return Ok(()),
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn check(into: &Path) -> Result<(), Failure> {
    match OWN.iter().find(|file| !into.join(file).exists()) {
        None => Ok(()),
        Some(file) => Err(Failure::Failed(format!("{} is not there yet", into.join(file).display()))),
    }
}

/// Whether something was written: what is the same already is left alone.
fn take_up(from: &Path, name: &str, into: &Path) -> Result<bool, Failure> {
    let sources = [from.join(CA), from.join(format!("{name}.crt")), from.join(format!("{name}.key"))];
    let failed = |what: &Path, why: io::Error| Failure::Failed(format!("{}: {why}", what.display()));
    let mut written = false;
    // All are read before one is written: a folder that is being changed may lack one of them.
    let contents = sources.iter().map(|source| fs::read(source).map_err(|why| failed(source, why)));
    for (content, target) in contents.collect::<Result<Vec<_>, _>>()?.into_iter().zip(OWN) {
        let target = into.join(target);
        if fs::read(&target).is_ok_and(|found| found == content) {
            continue;
        }
        replace(&target, &content).map_err(|why| failed(&target, why))?;
        written = true;
    }
    Ok(written)
}

/// The broker never sees half a file.
fn replace(target: &Path, content: &[u8]) -> io::Result<()> {
    let beside = target.with_extension("tmp");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    fs::rename(&beside, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().expect("a temporary folder");
        let (from, into) = (root.path().join("from"), root.path().join("into"));
        fs::create_dir(&from).and_then(|()| fs::create_dir(&into)).expect("folders");
        for (file, content) in [(CA, "ca"), ("a-0.crt", "c0"), ("a-0.key", "k0"), ("a-1.crt", "c1"), ("a-1.key", "k1")]
        {
            fs::write(from.join(file), content).expect("a file");
        }
        (root, from, into)
    }

    fn files(folder: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| {
                let path = entry.expect("an entry").path();
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                (name, fs::read_to_string(path).expect("a file"))
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn the_nodes_own_certificate_and_nobody_elses() {
        let (_root, from, into) = folders();
        assert!(check(&into).is_err());
        assert!(take_up(&from, "a-1", &into).expect("all is there"));
        let expected = [("ca.crt", "ca"), ("tls.crt", "c1"), ("tls.key", "k1")];
        assert_eq!(files(&into), expected.map(|(name, content)| (name.to_owned(), content.to_owned())));
        assert!(check(&into).is_ok());
        assert!(!take_up(&from, "a-1", &into).expect("all is there"), "nothing has changed");
    }

    #[test]
    fn a_new_certificate_is_taken_up_and_a_missing_one_changes_nothing() {
        let (_root, from, into) = folders();
        take_up(&from, "a-0", &into).expect("all is there");
        fs::write(from.join("a-0.crt"), "new").expect("a file");
        fs::remove_file(from.join("a-0.key")).expect("a file");
        assert!(take_up(&from, "a-0", &into).is_err());
        assert_eq!(fs::read_to_string(into.join("tls.crt")).expect("a file"), "c0", "not without its key");
        fs::write(from.join("a-0.key"), "newer").expect("a file");
        assert!(take_up(&from, "a-0", &into).expect("all is there"));
        assert_eq!(fs::read_to_string(into.join("tls.key")).expect("a file"), "newer");
    }
}
