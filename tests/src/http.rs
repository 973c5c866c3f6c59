//! The few lines of HTTP that the lab's control endpoint needs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// How often a question is asked whose connection breaks. What changes something is asked once.
const TRIES: u32 = 3;

/// Sends one request to `http://host:port` and reads its JSON answer; `Null` when it is empty.
pub fn call(base: &str, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let mut tries = if method == "GET" { TRIES } else { 1 };
    loop {
        tries -= 1;
        match exchange(base, method, path, body) {
            Err(broken) if tries > 0 && broken.is::<std::io::Error>() => {}
            answer => return answer.with_context(|| format!("{method} {path}")),
        }
    }
}

fn exchange(base: &str, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let address = base
        .strip_prefix("http://")
        .context("the control endpoint is plain http")?;
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    // In one piece: a server that has answered closes, and what comes after that resets the connection.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of headers")?;
    let status = head.split_whitespace().nth(1).context("no status")?;
    if !status.starts_with('2') {
        bail!("{method} {path}: {status} {body}");
    }
    ensure!(
        !head.to_lowercase().contains("transfer-encoding: chunked"),
        "{method} {path}: chunked"
    );
    if body.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(body).with_context(|| format!("{method} {path}: {body}"))
}
