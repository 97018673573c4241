//! What the command line says of itself: the headings of every `--help`, the table of flags in the README,
//! and that Thanos' flags are there.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use server::cli::{self, Flag, Standing, Subcommand};
use server::component::COMPONENTS;

use crate::support;
use crate::support::authority::Authority;

/// Where the README's table begins and ends.
const MARKS: (&str, &str) = ("<!-- flags -->\n", "<!-- /flags -->\n");

/// The `--help` of each component, with its name.
fn help_pages() -> Vec<(&'static str, String)> {
    let page = |component: &Subcommand| {
        let mut command = cli::command(COMPONENTS);
        command.build();
        let found = component.name.split(' ').try_fold(&mut command, |above, word| above.find_subcommand_mut(word));
        (component.name, found.expect("the grammar has every component").render_long_help().to_string())
    };
    COMPONENTS.iter().map(page).collect()
}

#[test]
fn no_heading_stands_twice_in_the_help_of_a_component() {
    for (component, text) in help_pages() {
        let mut headings: Vec<&str> =
            text.lines().filter(|line| line.ends_with(':') && line.starts_with(|c: char| c.is_uppercase())).collect();
        assert!(headings.contains(&"Options:"), "{component}: {headings:?}");
        let count = headings.len();
        headings.sort_unstable();
        headings.dedup();
        assert_eq!(headings.len(), count, "{component}: {headings:?}\n{text}");
    }
}

#[test]
fn what_has_no_effect_stands_behind_all_else() {
    for (component, text) in help_pages() {
        let place = |heading: &str| text.find(&format!("\n{heading}:\n"));
        let (logging, accepted) = (place("Logging and tracing"), place("Accepted, without effect"));
        assert!(logging.is_some() && logging < accepted, "{component}: {text}");
        if component.starts_with("tools bucket ") {
            assert!(place("Bucket") < logging, "{component}: {text}");
        }
    }
}

#[test]
fn a_component_has_few_options_without_a_heading() {
    for (component, text) in help_pages() {
        let own = text.split("\nOptions:\n").nth(1).unwrap_or_default().lines();
        let own = own.take_while(|line| line.is_empty() || line.starts_with(' '));
        let flags: Vec<&str> = own.filter(|line| line.starts_with("  -") || line.starts_with("      --")).collect();
        assert!(flags.len() <= 12, "{component}: {flags:#?}");
    }
}

/// The flags of `all` that are accepted only, as the README names them.
fn without_effect<'a>(all: impl Iterator<Item = &'a Flag>) -> Vec<String> {
    let accepted = all.filter(|flag| !flag.hidden && matches!(flag.standing, Standing::NoEffect(_)));
    accepted.map(|flag| format!("`{}`", flag.name)).collect()
}

/// A row for flags of one name or of many.
fn row(name: &str, flags: &[&'static Flag]) -> String {
    let shown = flags.iter().filter(|flag| !flag.hidden).count();
    let accepted = without_effect(flags.iter().copied());
    let list = if accepted.is_empty() { "-".to_owned() } else { accepted.join(", ") };
    format!("| {name} | {} | {list} |\n", shown - accepted.len())
}

/// The table as the README must have it.
fn table() -> String {
    let mut text = "| flags of | with effect | accepted without effect |\n| --- | --- | --- |\n".to_owned();
    text.push_str(&row("every component", &cli::flags::GLOBAL.iter().collect::<Vec<_>>()));
    let is_tool = |component: &&Subcommand| component.name.starts_with("tools ");
    for component in COMPONENTS.iter().filter(|component| !is_tool(component)) {
        text.push_str(&row(&format!("`{}`", component.name), &component.flags().collect::<Vec<_>>()));
    }
    let tools: Vec<&Subcommand> = COMPONENTS.iter().filter(is_tool).collect();
    let branches = cli::tools::BRANCHES.iter().flat_map(|branch| branch.flags());
    let flags: Vec<_> = tools.iter().flat_map(|tool| tool.flags()).chain(branches).collect();
    let _ = write!(text, "{}", row(&format!("{} `tools`", tools.len()), &flags));
    text
}

#[test]
fn the_readme_tells_which_flags_have_an_effect() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(MARKS.0).expect("the README has a table of flags");
    let (told, after) = rest.split_once(MARKS.1).expect("the table of flags ends");
    if std::env::var_os("URU_WRITE_README").is_some() {
        return fs::write(&path, format!("{before}{}{}{}{after}", MARKS.0, table(), MARKS.1)).unwrap();
    }
    let how = "write it anew: URU_WRITE_README=1 cargo test -p server --test process command_line";
    assert_eq!(told, table(), "the README's table of flags is not that of the command line; {how}");
}

