//! TLS of the gRPC server and of those that ask it: clients are asked for certificates, and changed files
//! are used at once. Who may ask over HTTP.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::authority::Authority;
use crate::support::{Uru, request, run, wait};

/// What an HTTP/2 connection starts with, and an empty frame of settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Shakes hands and waits for the server's first frame; returns the server's certificate.
async fn connect(uru: &Uru, authority: &Authority, client: Option<&(String, String)>) -> Result<Vec<u8>, String> {
    let connected = authority.connect(&uru.grpc, client, &[b"h2"]).await;
    let mut stream = connected.map_err(|error| error.to_string())?;
    stream.write_all(HELLO).await.map_err(|error| error.to_string())?;
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.map_err(|error| error.to_string())?;
    assert_eq!(frame[3], 4, "a server starts with its settings");
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

#[test]
fn clients_need_a_certificate_and_new_ones_of_the_server_are_used_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let path = |name: &str| folder.path().join(name);
    let write = |(certificate, key): &(String, String)| {
        std::fs::write(path("cert.pem"), certificate).unwrap();
        std::fs::write(path("key.pem"), key).unwrap();
    };
    write(&authority.issue());
    std::fs::write(path("ca.pem"), &authority.pem).unwrap();
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let uru = Uru::start(
        "all-in-one",
        &[
            &flag("data-dir", &path("data")),
            &flag("grpc-server-tls-cert", &path("cert.pem")),
            &flag("grpc-server-tls-key", &path("key.pem")),
            &flag("grpc-server-tls-client-ca", &path("ca.pem")),
        ],
    );
    // Its own querier is a client as well.
    uru.wait_for("/api/v1/series?match[]=up", "\"job\":\"uru\"");
    run(async {
        let client = authority.issue();
        let first = connect(&uru, &authority, Some(&client)).await.unwrap();
        assert!(connect(&uru, &authority, None).await.is_err());
        assert!(connect(&uru, &authority, Some(&Authority::new().issue())).await.is_err());
        write(&authority.issue());
        assert_ne!(connect(&uru, &authority, Some(&client)).await.unwrap(), first);
        // Files that can't be used leave what there was.
        std::fs::write(path("cert.pem"), "").unwrap();
        for _ in 0..10 {
            connect(&uru, &authority, Some(&client)).await.unwrap();
        }
    });
    let log = uru.log();
    // The server says it once, and its own querier may.
    let told = log.matches("cannot use changed TLS certificates").count();
    assert!((1..=2).contains(&told), "{log}");
    // Nor does a client that says nothing hold back its end.
    let silent = std::net::TcpStream::connect(&uru.grpc).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let begin = std::time::Instant::now();
    assert!(uru.terminate().success());
    assert!(begin.elapsed() < std::time::Duration::from_secs(8), "{:?}", begin.elapsed());
    drop(silent);
}

/// An all-in-one and a querier in front of it, each with the files `{name}.pem` and `{name}.key` of a folder
/// as certificate, and believing `ca.pem`.
fn pair(folder: &Path, (server, client): (&str, &str)) -> (Uru, Uru) {
    let flag = |name: &str, file: &str| format!("--{name}={}", folder.join(file).display());
    let store = Uru::start(
        "all-in-one",
        &[
            &flag("data-dir", "data"),
            &flag("grpc-server-tls-cert", &format!("{server}.pem")),
            &flag("grpc-server-tls-key", &format!("{server}.key")),
            &flag("grpc-server-tls-client-ca", "ca.pem"),
        ],
    );
    let querier = Uru::start(
        "query",
        &[
            &format!("--endpoint={}", store.grpc),
            "--grpc-client-tls-secure",
            &flag("grpc-client-tls-cert", &format!("{client}.pem")),
            &flag("grpc-client-tls-key", &format!("{client}.key")),
            &flag("grpc-client-tls-ca", "ca.pem"),
        ],
    );
    (store, querier)
}

