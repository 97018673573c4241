//! An S3 server in the test's own process: it serves a folder, and fails on demand.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// How requests go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They don't.
    Nothing,
    /// 503.
    Unavailable,
    /// The same for one request, and nothing afterwards.
    UnavailableOnce,
    /// The connection ends in the middle of the body.
    HalfBody,
    /// Fewer bytes than were asked for, as if the object were shorter.
    Short,
    /// No answer until the fault is over.
    Silence,
    /// There is no such object, although it is listed.
    Absent,
    /// The same where the whole object is asked for; ranges of it are there.
    WholeAbsent,
    /// A bit of the body is flipped.
    Flipped,
    /// The same for one request, and nothing afterwards.
    FlippedOnce,
}

/// What goes wrong: requests for objects whose names contain the text.
type Wrong = (Fault, &'static str);

/// The server; its threads end with the test's process.
pub struct FakeS3 {
    /// Where it listens, `127.0.0.1:port`.
    pub address: String,
    fault: Arc<(Mutex<Wrong>, Condvar)>,
    range_bytes: Arc<AtomicU64>,
}

impl FakeS3 {
    /// Serves the files of `folder` as the bucket `metrics`.
    pub fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fault = Arc::new((Mutex::new((Fault::Nothing, "")), Condvar::new()));
        let range_bytes = Arc::<AtomicU64>::default();
        let (folder, shared, counted) = (folder.to_owned(), Arc::clone(&fault), Arc::clone(&range_bytes));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, fault, counted) = (folder.clone(), Arc::clone(&shared), Arc::clone(&counted));
                // A client that goes away in the middle is what some tests are about.
                std::thread::spawn(move || drop(serve(&stream, &folder, (&fault, &counted))));
            }
        });
        Self { address, fault, range_bytes }
    }

    /// From now on requests for segments go wrong like this.
    pub fn set(&self, fault: Fault) {
        self.set_for("/chunks/", fault);
    }

    /// From now on requests for objects whose names contain `part` go wrong like this, and no others.
    pub fn set_for(&self, part: &'static str, fault: Fault) {
        *self.fault.0.lock().unwrap() = (fault, part);
        self.fault.1.notify_all();
    }

    /// Bytes that were asked for by range, so far.
    pub fn range_bytes(&self) -> u64 {
        self.range_bytes.load(Ordering::Relaxed)
    }

    /// The YAML of the bucket.
    pub fn config(&self) -> String {
        format!(
            "{{type: S3, config: {{bucket: metrics, endpoint: '{}', insecure: true, access_key: key, \
             secret_key: secret, max_retries: 1, http_config: {{response_header_timeout: 500ms}}}}}}",
            self.address
        )
    }
}

fn serve(
    mut stream: &TcpStream,
    folder: &Path,
    (fault, range_bytes): (&(Mutex<Wrong>, Condvar), &AtomicU64),
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut range = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some((from, to)) = line.strip_prefix("range: bytes=").and_then(|range| range.split_once('-')) {
            range = Some((from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap() + 1));
        }
    }
    let target = first.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if first.starts_with("DELETE ") || query == "delete" {
        return delete(stream, folder, (path, query));
    }
    if query.contains("list-type=2") {
        return stream.write_all(listing(folder).as_bytes());
    }
    let name = path.strip_prefix("/metrics/").unwrap_or_default();
    let Ok(bytes) = std::fs::read(folder.join(name)) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let len = bytes.len();
    let (from, mut to) = range.unwrap_or((0, len));
    if range.is_some() {
        range_bytes.fetch_add((to.min(len) - from) as u64, Ordering::Relaxed);
    }
    let now = {
        let mut fault = fault.0.lock().unwrap();
        let now = if name.contains(fault.1) { fault.0 } else { Fault::Nothing };
        if [Fault::FlippedOnce, Fault::UnavailableOnce].contains(&now) {
            fault.0 = Fault::Nothing;
        }
        now
    };
    if now == Fault::Silence {
        let waiting = fault.1.wait_while(fault.0.lock().unwrap(), |(fault, _)| *fault == Fault::Silence);
        drop(waiting.unwrap());
    }
    if now == Fault::Absent || (now == Fault::WholeAbsent && range.is_none()) {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if [Fault::Unavailable, Fault::UnavailableOnce].contains(&now) {
        let answer = "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return stream.write_all(answer.as_bytes());
    }
    if now == Fault::Short {
        to = from + (to - from) / 2;
    }
    let mut body = bytes[from..to.min(len)].to_vec();
    if [Fault::Flipped, Fault::FlippedOnce].contains(&now) {
        let middle = body.len() / 2;
        body[middle] ^= 0x10;
    }
    let mut head = match range {
        Some(_) => format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{len}\r\n", to - 1),
        None => "HTTP/1.1 200 OK\r\n".to_owned(),
    };
    head.push_str("ETag: \"e\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nConnection: close\r\n");
    write!(head, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(head.as_bytes())?;
    stream.write_all(if now == Fault::HalfBody { &body[..body.len() / 2] } else { &body })
}

/// Deletes one object; several at once are not deleted, as by some servers.
fn delete(mut stream: &TcpStream, folder: &Path, (path, query): (&str, &str)) -> std::io::Result<()> {
    let status = match path.strip_prefix("/metrics/").filter(|_| query.is_empty()) {
        Some(name) => {
            // As with S3, one that is not there is no error.
            let _ = std::fs::remove_file(folder.join(name));
            "204 No Content"
        }
        None => "501 Not Implemented",
    };
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())
}

/// Keys that nothing of ours has, and that others may put into the bucket.
const FOREIGN: [&str; 4] = ["debug//x.json", "a/../b", "./x", "a&#x9;b"];

/// An answer that lists all there is.
fn listing(folder: &Path) -> String {
    let mut text = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
    for key in FOREIGN {
        write!(
            text,
            "<Contents><Key>{key}</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><Size>1</Size></Contents>"
        )
        .unwrap();
    }
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let key = path.strip_prefix(folder).unwrap().display();
            let size = entry.metadata().unwrap().len();
            write!(
                text,
                "<Contents><Key>{key}</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><ETag>\"e\"</ETag>\
                 <Size>{size}</Size></Contents>"
            )
            .unwrap();
        }
    }
    text.push_str("</ListBucketResult>");
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
}