#[test]
fn every_flag_of_thanos_is_accepted_by_the_components_that_are_there() {
    let Some(path) = support::shared("contract/flags.tsv") else { return };
    let (mut missing, mut known_flags) = (Vec::new(), 0);
    for line in fs::read_to_string(path).unwrap().lines().skip(1) {
        let mut cells = line.split('\t');
        let (Some(name), Some(flag)) = (cells.next(), cells.next()) else { continue };
        let component = COMPONENTS.iter().find(|component| component.name == name);
        if (component.is_none() && name != "(global)") || ["help", "version"].contains(&flag) {
            continue;
        }
        known_flags += 1;
        let is_global = cli::flags::GLOBAL.iter().any(|known| known.name == flag);
        let is_own = component.is_some_and(|component| component.flags().any(|known| known.name == flag));
        let is_above = cli::tools::BRANCHES
            .iter()
            .filter(|branch| branch.holds(name))
            .any(|branch| branch.flags().any(|known| known.name == flag));
        if !(is_global || is_own || is_above) {
            missing.push(format!("{name} --{flag}"));
        }
    }
    assert!(missing.is_empty(), "flags of Thanos that are not accepted: {missing:#?}");
    assert!(known_flags > 300, "{known_flags} flags are not all of Thanos'");
}

/// What `shell` prints for `script`, to which the shell's completion script of uru is given as a file;
/// `None`, said loudly, where there is no such shell.
fn completed(shell: &str, flags: &[&str], script: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let words = ["uru", "completion", shell].map(Into::into);
    let Ok(cli::Task::Print(page)) = cli::parse(COMPONENTS, words) else { panic!("no script for {shell}") };
    let file = folder.path().join("script");
    fs::write(&file, page).unwrap();
    let script = script.replace("SCRIPT", file.to_str().unwrap());
    match Command::new(shell).args(flags).arg("-c").arg(script).env("HOME", folder.path()).output() {
        Ok(output) => {
            assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) => {
            assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "{shell} is required: {error}");
            eprintln!("SKIPPED: {shell} cannot be started: {error}");
            None
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let branches = cli::tools::BRANCHES.iter().map(|branch| branch.name);
    for name in COMPONENTS.iter().map(|component| component.name).chain(branches) {
        let words = ["uru", "man", name].map(Into::into);
        let Ok(cli::Task::Print(page)) = cli::parse(COMPONENTS, words) else { panic!("no page for {name}") };
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains(&format!(".TH uru-{} 1", name.replace(' ', "-"))), "{name}: {page}");
    }
}