fn write(folder: &Path, name: &str, (certificate, key): &(String, String)) {
    std::fs::write(folder.join(format!("{name}.pem")), certificate).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key).unwrap();
}

#[test]
fn a_certificate_that_signs_itself_is_believed_where_it_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let own = Authority::self_signed("127.0.0.1");
    write(folder.path(), "own", &own);
    std::fs::write(folder.path().join("ca.pem"), &own.0).unwrap();
    let (_store, querier) = pair(folder.path(), ("own", "own"));
    querier.wait_for("/api/v1/stores", "\"lastError\":null");
}

#[test]
fn a_client_whose_certificate_is_of_version_1_is_believed_when_an_authority_signed_it() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    write(folder.path(), "server", &authority.issue());
    let [certificate, key, ca, namesake] = ["client.pem", "client.key", "ca.pem", "namesake.pem"].map(|name| {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/version-one");
        std::fs::read_to_string(fixtures.join(name)).unwrap()
    });
    write(folder.path(), "client", &(certificate, key));
    // One that only has the name of the authority does not count.
    for (known, word) in [(ca, "\"lastError\":null"), (namesake, "\"lastError\":\"")] {
        std::fs::write(folder.path().join("ca.pem"), format!("{}{known}", authority.pem)).unwrap();
        let (_store, querier) = pair(folder.path(), ("server", "client"));
        querier.wait_for("/api/v1/stores", word);
    }
}

#[test]
fn a_querier_shows_the_certificate_that_its_files_hold_when_it_connects() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    std::fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
    write(folder.path(), "server", &authority.issue());
    write(folder.path(), "client", &Authority::new().issue());
    let (_store, querier) = pair(folder.path(), ("server", "client"));
    querier.wait_for("/api/v1/stores", "\"lastError\":\"The service is currently unavailable: ");
    querier.wait_for("/api/v1/stores", "--grpc-client-tls-cert");
    write(folder.path(), "client", &authority.issue());
    querier.wait_for("/api/v1/stores", "\"lastError\":null");
}

/// A user and a password that match the hash in [`web_config`], in base64; and a password that doesn't.
const RIGHT: &str = "Authorization: Basic YWxpY2U6ZmFrZXBhc3N3b3Jk";
const WRONG: &str = "Authorization: Basic YWxpY2U6b3RoZXI=";

fn web_config(user: &str) -> String {
    let hash = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
    format!("basic_auth_users: {{{user}: {hash}}}\nhttp_server_config: {{headers: {{X-Frame-Options: deny}}}}\n")
}

#[test]
fn http_answers_the_users_of_its_configuration_as_it_stands_now() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("web.yml");
    std::fs::write(&config, web_config("alice")).unwrap();
    let uru = Uru::spawn("query", &[&format!("--http.config={}", config.display())]);
    let ask = |lines: &[&str]| request(&uru.http, ("GET", "/-/healthy"), lines, b"");
    let (status, head, body) = ask(&[]);
    assert_eq!((status, &body[..]), (401, &b"Unauthorized\n"[..]), "{head}");
    assert!(head.contains("www-authenticate: basic") && head.contains("x-frame-options: deny"), "{head}");
    assert_eq!(ask(&[WRONG]).0, 401);
    let (status, head, _) = ask(&[RIGHT]);
    assert!(status == 200 && head.contains("x-frame-options: deny"), "{head}");
    std::fs::write(&config, web_config("somebody")).unwrap();
    assert_eq!(ask(&[RIGHT]).0, 401);
    for unusable in ["users: {}", ""] {
        std::fs::write(&config, unusable).unwrap();
        assert_eq!(ask(&[RIGHT]).0, 500);
    }
    std::fs::write(&config, "rate_limit: {burst: 2, interval: 10h}").unwrap();
    assert_eq!(ask(&[]).0, 200, "the rate is that of the start");
}

