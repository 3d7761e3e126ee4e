//! HTTP/1.1, as much as a registry's clients use of it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const MAX_LINE: u64 = 64 * 1024;

/// The head of a request.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) target: String,
    pub(super) headers: BTreeMap<String, String>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn new(status: u16) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(super) fn with(mut self, name: &str, value: impl ToString) -> Answer {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    pub(super) fn body(mut self, bytes: impl Into<Vec<u8>>) -> Answer {
        self.body = bytes.into();
        self
    }

    /// An error in the words of the distribution-spec.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Answer {
        let body = serde_json::json!({"errors": [{"code": code, "message": message}]});
        Answer::new(status)
            .with("content-type", "application/json")
            .body(body.to_string())
    }
}

impl Head {
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }
}

/// Reads the next request's head; `None` when the client is done.
pub(super) fn read_head(connection: &mut BufReader<TcpStream>) -> io::Result<Option<Head>> {
    let first = read_line(connection)?;
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut headers = BTreeMap::new();
    loop {
        let line = read_line(connection)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (unescape(name), unescape(value)))
        .collect();
    Ok(Some(Head {
        method: method.into(),
        path: path.into(),
        query,
        target: target.into(),
        headers,
    }))
}

/// Reads at most `limit` bytes of a request's body.
pub(super) fn read_body(
    connection: &mut BufReader<TcpStream>,
    head: &Head,
    limit: u64,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head
        .headers
        .get("transfer-encoding")
        .is_some_and(|coding| coding == "chunked")
    {
        loop {
            let line = read_line(connection)?;
            let length = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            let wanted = length.min(limit - body.len() as u64);
            connection.take(wanted).read_to_end(&mut body)?;
            if length == 0 || wanted < length {
                return Ok(body);
            }
            read_line(connection)?;
        }
    }
    let length = head
        .headers
        .get("content-length")
        .and_then(|length| length.parse().ok());
    connection
        .take(length.unwrap_or(0).min(limit))
        .read_to_end(&mut body)?;
    Ok(body)
}

/// Sends an answer. With `cut`, only so many bytes of the body, and then a reset.
pub(super) fn send(
    connection: &mut TcpStream,
    answer: &Answer,
    to_head: bool,
    cut: Option<u64>,
    sized: bool,
) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    for (name, value) in &answer.headers {
        text += &format!("{name}: {value}\r\n");
    }
    let length_given = answer
        .headers
        .iter()
        .any(|(name, _)| name == "content-length");
    let bodiless = answer.status == 204 || answer.status == 304;
    if sized && !length_given && !bodiless {
        text += &format!("content-length: {}\r\n", answer.body.len());
    } else if !sized {
        text += "transfer-encoding: chunked\r\n";
    }
    text += "\r\n";
    connection.write_all(text.as_bytes())?;
    if to_head || bodiless {
        return Ok(());
    }
    let kept = cut.map_or(answer.body.len(), |cut| answer.body.len().min(cut as usize));
    if sized {
        connection.write_all(&answer.body[..kept])?;
    } else {
        for chunk in answer.body[..kept].chunks(16 * 1024) {
            write!(connection, "{:x}\r\n", chunk.len())?;
            connection.write_all(chunk)?;
            connection.write_all(b"\r\n")?;
        }
        if cut.is_none() {
            connection.write_all(b"0\r\n\r\n")?;
        }
    }
    if cut.is_some() {
        // What a reset overtakes is lost; let it arrive first.
        std::thread::sleep(Duration::from_millis(30));
        reset(connection)?;
    }
    Ok(())
}

/// Closes a connection so that the other side sees a reset.
pub(super) fn reset(connection: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(connection, Some(Duration::ZERO))?;
    Err(io::ErrorKind::ConnectionReset.into())
}

fn read_line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    connection.take(MAX_LINE).read_line(&mut line)?;
    Ok(line.trim_end().to_string())
}

/// Undoes the escapes of a query.
pub(super) fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = if escaped.is_some() { &tail[2..] } else { tail };
        bytes.push(escaped.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
