//! Questions over one HTTP/1.1 connection that stays open.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::ANSWER_TIME_MAX;
use super::questions::Question;

/// Bytes of a refusal that are shown.
const SHOWN_BYTES_MAX: usize = 1000;

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

    /// Where it is connected to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The whole answer to `question`; a status that is no success is an error.
    pub async fn ask(&mut self, question: &Question) -> Result<Bytes, String> {
        let asking = self.send(question);
        match tokio::time::timeout(ANSWER_TIME_MAX, asking).await {
            Ok(answer) => answer.map_err(|why| format!("{}: {why}", question.name)),
            Err(_) => Err(format!("{}: no answer within {} s", question.name, ANSWER_TIME_MAX.as_secs())),
        }
    }

    async fn send(&mut self, question: &Question) -> Result<Bytes, String> {
        let (status, body) = self.exchange(question).await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            let why = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]).into_owned();
            return Err(format!("{} answers {status}: {}", self.address, why.trim_end()));
        }
        Ok(body)
    }

    async fn exchange(&mut self, question: &Question) -> Result<(http::StatusCode, Bytes), hyper::Error> {
        let request = http::Request::post(question.path)
            .header("host", &self.address)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(question.form.clone())))
            .expect("paths and addresses are text that headers take");
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers one question with `answer`.
    fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut len) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).unwrap();
                if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
                    len = text.trim().parse().unwrap();
                }
            }
            reader.read_exact(&mut vec![0; len]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn a_status_that_is_no_success_is_an_error_with_its_reason() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let question = Question { name: "all", path: "/api/v1/query", form: "query=1".to_owned() };
        let asked = |answer: &'static str| {
            let address = answering(answer);
            runtime.block_on(async { Client::connect(&address).await.unwrap().ask(&question).await })
        };
        assert_eq!(asked("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap(), "{}");
        let why = asked("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nfull").unwrap_err();
        assert!(why.starts_with("all: ") && why.ends_with("answers 503 Service Unavailable: full"), "{why}");
    }
}
