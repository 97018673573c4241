//! The rules of the repository, held against every source file; no file is excepted.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file: its path from the root of the repository, and its lines.
struct SourceFile {
    path: String,
    lines: Vec<String>,
}

impl SourceFile {
    /// The lines before the file's own tests, which a module in it holds. Whatever else is for tests, a function
    /// or a file that is named, is counted with the code around it.
    fn code(&self) -> &[String] {
        let opens_module = |line: &String| line.trim().starts_with("mod ") && line.trim().ends_with('{');
        let mut pairs = self.lines.windows(2);
        let tests = pairs.position(|pair| pair[0].trim() == "#[cfg(test)]" && opens_module(&pair[1]));
        &self.lines[..tests.unwrap_or(self.lines.len())]
    }

    /// The lines that are no comment, each with its number.
    fn statements(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.lines.iter().map(|line| line.trim()).enumerate();
        lines.filter(|(_, line)| !line.is_empty() && !line.starts_with("//")).map(|(at, line)| (at + 1, line))
    }
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every Rust source of the members of the workspace.
fn sources() -> Vec<SourceFile> {
    let mut found = Vec::new();
    let mut folders: Vec<_> =
        fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.retain(|folder| folder.join("Cargo.toml").exists());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(read(&path));
            }
        }
    }
    assert!(found.len() > 100, "{} sources are not the repository", found.len());
    found
}

fn read(path: &Path) -> SourceFile {
    let lines = fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    SourceFile { path: path.strip_prefix(root()).unwrap().display().to_string(), lines }
}

fn assert_none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

/// The lines of a file with their numbers; a `use` that goes over several of them is one.
fn whole_imports(file: &SourceFile) -> Vec<(usize, String)> {
    let mut whole: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (number, line) in file.statements() {
        match whole.last_mut() {
            Some((_, last)) if is_open => last.push_str(line.trim()),
            _ => whole.push((number, line.to_owned())),
        }
        let begins = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
        is_open = !line.contains(';') && (is_open || begins.iter().any(|form| line.trim_start().starts_with(form)));
    }
    whole
}

/// The names that follow `crate::` in `line`; in braces, the first name of each item.
fn imported(line: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let items = rest.strip_prefix('{').map_or(vec![rest], |braces| items_of(braces));
        for item in items {
            let item = item.trim_start();
            let end = item.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(item.len());
            names.push(&item[..end]);
        }
    }
    names
}

