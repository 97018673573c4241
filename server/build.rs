//! Tells a program built with `--release` from a checkout of git which commit it is of.

use std::path::Path;
use std::process::Command;

/// What git says in one line; nothing where there is no git or no checkout.
fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=URU_REVISION");
    // Whoever builds without a checkout may say it. Tests need not be built anew with each commit.
    if std::env::var_os("URU_REVISION").is_some() || std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let Some(revision) = git(&["rev-parse", "HEAD"]) else { return };
    println!("cargo::rustc-env=URU_REVISION={revision}");
    // Where a branch is, the log of HEAD grows with each commit; a head without a log is the commit itself.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--path-format=absolute", "--git-path", file]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}
