//! TLS of the gRPC server: clients are asked for certificates, and changed files are used at once.

mod support;

use std::path::Path;

use support::authority::Authority;
use support::{Uru, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
    run(async {
        let client = authority.issue();
        let first = connect(&uru, &authority, Some(&client)).await.unwrap();
        assert!(connect(&uru, &authority, None).await.is_err());
        assert!(connect(&uru, &authority, Some(&Authority::new().issue())).await.is_err());
        write(&authority.issue());
        assert_ne!(connect(&uru, &authority, Some(&client)).await.unwrap(), first);
        // Files that can't be used leave what there was.
        std::fs::write(path("cert.pem"), "").unwrap();
        connect(&uru, &authority, Some(&client)).await.unwrap();
    });
}