#[test]
fn the_compactor_takes_no_files_and_no_downsampling_at_once_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let bucket =
        format!("--objstore.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", folder.path().display());
    let data = format!("--data-dir={}", folder.path().join("data").display());
    let none = ["--downsample.concurrency=0", "--block-files-concurrency=0", "--http-address=127.0.0.1:0"];
    let output = Command::new(env!("CARGO_BIN_EXE_uru")).args(["compact", &bucket, &data]).args(none).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn flags_that_cannot_be_meant_end_the_process_as_they_end_thanos() {
    let folder = tempfile::tempdir().unwrap();
    let bucket =
        format!("--objstore.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", folder.path().display());
    let data = format!("--data-dir={}", folder.path().join("data").display());
    let relabelling = "--selector.relabel-config=[{action: replace, source_labels: [cluster], target_label: b}]";
    for (words, why) in [
        (&["query", relabelling][..], "action replace is not supported here"),
        (&["store", &bucket, &data, relabelling], "action replace is not supported here"),
        (&["store", &bucket, &data, "--block-sync-concurrency=0"], "must be equal or greater than 1"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_uru")).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(why), "{words:?}: {said}");
    }
}

/// Each of these was told of under the name of another flag, or of none.
#[test]
fn what_cannot_be_used_is_refused_under_the_name_of_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    Authority::new().write_to(folder.path(), "127.0.0.1");
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("bad.yaml"), "type: NONE").unwrap();
    let bucket = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", path("bucket"));
    let (data, tsdb) = (format!("--data-dir={}", path("data")), format!("--tsdb.path={}", path("tsdb")));
    let ports = ["--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"];
    let store = [&["store", &bucket, &data][..], &ports].concat();
    let receive = ["receive", &tsdb, "--label=receive=\"a\"", "--remote-write.address=127.0.0.1:0"];
    let receive = [&receive[..], &ports].concat();
    let query = [&["query"][..], &ports].concat();
    let upload = ["tools", "bucket", "upload-blocks", &bucket, "--label=a=\"b\""];
    let cases: [(&[&str], &[&str], &str); 14] = [
        (&store, &["--grpc-server-tls-cert=@cert.pem", "--grpc-server-tls-key=/no"], "--grpc-server-tls-key: "),
        (&store, &["--grpc-server-tls-cert=/no", "--grpc-server-tls-key=@key.pem"], "--grpc-server-tls-cert: "),
        (
            &store,
            &["--grpc-server-tls-cert=@cert.pem", "--grpc-server-tls-key=@key.pem", "--grpc-server-tls-client-ca=/no"],
            "--grpc-server-tls-client-ca: ",
        ),
        (
            &store,
            &["--grpc-server-tls-cert=@cert.pem", "--grpc-server-tls-key=@key.pem", "--grpc-server-tls-curves=none"],
            "--grpc-server-tls-curves: ",
        ),
        (&store, &["--index-cache.config-file=@bad.yaml"], "--index-cache.config-file: @bad.yaml: "),
        (
            &receive,
            &["--remote-write.server-tls-cert=@cert.pem", "--remote-write.server-tls-key=/no"],
            "--remote-write.server-tls-key: ",
        ),
        (
            &receive,
            &["--remote-write.client-tls-secure", "--remote-write.client-tls-ca=/no"],
            "--remote-write.client-tls-ca: ",
        ),
        (&receive, &["--receive.hashrings=[{"], "--receive.hashrings: EOF"),
        // It was waited for, by a receiver that said that it was ready.
        (&receive, &["--receive.hashrings-file=/no"], "--receive.hashrings-file: cannot read"),
        (&receive, &["--receive.limits-config-file=@bad.yaml"], "--receive.limits-config-file: @bad.yaml: "),
        (
            &query,
            &["--grpc-client-tls-secure", "--grpc-client-tls-cert=@cert.pem", "--grpc-client-tls-key=/no"],
            "--grpc-client-tls-key: ",
        ),
        (&query, &["--grpc-client-tls-secure", "--grpc-client-tls-ca=/no"], "--grpc-client-tls-ca: "),
        (&query, &["--endpoint-group-strict=dns+a:1"], "--endpoint-group-strict: "),
        (&upload, &["--path=/no"], "--path: /no: "),
    ];
    let written = |text: &str| text.replace('@', &path(""));
    for (words, flags, wanted) in cases {
        let flags: Vec<String> = flags.iter().map(|flag| written(flag)).collect();
        let words: Vec<&str> = words.iter().copied().chain(flags.iter().map(String::as_str)).collect();
        let said = support::refused(&words);
        assert!(said.contains(&written(wanted)), "{words:?}: {said}");
    }
}

#[test]
fn fish_completes_commands_of_commands_their_flags_and_values() {
    for (line, expected) in [
        ("uru sto", "store"),
        ("uru --log.level debug sto", "store"),
        ("uru tools bucket ver", "verify"),
        ("uru tools bucket verify --rep", "--repair"),
        ("uru store --log.level d", "debug"),
        ("uru store --log.level=d", "--log.level=debug"),
        ("uru compact --no-wa", "--no-wait"),
        ("uru completion f", "fish"),
    ] {
        let script = format!("source SCRIPT; complete -C '{line}'");
        let Some(found) = completed("fish", &["--no-config"], &script) else { return };
        let words: Vec<&str> = found.lines().filter_map(|line| line.split('\t').next()).collect();
        assert!(words.contains(&expected), "{line}: {found:?}");
    }
}

#[test]
fn bash_completes_commands_of_commands_their_flags_and_values() {
    for (words, expected) in [
        ("uru sto", "store"),
        ("uru tools bucket ver", "verify"),
        ("uru tools bucket verify --rep", "--repair"),
        ("uru store --log.level d", "debug"),
        // As readline parts `--log.level=d`.
        ("uru store --log.level = d", "debug"),
    ] {
        let last = words.split(' ').count() - 1;
        let script = format!(
            "source SCRIPT; COMP_WORDS=({words}); COMP_CWORD={last}; \
             _uru uru ${{COMP_WORDS[{last}]}} ${{COMP_WORDS[{last}-1]}}; echo ${{COMPREPLY[@]}}"
        );
        let Some(found) = completed("bash", &["--norc"], &script) else { return };
        assert!(found.split_whitespace().any(|word| word == expected), "{words}: {found:?}");
    }
}
