//! Where uru's time goes in one scenario, drawn as a flame graph: Linux' `perf` watches the process while
//! the scenario lasts, what it saw is folded into a tree of calls, and the tree is drawn as an SVG.
//!
//! ```text
//! perf record ─> perf script ─> stacks ─ fold ─> tree ─> <folder>/<scenario>.svg
//! ```
//! Watching costs the process something: figures of a run with `--profile` are no record.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Stacks taken of each second of CPU time of what is asked again and again.
const AGAIN_FREQUENCY: &str = "199";

/// Stacks taken of each second of CPU time of what happens once and may be over in some milliseconds.
const ONCE_FREQUENCY: &str = "997";

/// How stacks are found: frames are not chained in optimized programs.
const CALL_GRAPH: &str = "dwarf,16384";

/// Least time for which a question is asked again and again while it is watched.
const SCENE_TIME: Duration = Duration::from_secs(3);

/// What the recorder says when it watches.
const BEGUN: &[u8; 4] = b"ack\n";

/// Pixels of the drawing's width.
const WIDTH: f64 = 1400.0;

/// Pixels of a row.
const ROW: f64 = 17.0;

/// Pixels of a letter.
const LETTER: f64 = 6.6;

/// Calls narrower than this many pixels are left out.
const NARROWEST: f64 = 0.4;

/// Draws flame graphs into a folder.
pub struct Profile {
    /// The folder.
    pub folder: PathBuf,
}

impl Profile {
    /// Into `folder`, which is made. Fails where there is no Linux' perf.
    pub fn into_folder(folder: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("--profile {}: {error}", folder.display()))?;
        let found = Command::new("perf").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return Err("--profile needs Linux' perf on the search path: install the package linux-perf".into());
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Watches process `pid` in the scenario `scene`, which happens once, until the drawing is asked for.
    pub fn watch(&self, scene: &str, pid: u32) -> Result<Watched, String> {
        self.record(scene, pid, ONCE_FREQUENCY)
    }

