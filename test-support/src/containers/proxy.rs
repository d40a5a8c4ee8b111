//! A failing network: a proxy between a job and a service, in which tests inject faults.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use regex::Regex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::service::{RUNTIME, wait};

/// A fault of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The proxy responds with this status and body, and the service never receives the request.
    Answer(u16, String),
    /// The connection breaks when half of the request's body has reached the service.
    CutRequest,
    /// The service executes the request, but the connection breaks before any of the response arrives.
    CutAnswer,
    /// The connection breaks when half of the response's body has arrived.
    HalfAnswer,
    /// The request is delayed this long.
    Stall(Duration),
    /// The service and all connections to it are gone until [`Proxy::come_back`].
    GoAway,
}

impl Fault {
    /// The response of S3 to too many requests: 503 SlowDown.
    pub fn slow_down() -> Self {
        let code = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
        Self::Answer(503, code.to_owned())
    }

    /// The response of Glue to too many requests: 400 ThrottlingException.
    pub fn throttling() -> Self {
        Self::Answer(400, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#.to_owned())
    }
}

/// A proxy in front of an HTTP service that forwards and records all requests, and injects faults.
///
/// A request is represented by one line: its method, path and query, and for Glue its operation: `PUT
/// /bucket/out/part-0.parquet?partNumber=1&uploadId=...`, `POST / AWSGlue.GetPartitions`.
///
/// ```no_run
/// use hardtack_test_support::containers::{self, Fault, Proxy};
///
/// let bucket = containers::s3().bucket();
/// let proxy = Proxy::to(bucket.s3().endpoint());
/// // The first three parts that are uploaded are refused.
/// proxy.inject(Fault::slow_down(), "^PUT .*partNumber=", 3);
/// let env = bucket.s3().through(&proxy).env();
/// // ... run a job with this environment ...
/// assert_eq!(proxy.injected(), 3);
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    service: String,
    state: Mutex<State>,
    gone: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    plans: Vec<Plan>,
    requests: Vec<Recorded>,
    injected: usize,
}

/// A request that a [`Proxy`] has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The line that represents it.
    pub line: String,
    /// The body of a `POST`, unless it was larger than a mebibyte or the request was not forwarded as a whole.
    pub body: String,
}

/// Larger bodies are not kept.
const KEPT_BYTES: u64 = 1 << 20;

#[derive(Debug)]
struct Plan {
    fault: Fault,
    requests: Regex,
    passing: usize,
    times: usize,
}

impl Proxy {
    /// Starts a proxy in front of the service at an endpoint, for example `http://127.0.0.1:32768`.
    ///
    /// # Panics
    /// If no port is free.
    #[track_caller]
    pub fn to(endpoint: &str) -> Self {
        let service = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let shared = Arc::new(Shared { service, state: Mutex::default(), gone: watch::Sender::new(false) });
        let listener = wait(TcpListener::bind("127.0.0.1:0")).expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let accepting = RUNTIME.spawn(Arc::clone(&shared).accept(listener));
        Self { address, shared, accepting }
    }

    /// Its own endpoint, for example `http://127.0.0.1:40001`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Injects a fault into the next `times` requests that match a regular expression. If several faults match, the
    /// earliest one that is not used up applies.
    ///
    /// # Panics
    /// If the regular expression is invalid.
    #[track_caller]
    pub fn inject(&self, fault: Fault, requests: &str, times: usize) {
        self.inject_after(0, fault, requests, times);
    }

    /// Like [`Proxy::inject`], but lets the first `passing` matching requests pass.
    ///
    /// # Panics
    /// If the regular expression is invalid.
    #[track_caller]
    pub fn inject_after(&self, passing: usize, fault: Fault, requests: &str, times: usize) {
        self.shared.state().plans.push(Plan { fault, requests: regex(requests), passing, times });
    }

    /// The number of injected faults.
    pub fn injected(&self) -> usize {
        self.shared.state().injected
    }

    /// All requests so far that match a regular expression (`""` matches all), with or without faults.
    ///
    /// # Panics
    /// If the regular expression is invalid.
    #[track_caller]
    pub fn requests(&self, like: &str) -> Vec<String> {
        self.recorded(like).into_iter().map(|request| request.line).collect()
    }

    /// As [`Proxy::requests`], with the bodies.
    ///
    /// # Panics
    /// If the regular expression is invalid.
    #[track_caller]
    pub fn recorded(&self, like: &str) -> Vec<Recorded> {
        let like = regex(like);
        self.shared.state().requests.iter().filter(|request| like.is_match(&request.line)).cloned().collect()
    }

