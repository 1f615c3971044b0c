//! The resources' definitions as files: `chronik-operator crds print`, `crds/*.yaml`.

use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::ChronikCluster;

/// All definitions.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![ChronikCluster::crd()]
}

/// A definition as its file has it.
///
/// # Panics
/// Never: a definition made of types can be written.
pub fn text(definition: &CustomResourceDefinition) -> String {
    let yaml = serde_yaml::to_string(definition).expect("a definition is made of maps with text for keys");
    format!("# Generated from operator/src/crd; `make crds` writes it anew.\n{yaml}")
}

/// The name of a definition's file.
pub fn file_name(definition: &CustomResourceDefinition) -> String {
    format!("{}.yaml", definition.metadata.name.as_deref().unwrap_or_default())
}

/// Writes the files into a folder.
pub fn write(folder: &Path) -> std::io::Result<()> {
    definitions().iter().try_for_each(|definition| std::fs::write(folder.join(file_name(definition)), text(definition)))
}

/// The files of a folder that are not what the types say.
pub fn stale(folder: &Path) -> Vec<PathBuf> {
    let stale = |definition: &CustomResourceDefinition| {
        let path = folder.join(file_name(definition));
        let found = std::fs::read_to_string(&path).ok();
        (found.as_deref() != Some(&text(definition))).then_some(path)
    };
    definitions().iter().filter_map(stale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_what_the_types_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        assert_eq!(stale(&folder), Vec::<PathBuf>::new(), "run `make crds`");
    }
}
