//! `bundle`: an archive with what somebody needs who is to help. It holds no Secret and no record.

use std::fs::File;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::brokers;
use crate::kubectl::{Kubectl, selector};

/// Lines of each log.
const LOG_LINES: &str = "20000";
/// Kinds of objects that are a cluster's. Secrets are not among them.
const KINDS: &str =
    "statefulsets,pods,persistentvolumeclaims,services,endpointslices,configmaps,poddisruptionbudgets,networkpolicies";

/// What the brokers are asked: file, arguments.
const QUESTIONS: [(&str, &[&str]); 4] = [
    ("brokers/nodes.json", &["cluster", "nodes", "--output", "json"]),
    ("brokers/voters.json", &["cluster", "voters", "--output", "json"]),
    ("brokers/moves.json", &["cluster", "reassign", "list", "--output", "json"]),
    ("brokers/status.txt", &["cluster", "status"]),
];

/// Files, and what could not be had: that is told in the bundle, too.
type Archive = tar::Builder<GzEncoder<File>>;

pub(crate) fn gather(kubectl: &Kubectl, cluster: &str, output: Option<PathBuf>) -> Result<(), String> {
    let resource = kubectl.cluster(cluster)?;
    let path = output.unwrap_or_else(|| format!("{cluster}-bundle.tar.gz").into());
    let failed = |why: std::io::Error| format!("{}: {why}", path.display());
    let file = File::create_new(&path).map_err(failed)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));

    let mut missing = Vec::new();
    let mut put = |name: &str, content: Result<String, String>| -> Result<(), String> {
        match content {
            Ok(text) => add(&mut archive, cluster, name, &text).map_err(failed),
            Err(why) => {
                missing.push(format!("{name}: {why}"));
                Ok(())
            }
        }
    };
    put("cluster.json", serde_json::to_string_pretty(&resource).map_err(|why| why.to_string()))?;
    put("objects.yaml", kubectl.text(&["get", KINDS, "-l", &selector(cluster), "-o", "yaml"]))?;
    put("pods.txt", kubectl.text(&["describe", "pods", "-l", &selector(cluster)]))?;
    put("events.txt", kubectl.text(&["get", "events", "--sort-by=.lastTimestamp", "-o", "wide"]))?;
    put("kubernetes.txt", kubectl.text(&["version"]))?;
    let pods = brokers::pods(kubectl, cluster).unwrap_or_default();
    for (pod, ..) in &pods {
        put(&format!("logs/{pod}.log"), kubectl.text(&["logs", pod, "--all-containers", "--tail", LOG_LINES]))?;
        // There is a former one only where a container has ended.
        if let Ok(former) = kubectl.text(&["logs", pod, "-c", "chronik", "--previous", "--tail", LOG_LINES]) {
            put(&format!("logs/{pod}-former.log"), Ok(former))?;
        }
    }
    if let Some((pod, ..)) = pods.iter().find(|(_, _, ready)| *ready) {
        for (name, question) in QUESTIONS {
            put(name, kubectl.text(&[&["exec", pod, "-c", "chronik", "--", "/chronik"], question].concat()))?;
        }
    }
    if !missing.is_empty() {
        add(&mut archive, cluster, "missing.txt", &missing.join("\n")).map_err(failed)?;
    }
    archive.into_inner().and_then(GzEncoder::finish).and_then(|file| file.sync_all()).map_err(failed)?;
    println!("{}: look through it before you give it away; {} things could not be had", path.display(), missing.len());
    Ok(())
}

fn add(archive: &mut Archive, cluster: &str, name: &str, text: &str) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0));
    archive.append_data(&mut header, format!("{cluster}-bundle/{name}"), text.as_bytes())
}