    fn record(&self, scene: &str, pid: u32, frequency: &str) -> Result<Watched, String> {
        let data = self.folder.join(file_name(scene)).with_extension("data");
        let failed = |error: std::io::Error| format!("perf record of {scene}: {error}");
        let mut command = Command::new("perf");
        command.args(["record", "-q", "-F", frequency, "--call-graph", CALL_GRAPH, "-p", &pid.to_string()]);
        // It is told to begin, and says when it has: what is over in some milliseconds is not to be missed.
        command.args(["--delay=-1", "--control=fd:0,1", "-o"]).arg(&data);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut recorder = command.spawn().map_err(failed)?;
        // One that has ended does not listen, and says why below.
        let told = recorder.stdin.as_mut().map(|pipe| pipe.write_all(b"enable\n"));
        let mut said = [0; BEGUN.len()];
        let heard = recorder.stdout.as_mut().map(|pipe| pipe.read_exact(&mut said));
        if !matches!((told, heard), (Some(Ok(())), Some(Ok(())))) || &said != BEGUN {
            drop(recorder.kill());
            let output = recorder.wait_with_output().map_err(failed)?;
            return Err(format!("perf record of {scene}: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(Watched { recorder, data, scene: scene.to_owned() })
    }

    /// Draws what process `pid` does while `again` is called again and again.
    pub fn draw(&self, scene: &str, pid: u32, mut again: impl FnMut() -> Result<(), String>) -> Result<(), String> {
        let watched = self.record(scene, pid, AGAIN_FREQUENCY)?;
        let begin = Instant::now();
        while begin.elapsed() < SCENE_TIME {
            again()?;
        }
        watched.draw()
    }
}

fn file_name(scene: &str) -> String {
    let name: String = scene.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    name.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

/// A process that is watched; the recorder ends with this.
pub struct Watched {
    recorder: Child,
    data: PathBuf,
    scene: String,
}

impl Watched {
    /// Ends watching and draws.
    pub fn draw(mut self) -> Result<(), String> {
        let ended = self.end();
        let failed = |error: std::io::Error| format!("flame graph of {}: {error}", self.scene);
        ended.map_err(failed)?;
        // Without inlined frames, the names of which take perf minutes.
        let mut script = Command::new("perf");
        script.args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"]).arg(&self.data);
        let script = script.output().map_err(failed)?;
        let tree = fold(&String::from_utf8_lossy(&script.stdout));
        if tree.samples == 0 {
            let why = String::from_utf8_lossy(&script.stderr);
            if !script.status.success() {
                return Err(format!("flame graph of {}: perf script: {}", self.scene, why.trim()));
            }
            eprintln!("flame graph: none of {}, which was over before a sample was taken", self.scene);
            return std::fs::remove_file(&self.data).map_err(failed);
        }
        let path = self.data.with_extension("svg");
        std::fs::write(&path, svg(&self.scene, &tree)).map_err(failed)?;
        eprintln!("flame graph: {} of {} samples", path.display(), tree.samples);
        std::fs::remove_file(&self.data).map_err(failed)
    }

    /// Ends the recorder, which writes what it has when it is interrupted, or when the process has ended.
    fn end(&mut self) -> std::io::Result<ExitStatus> {
        let pid = self.recorder.id().to_string();
        Command::new("kill").args(["-INT", &pid]).stderr(Stdio::null()).status()?;
        // Waiting closes the pipe that it is told by, and one that finds that gone before it has ended fails.
        let control = self.recorder.stdin.take();
        let ended = self.recorder.wait();
        drop(control);
        ended
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // It has ended already, unless the scenario failed.
        drop(self.recorder.kill());
        drop(self.recorder.wait());
    }
}

/// A call and what it called.
#[derive(Debug, Default, PartialEq)]
struct Call {
    samples: u64,
    calls: BTreeMap<String, Call>,
}

/// The tree of calls in what `perf script` prints: for each sample a line with the thread's name, a
/// line for each frame, innermost first, and an empty line.
fn fold(script: &str) -> Call {
    let mut root = Call::default();
    for sample in script.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let Some(thread) = lines.next() else { continue };
        let frames: Vec<&str> =
            lines.map(|line| line.trim().split_once(' ').map_or("?", |(_, name)| plain(name))).collect();
        root.samples += 1;
        let mut at = &mut root;
        for name in std::iter::once(thread.trim()).chain(frames.into_iter().rev()) {
            at = at.calls.entry(name.to_owned()).or_default();
            at.samples += 1;
        }
    }
    root
}

/// A function's name without the hash at its end.
fn plain(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((plain, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => plain,
        _ => name,
    }
}

fn depth(call: &Call) -> usize {
    1 + call.calls.values().map(depth).max().unwrap_or(0)
}

/// The drawing: callers below what they call, each as wide as its share of the samples.
fn svg(scene: &str, root: &Call) -> String {
    let height = ROW * depth(root) as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" \
         font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let scale = (WIDTH / root.samples.max(1) as f64, root.samples);
    draw(&mut out, (&format!("all of {scene}"), root), (0.0, height - ROW), scale);
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, (name, call): (&str, &Call), (x, y): (f64, f64), (scale, all): (f64, u64)) {
    let width = call.samples as f64 * scale;
    if width < NARROWEST {
        return;
    }
    let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let share = 100.0 * call.samples as f64 / all.max(1) as f64;
    // The same name has the same colour wherever it stands.
    let hue = name.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte))) % 60;
    let written = write!(
        out,
        "<g><title>{name}: {} samples, {share:.1} %</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
         height=\"{:.1}\" fill=\"hsl({hue},80%,70%)\" stroke=\"#fff\" stroke-width=\"0.3\"/>",
        call.samples,
        ROW - 1.0
    );
    written.expect("writing to a string can't fail");
    let letters = (width / LETTER) as usize;
    if letters > 3 {
        let shown = shortened(&name, letters);
        let written = write!(out, "<text x=\"{:.1}\" y=\"{:.1}\">{shown}</text>", x + 2.0, y + ROW - 5.0);
        written.expect("writing to a string can't fail");
    }
    out.push_str("</g>\n");
    let mut x = x;
    for (name, inner) in &call.calls {
        draw(out, (name, inner), (x, y - ROW), (scale, all));
        x += inner.samples as f64 * scale;
    }
}

/// As much of a name as has room; an entity is not cut.
fn shortened(name: &str, letters: usize) -> String {
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    let cut: String = name.chars().take(letters - 1).collect();
    let whole = cut.rfind('&').filter(|at| !cut[*at..].contains(';')).map_or(cut.as_str(), |at| &cut[..at]);
    format!("{whole}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "shard-0 \n\t ffff1 decode\n\t ffff2 select<A, B>\n\t ffff3 main\n\n\
                          shard-0 \n\t ffff4 encode::h0123456789abcdef\n\t ffff2 select<A, B>\n\t ffff3 main\n\n\
                          edge \n\t ffff5 [unknown]\n\n";

    #[test]
    fn stacks_fold_into_a_tree_of_calls() {
        let tree = fold(SCRIPT);
        assert_eq!(tree.samples, 3);
        let main = &tree.calls["shard-0"].calls["main"];
        assert_eq!((main.samples, tree.calls["edge"].samples), (2, 1));
        assert_eq!(main.calls["select<A, B>"].calls.keys().collect::<Vec<_>>(), ["decode", "encode"]);
        assert_eq!(fold("").samples, 0);
    }

    #[test]
    fn a_recorder_is_listened_to_until_it_has_ended() {
        // It reads what it is told while it ends, and says by its status whether the other end was there.
        let script = "trap 'exec timeout 0.3 cat' INT; echo; while :; do sleep 0.01; done";
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut recorder = command.spawn().unwrap();
        recorder.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let mut watched = Watched { recorder, data: PathBuf::new(), scene: String::new() };
        assert_eq!(watched.end().unwrap().code(), Some(124), "the pipe was closed while it ended");
    }

    #[test]
    fn a_drawing_names_every_call_and_its_share() {
        let text = svg("everything", &fold(SCRIPT));
        for part in ["select&lt;A, B&gt;: 2 samples, 66.7 %", "all of everything: 3 samples, 100.0 %", "edge", "</svg>"]
        {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert_eq!(text.matches("<g>").count(), 8);
        assert_eq!(shortened("a&lt;b", 4), "a…");
        assert_eq!(file_name("store: metric, all pods"), "store-metric-all-pods");
    }
}
