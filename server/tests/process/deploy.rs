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

#[test]
fn the_image_is_built_with_the_workspaces_compiler_from_files_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("server/deploy/Dockerfile")).unwrap();
    let workspace = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let version = workspace.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(text.contains(&format!("FROM rust:{version}-")), "the image is not built with Rust {version}");
    let built = "/source/target/release/uru";
    for line in text.lines().filter(|line| line.starts_with("COPY ")) {
        let words: Vec<&str> = line.split(' ').skip(1).filter(|word| !word.starts_with("--")).collect();
        for source in &words[..words.len() - 1] {
            let path = source.strip_prefix("/source/").unwrap_or(source);
            let is_made = *source == built || text.contains(&format!("mkdir {source}"));
            assert!(is_made || root.join(path).exists(), "{line}: there is no {path}");
        }
    }
    assert!(text.contains("-p server --bin uru"), "{text}");
    // An image has no checkout to ask for its commit.
    let place = |line: &str| text.find(line).unwrap_or_else(|| panic!("{text}\nlacks {line:?}"));
    assert!(place("\nARG URU_REVISION") < place("\nRUN cargo rustc"), "the program is built without its revision");
    let entry = text.lines().find_map(|line| line.strip_prefix("ENTRYPOINT ")).unwrap();
    assert!(text.contains(&format!("COPY --from=build {built} {}", entry.trim_matches(['[', ']', '"']))), "{entry}");
}