    /// Makes the service unreachable.
    pub fn go_away(&self) {
        self.shared.gone.send_replace(true);
    }

    /// Makes the service reachable again after [`Proxy::go_away`] or [`Fault::GoAway`].
    pub fn come_back(&self) {
        self.shared.gone.send_replace(false);
    }
}

#[track_caller]
fn regex(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|e| panic!("{e}"))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        // Closes all connections when it is dropped.
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let shared = Arc::clone(&self);
            connections.spawn(async move {
                let mut gone = shared.gone.subscribe();
                tokio::select! {
                    biased;
                    _ = gone.wait_for(|gone| *gone) => {}
                    // On an error the client sees a broken connection, which is all that matters here.
                    _ = shared.serve(client) => {}
                }
            });
            while connections.try_join_next().is_some() {}
        }
    }

    /// Forwards one request. After the response both connections are closed, so the proxy need not determine where
    /// responses end.
    async fn serve(&self, client: TcpStream) -> io::Result<()> {
        let mut client = BufReader::new(client);
        let request = Request::read(&mut client).await?;
        let (number, fault) = self.note(&request.line);
        match &fault {
            Some(Fault::GoAway) => {
                self.gone.send_replace(true);
                return Ok(());
            }
            Some(Fault::Answer(status, body)) => {
                copy(&mut (&mut client).take(request.length), &mut sink()).await?;
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                return client.write_all(answer.as_bytes()).await;
            }
            Some(Fault::Stall(time)) => sleep(*time).await,
            _ => {}
        }
        let mut service = TcpStream::connect(&self.service).await?;
        service.write_all(&request.head).await?;
        let cut = fault == Some(Fault::CutRequest);
        let length = if cut { request.length / 2 } else { request.length };
        if request.line.starts_with("POST ") && !cut && length <= KEPT_BYTES {
            let mut body = Vec::new();
            (&mut client).take(length).read_to_end(&mut body).await?;
            service.write_all(&body).await?;
            if let Some(recorded) = self.state().requests.get_mut(number) {
                recorded.body = String::from_utf8_lossy(&body).into_owned();
            }
        } else {
            copy(&mut (&mut client).take(length), &mut service).await?;
        }
        match fault {
            Some(Fault::CutRequest) => {}
            // The end of the response shows that the service has executed the request.
            Some(Fault::CutAnswer) => drop(copy(&mut service, &mut sink()).await?),
            Some(Fault::HalfAnswer) => {
                let mut answer = Vec::new();
                service.read_to_end(&mut answer).await?;
                let body = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |end| end + 4);
                client.write_all(&answer[..usize::midpoint(body, answer.len())]).await?;
            }
            _ => drop(copy(&mut service, &mut client).await?),
        }
        Ok(())
    }

    /// Records the request; returns its number and the fault to inject.
    fn note(&self, line: &str) -> (usize, Option<Fault>) {
        let mut state = self.state();
        let number = state.requests.len();
        state.requests.push(Recorded { line: line.to_owned(), body: String::new() });
        let plan = state.plans.iter_mut().find(|plan| plan.times > 0 && plan.requests.is_match(line));
        let Some(plan) = plan else { return (number, None) };
        if plan.passing > 0 {
            plan.passing -= 1;
            return (number, None);
        }
        plan.times -= 1;
        let fault = plan.fault.clone();
        state.injected += 1;
        (number, Some(fault))
    }
}

/// A request without its body.
struct Request {
    /// The line that represents it.
    line: String,
    /// The head that is sent to the service.
    head: Vec<u8>,
    /// The length of the body.
    length: u64,
}

impl Request {
    async fn read(client: &mut BufReader<TcpStream>) -> io::Result<Self> {
        let mut lines = client.lines();
        let first = lines.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut line = first.trim_end_matches(" HTTP/1.1").to_owned();
        let mut head = format!("{first}\r\nConnection: close\r\n");
        let mut length = 0;
        while let Some(header) = lines.next_line().await?.filter(|header| !header.is_empty()) {
            let (name, value) = header.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            match (name.to_ascii_lowercase().as_str(), value.trim()) {
                ("connection", _) => continue,
                ("content-length", value) => length = value.parse().map_err(|_| io::ErrorKind::InvalidData)?,
                // No known client sends a body without declaring its length.
                ("transfer-encoding", _) => return Err(io::ErrorKind::Unsupported.into()),
                ("x-amz-target", operation) => line = format!("{line} {operation}"),
                _ => {}
            }
            head += &header;
            head += "\r\n";
        }
        head += "\r\n";
        Ok(Self { line, head: head.into_bytes(), length })
    }
}
