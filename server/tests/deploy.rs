//! The Kubernetes manifests start components with flags that these have.

use std::fs;
use std::path::Path;

use server::{cli, component};

/// The values of `args` of every container in `manifest`: a list item a line, under `args:`.
fn argument_lists(manifest: &str) -> Vec<Vec<String>> {
    let mut lists: Vec<Vec<String>> = Vec::new();
    let mut indent = None;
    for line in manifest.lines() {
        let depth = line.len() - line.trim_start().len();
        if line.trim() == "args:" {
            indent = Some(depth);
            lists.push(Vec::new());
        } else if let Some(item) = line.trim_start().strip_prefix("- ").filter(|_| indent.is_some_and(|at| depth > at))
        {
            lists.last_mut().unwrap().push(item.to_owned());
        } else if indent.is_some_and(|at| depth <= at) {
            indent = None;
        }
    }
    lists
}

#[test]
fn every_flag_of_a_manifest_is_one_that_its_component_has_and_that_has_an_effect() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes");
    let mut components = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        for arguments in argument_lists(&fs::read_to_string(&path).unwrap()) {
            let words = std::iter::once("uru".to_owned()).chain(arguments).map(Into::into);
            match cli::parse(component::COMPONENTS, words) {
                Ok(cli::Task::Run(invocation)) => {
                    assert!(invocation.values.no_effect().is_empty(), "{}: {invocation:?}", path.display());
                    components.push(invocation.component);
                }
                Ok(cli::Task::Print(_)) => panic!("{}: it prints a page", path.display()),
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }
    components.sort_unstable();
    assert_eq!(components, ["compact", "query", "receive", "store"]);
}
