//! Programs that are started: uru, where it was built, and peers on the search path.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program `uru` that was built beside this one, or that of the search path.
pub fn uru() -> Result<PathBuf, String> {
    let own = own()?;
    let beside = own.with_file_name("uru");
    if beside.is_file() {
        return Ok(beside);
    }
    on_path("uru").ok_or_else(|| {
        format!(
            "there is no uru beside {} nor on the search path: build it with `{}`, or say how to start it with --uru-cmd",
            own.display(),
            build_command(&own).join(" ")
        )
    })
}

/// The program, built first where cargo runs this one: what is measured is what the sources say.
pub fn built_uru() -> Result<PathBuf, String> {
    let Some(cargo) = std::env::var_os("CARGO") else { return uru() };
    let own = own()?;
    let mut words = build_command(&own);
    if let Some(target) = own.parent().and_then(Path::parent) {
        words.extend(["--target-dir".to_owned(), target.display().to_string()]);
    }
    eprintln!("{}", words.join(" "));
    let built = Command::new(cargo).args(&words[1..]).stdin(Stdio::null()).status();
    match built {
        Ok(status) if status.success() => uru(),
        Ok(status) => Err(format!("{}: {status}", words.join(" "))),
        Err(error) => Err(format!("{}: {error}", words.join(" "))),
    }
}

/// The first program of this name on the search path.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What a program says of its version in its first line; otherwise the Debian package that it is of.
pub fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let said = text.lines().find(|line| !line.trim().is_empty()).map(str::to_owned);
    said.or_else(|| {
        let owner = line_of("dpkg-query", &["-S", &program.canonicalize().ok()?.display().to_string()])?;
        let package = owner.split(':').next()?;
        line_of("dpkg-query", &["-W", "-f=Debian's ${Package} ${Version}", package])
    })
}

/// The first line that a program prints; `None` when it fails.
fn line_of(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    text.lines().next().map(str::to_owned)
}

/// What builds uru in the profile that this program was built in.
fn build_command(own: &Path) -> Vec<String> {
    let folder = own.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    let profile = match folder {
        "debug" => "dev",
        "" => "release",
        profile => profile,
    };
    ["cargo", "build", "--profile", profile, "--locked", "-p", "server", "--bin", "uru"].map(str::to_owned).to_vec()
}

fn own() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uru_is_built_as_this_program_was() {
        let profile = |path: &str| build_command(Path::new(path))[3].clone();
        assert_eq!(profile("/t/debug/perf"), "dev");
        assert_eq!(profile("/t/release/perf"), "release");
        assert_eq!(profile("/t/counts/perf"), "counts");
    }

    #[test]
    fn a_program_without_a_version_is_told_by_its_package() {
        let said = version(&on_path("true").unwrap()).unwrap();
        assert!(said.starts_with("true "), "{said}");
        // It takes its flags for texts and is silent.
        let silent = Path::new("/usr/bin/test");
        if line_of("dpkg-query", &["-S", "/usr/bin/test"]).is_some() {
            let said = version(silent).unwrap();
            assert!(said.starts_with("Debian's ") && said.contains(char::is_numeric), "{said}");
        }
        assert_eq!(version(Path::new("/no/such/program")), None);
    }

    #[test]
    fn programs_are_found_on_the_search_path() {
        assert!(on_path("sh").is_some_and(|path| path.ends_with("sh")));
        assert_eq!(on_path("no-program-has-this-name"), None);
    }
}