/// It once asked itself over HTTP, with neither name nor password.
#[test]
fn all_in_one_has_its_own_metrics_whatever_its_configuration_asks_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("web.yml");
    std::fs::write(&config, web_config("alice")).unwrap();
    let data = format!("--data-dir={}", folder.path().join("data").display());
    let uru = Uru::spawn("all-in-one", &[&data, &format!("--http.config={}", config.display())]);
    wait(|| {
        let (_, _, body) = request(&uru.http, ("GET", "/api/v1/query?query=up"), &[RIGHT], b"");
        String::from_utf8_lossy(&body).contains("\"1\"]")
    });
}

/// It once let everybody in, as it named no users.
#[test]
fn a_configuration_that_is_being_written_lets_nobody_in_where_there_was_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    write(folder.path(), "server", &authority.issue());
    let config = folder.path().join("web.yml");
    let tls = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n";
    std::fs::write(&config, format!("{tls}{}", web_config("alice"))).unwrap();
    let uru = Uru::spawn("query", &[&format!("--http.config={}", config.display())]);
    let client = authority.issue();
    let status = |line: &str| {
        let request = format!("GET /-/healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{line}\r\n\r\n");
        let answer = run(authority.exchange(&uru.http, &client, request.as_bytes())).unwrap();
        answer.split(' ').nth(1).map(str::to_owned)
    };
    let is = |status: Option<String>, expected: &str| assert_eq!(status.as_deref(), Some(expected));
    is(status(RIGHT), "200");
    is(status(WRONG), "401");
    std::fs::write(&config, "").unwrap();
    is(status(WRONG), "500");
    std::fs::write(&config, format!("{tls}{}", web_config("alice"))).unwrap();
    is(status(WRONG), "401");
}

#[test]
fn plain_http_where_tls_is_spoken_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    write(folder.path(), "server", &authority.issue());
    let config = folder.path().join("web.yml");
    std::fs::write(&config, "tls_server_config: {cert_file: server.pem, key_file: server.key}\n").unwrap();
    let uru = Uru::spawn("query", &[&format!("--http.config={}", config.display())]);
    for method in ["GET", "POST"] {
        let (status, head, body) = request(&uru.http, (method, "/-/healthy"), &[], b"");
        let told = String::from_utf8(body).unwrap();
        assert_eq!((status, told.as_str()), (400, "Client sent an HTTP request to an HTTPS server.\n"), "{head}");
    }
    let get = b"GET /-/healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = run(authority.exchange(&uru.http, &authority.issue(), get)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn http_takes_no_more_requests_than_its_rate() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("web.yml");
    std::fs::write(&config, "rate_limit: {burst: 2, interval: 10h}").unwrap();
    let uru = Uru::spawn("query", &[&format!("--http.config={}", config.display())]);
    let statuses = [(); 3].map(|()| request(&uru.http, ("GET", "/-/healthy"), &[], b"").0);
    assert_eq!(statuses, [200, 200, 429]);
}

#[test]
fn https_asks_for_certificates_as_its_configuration_says() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    std::fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
    write(folder.path(), "server", &authority.issue());
    let config = folder.path().join("web.yml");
    let configure = |auth: &str| {
        let text = "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem, ";
        std::fs::write(&config, format!("{text}client_auth_type: {auth}}}")).unwrap();
    };
    configure("RequireAndVerifyClientCert");
    let uru = Uru::spawn("query", &[&format!("--http.config={}", config.display())]);
    let (known, stranger) = (authority.issue(), Authority::new().issue());
    let get = b"GET /-/healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let is_answered = |client: &(String, String)| {
        let answer = run(authority.exchange(&uru.http, client, get));
        answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    };
    wait(|| is_answered(&known));
    assert!(!is_answered(&stranger));
    configure("RequireAnyClientCert");
    assert!(is_answered(&stranger));
    configure("RequireAnyClientCert, client_allowed_sans: [somebody.else]");
    assert!(!is_answered(&stranger) && !is_answered(&authority.issue()));
    assert!(is_answered(&authority.issue_to("somebody.else", "nobody")));
}