/// The items in braces, of which `braces` is what follows the first; braces within them stay together.
fn items_of(braces: &str) -> Vec<&str> {
    let (mut items, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in braces.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return [items, vec![&braces[start..at]]].concat(),
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&braces[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

#[test]
fn imports_of_any_shape_are_seen() {
    let text = "use crate::{\n    chunk::{a, b},\n    head,\n};\nlet a = crate::wal::log;\nuse std::fmt;";
    let lines = text.lines().map(str::to_owned).collect();
    let whole = whole_imports(&SourceFile { path: String::new(), lines });
    let names: Vec<(usize, Vec<&str>)> = whole.iter().map(|(at, line)| (*at, imported(line))).collect();
    let named: Vec<_> = names.iter().filter(|(_, names)| !names.is_empty()).map(|(_, names)| names.concat()).collect();
    assert_eq!(named, ["chunkhead", "wal"], "{whole:?}");
}

/// Whether `line` has `word` with no letter, digit or underscore beside it.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word)
        .any(|(at, _)| !is_part(line[..at].chars().next_back()) && !is_part(line[at + word.len()..].chars().next()))
}

#[test]
fn the_code_of_a_file_ends_where_its_own_tests_begin() {
    let code = |text: &str| {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        SourceFile { path: String::new(), lines }.code().len()
    };
    assert_eq!(code("fn a() {}\n\n#[cfg(test)]\nmod tests {\n}"), 2);
    assert_eq!(code("#[cfg(test)]\nmod tests;\nfn a() {}\n#[cfg(test)]\nfn b() {}\nfn c() {}"), 6);
    assert_eq!(code("#[cfg(test)]\nfn b() {}\nfn c() {}\n#[cfg(test)]\nmod tests {\n}"), 3);
}

#[test]
fn engine_modules_import_only_from_those_declared_above_them() {
    let lib = fs::read_to_string(root().join("engine/src/lib.rs")).unwrap();
    let modules: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let place = |name: &str| modules.iter().position(|module| *module == name);
    let mut wrong = Vec::new();
    for file in sources() {
        let Some(rest) = file.path.strip_prefix("engine/src/") else { continue };
        let own = rest.split('/').next().unwrap().trim_end_matches(".rs");
        if own == "lib" {
            continue;
        }
        let own_place = place(own).unwrap_or_else(|| panic!("{own} is not declared in engine/src/lib.rs"));
        for (number, statement) in whole_imports(&file) {
            let below = imported(&statement).into_iter().filter(|name| place(name).is_some_and(|at| at > own_place));
            wrong.extend(below.map(|name| format!("{}:{number}: {own} imports {name}", file.path)));
        }
    }
    assert_none("modules import from those below them", &wrong);
}

#[test]
fn engine_modules_are_declared_in_the_order_in_which_data_flows() {
    let order = [
        "model", "simd", "codec", "io", "bucket", "postings", "index", "chunk", "batch", "block", "wal", "head",
        "dedup", "select", "promql", "compact", "shard",
    ];
    let lib = fs::read_to_string(root().join("engine/src/lib.rs")).unwrap();
    let declared: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let expected: Vec<&str> = order.into_iter().filter(|name| declared.contains(name)).collect();
    assert_eq!(declared, expected);
}

#[test]
fn every_folder_of_the_engine_has_a_bench_of_its_name() {
    let lib = fs::read_to_string(root().join("engine/src/lib.rs")).unwrap();
    let manifest = fs::read_to_string(root().join("bench/Cargo.toml")).unwrap();
    let folders = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let lacking: Vec<String> = folders
        .filter(|folder| !manifest.contains(&format!("[[bench]]\nname = \"{folder}\"\n")))
        .map(str::to_owned)
        .collect();
    assert_none("folders of the engine without a bench", &lacking);
}

#[test]
fn the_engine_depends_on_nothing_of_networks_and_object_stores() {
    let manifest = fs::read_to_string(root().join("engine/Cargo.toml")).unwrap();
    for name in ["tokio", "hyper", "tonic", "axum", "object_store", "reqwest", "prost"] {
        assert!(!manifest.lines().any(|line| line.starts_with(name)), "the engine depends on {name}");
    }
}

#[test]
fn each_crate_depends_on_no_other_than_those_it_may() {
    for (name, allowed) in [
        ("proto", &[][..]),
        ("engine", &[]),
        ("server", &["engine", "proto"]),
        ("perf", &["engine"]),
        ("bench", &["engine"]),
        ("fuzz", &["engine", "proto", "server"]),
    ] {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        for other in ["proto", "engine", "server", "perf", "bench", "fuzz", "tests"] {
            let is_named = dependencies.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(other));
            assert!(!is_named || allowed.contains(&other), "{name} depends on {other}");
        }
    }
}

#[test]
fn unsafe_code_is_only_in_kernels_and_local_io() {
    let mut wrong = Vec::new();
    for file in sources() {
        if file.path.starts_with("engine/src/simd/") || file.path.starts_with("engine/src/io/") {
            continue;
        }
        for (number, line) in file.statements() {
            let forms = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait", "unsafe("];
            if forms.iter().any(|form| has_word_start(line, form)) {
                wrong.push(format!("{}:{number}: {line}", file.path));
            }
        }
    }
    assert_none("unsafe code outside engine/src/simd and engine/src/io", &wrong);
}

/// Whether code of `line`, not a text in it, has `form` where a word starts.
fn has_word_start(line: &str, form: &str) -> bool {
    line.match_indices(form)
        .any(|(at, _)| !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"'))
}

#[test]
fn every_file_starts_with_a_sentence_that_says_what_it_is() {
    let silent = sources().into_iter().filter(|file| !file.lines.first().is_some_and(|line| line.starts_with("//! ")));
    assert_none("files without a sentence", &silent.map(|file| file.path).collect::<Vec<_>>());
}

#[test]
fn no_file_has_more_than_700_lines_of_code() {
    let mut long = Vec::new();
    for file in sources() {
        let is_code = |line: &&String| !line.trim().is_empty() && !line.trim().starts_with("//");
        let code = file.code().iter().filter(is_code).count();
        if code > 700 {
            long.push(format!("{}: {code}", file.path));
        }
    }
    assert_none("files of more than 700 lines of code", &long);
}

/// The indentation and the name of the function that starts in `line`.
fn function_start(line: &str) -> Option<(usize, &str)> {
    let mut rest = line.trim_start();
    let indent = line.len() - rest.len();
    if let Some(after) = rest.strip_prefix("pub") {
        rest = match after.strip_prefix('(') {
            Some(scope) => scope.split_once(')')?.1.trim_start(),
            None => after.trim_start(),
        };
    }
    while let Some(after) =
        ["const ", "async ", "unsafe ", "extern \"C\" "].iter().find_map(|word| rest.strip_prefix(word))
    {
        rest = after;
    }
    let name = rest.strip_prefix("fn ")?;
    Some((indent, name.split(['(', '<']).next().unwrap_or(name)))
}

#[test]
fn at_most_one_function_in_a_hundred_has_more_than_70_lines() {
    let (mut functions, mut long) = (0, Vec::new());
    for file in sources() {
        let mut open = None;
        for (at, line) in file.code().iter().enumerate() {
            if let Some((indent, name)) = function_start(line) {
                functions += 1;
                open = Some((indent, name, at));
            }
            let Some((indent, name, start)) = open else { continue };
            if line.trim_end().len() == indent + 1 && line.trim() == "}" {
                if at - start > 70 {
                    long.push(format!("{}: {name}: {}", file.path, at - start));
                }
                open = None;
            }
        }
    }
    assert!(functions > 1000, "{functions} functions are not the repository's");
    assert!(long.len() * 100 <= functions, "{} of {functions} functions are long:\n{}", long.len(), long.join("\n"));
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    let empty = ["util", "utils", "helper", "helpers", "common", "misc", "core", "manager"];
    let mut wrong = Vec::new();
    for file in sources() {
        let mut parts = file.path.trim_end_matches(".rs").split('/');
        if parts.any(|part| empty.contains(&part)) {
            wrong.push(file.path.clone());
        }
        for (number, line) in file.statements() {
            let inline = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ");
            let name = inline.and_then(|rest| rest.split([' ', ';', '{']).next());
            if name.is_some_and(|name| empty.contains(&name)) {
                wrong.push(format!("{}:{number}: {line}", file.path));
            }
        }
    }
    assert_none("names that say nothing", &wrong);
}

#[test]
fn nothing_is_left_to_do_or_ignored() {
    // Written in two parts, or this file would break its own rule.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let macros = [concat!("#[ig", "nore"), concat!("to", "do!("), concat!("unimple", "mented!(")];
    let mut wrong = Vec::new();
    for file in sources() {
        for (at, line) in file.lines.iter().enumerate() {
            if marks.iter().any(|mark| has_word(line, mark)) || macros.iter().any(|name| line.contains(name)) {
                wrong.push(format!("{}:{}: {}", file.path, at + 1, line.trim()));
            }
        }
    }
    assert_none("left to do", &wrong);
}
