//! Servers that speak Glue's protocol: a scripted one, and a proxy that makes moto as strict as AWS.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A request to Glue.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `GetTable`
    pub(crate) operation: String,
    /// Null if there is none.
    pub(crate) body: Value,
    /// By their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
}

/// A status and a body.
pub(crate) type Answer = (u16, Value);

pub(crate) fn error(code: &str, message: &str) -> Answer {
    (400, json!({ "__type": code, "message": message }))
}

/// A server on a local port. Its threads end with the process.
#[derive(Debug)]
pub(crate) struct Server {
    endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server that answers with this function.
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_raw(move |request| {
            let (status, body) = answer(request);
            raw(status, "", &body.to_string())
        })
    }

    /// Starts a server of credentials, as containers have one, whose session tokens are `token-0`, `token-1` ...
    pub(crate) fn of_credentials() -> Self {
        let issued = AtomicUsize::new(0);
        Self::start(move |_| {
            let token = format!("token-{}", issued.fetch_add(1, Ordering::Relaxed));
            let (id, secret, expiration) = ("AKID", "hunter2", "2100-01-01T00:00:00Z");
            (200, json!({ "AccessKeyId": id, "SecretAccessKey": secret, "Token": token, "Expiration": expiration }))
        })
    }

    /// Starts a server that sends these bytes, and closes the connection.
    pub(crate) fn start_raw(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&requests));
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let Some(request) = receive(&connection) else { return };
                    seen.lock().unwrap().push(request.clone());
                    let mut connection = &connection;
                    // The client may be gone.
                    let _ = connection.write_all(&answer(&request));
                });
            }
        });
        Self { endpoint, requests }
    }

    /// A proxy in front of moto at `endpoint`, which adds what AWS does and moto leaves out:
    ///
    /// * UpdateTable with an outdated VersionId is refused;
    /// * lists come in pages of MaxResults;
    /// * batches have limits;
    /// * requests are serialised (moto's threads check and change without a lock).
    pub(crate) fn strict_moto(endpoint: &str) -> Self {
        let moto = Mutex::new(endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned());
        Self::start(move |request| {
            let moto = moto.lock().unwrap();
            strict(request, |operation, body| forward(&moto, operation, body, &request.headers["authorization"]))
        })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the requests since the last call.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn receive(connection: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(connection);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) => drop(headers.insert(name.to_ascii_lowercase(), value.to_owned())),
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let length = headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).ok()? };
    let target = headers.get("x-amz-target").map_or("", String::as_str);
    Some(Request { operation: target.trim_start_matches("AWSGlue.").to_owned(), body, headers })
}

/// An answer as it is sent, with more headers.
pub(crate) fn raw(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\
         connection: close\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn forward(moto: &str, operation: &str, body: &Value, authorization: &str) -> Answer {
    let body = body.to_string();
    let mut connection = TcpStream::connect(moto).unwrap();
    write!(
        connection,
        "POST / HTTP/1.1\r\nhost: {moto}\r\ncontent-type: application/x-amz-json-1.1\r\n\
         x-amz-target: AWSGlue.{operation}\r\nauthorization: {authorization}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_slice(&answer[end + 4..]).unwrap_or(Value::Null))
}

fn strict(request: &Request, moto: impl Fn(&str, &Value) -> Answer) -> Answer {
    let Request { operation, body, .. } = request;
    let too_many = |list: &str, limit: usize| body[list].as_array().is_some_and(|l| l.is_empty() || l.len() > limit);
    if too_many("PartitionInputList", 100)
        || too_many("Entries", 100)
        || too_many("PartitionsToDelete", 25)
        || too_many("PartitionsToGet", 1000)
        || body["Expression"].as_str().is_some_and(|e| e.len() > 2048)
    {
        return error("ValidationException", "a constraint is not satisfied");
    }
    match operation.as_str() {
        "UpdateTable" => {
            let name = &body["TableInput"]["Name"];
            let (status, found) = moto("GetTable", &json!({ "DatabaseName": body["DatabaseName"], "Name": name }));
            if status == 200 && body["VersionId"].is_string() && body["VersionId"] != found["Table"]["VersionId"] {
                return error(
                    "ConcurrentModificationException",
                    "Update table failed due to concurrent modifications.",
                );
            }
            moto(operation, body)
        }
        "GetPartitions" => page(body, "Partitions", 1000, moto(operation, body)),
        "GetTables" => page(body, "TableList", 100, moto(operation, body)),
        "GetDatabases" => page(body, "DatabaseList", 100, moto(operation, body)),
        _ => moto(operation, body),
    }
}

/// A page of a list: what follows the item that the token names.
fn page(body: &Value, list: &str, most: usize, (status, mut answer): Answer) -> Answer {
    let name = |item: &Value| item.get("Values").unwrap_or(&item["Name"]).to_string();
    let size = body["MaxResults"].as_u64().map_or(most, |size| usize::try_from(size).unwrap().min(most));
    if let Some(items) = answer[list].as_array() {
        let after = body["NextToken"].as_str().map(|token| items.iter().position(|item| name(item) == token).unwrap());
        let rest = &items[after.map_or(0, |at| at + 1)..];
        let (page, next) = (rest[..size.min(rest.len())].to_vec(), rest.len() > size);
        if let Some(last) = page.last().filter(|_| next) {
            answer["NextToken"] = name(last).into();
        }
        answer[list] = page.into();
    }
    (status, answer)
}
