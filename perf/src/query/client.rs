//! Questions over one HTTP/1.1 connection that stays open.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::ANSWER_TIME_MAX;
use super::questions::Question;

/// An open connection.
pub struct Client {
    address: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects to `address`, a host and a port.
    pub async fn connect(address: &str) -> Result<Self, String> {
        let failed = |why: String| format!("{address}: {why}");
        let stream = TcpStream::connect(address).await.map_err(|error| failed(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
        tokio::spawn(connection);
        Ok(Self { address: address.to_owned(), sender })
    }

    /// The whole answer to `question`.
    pub async fn ask(&mut self, question: &Question) -> Result<Bytes, String> {
        let asking = self.send(question);
        match tokio::time::timeout(ANSWER_TIME_MAX, asking).await {
            Ok(answer) => answer.map_err(|error| format!("{}: {error}", question.name)),
            Err(_) => Err(format!("{}: no answer within {} s", question.name, ANSWER_TIME_MAX.as_secs())),
        }
    }

    async fn send(&mut self, question: &Question) -> Result<Bytes, hyper::Error> {
        let request = http::Request::post(question.path)
            .header("host", &self.address)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(question.form.clone())))
            .expect("paths and addresses are text that headers take");
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        Ok(answer.into_body().collect().await?.to_bytes())
    }
}
