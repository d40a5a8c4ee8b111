//! The proxy injects the requested faults, and no others.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hardtack_test_support::containers::{Fault, Proxy};
use insta::assert_debug_snapshot;
use rstest::rstest;

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789";

/// A service that records the requests that it receives, complete or not.
fn service() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = String::new();
            let mut bytes = [0; 1024];
            while !request.contains("\r\n\r\n") || !request.ends_with('!') {
                match stream.read(&mut bytes).unwrap() {
                    0 => break,
                    n => request += std::str::from_utf8(&bytes[..n]).unwrap(),
                }
            }
            notes.lock().unwrap().push(request);
            let _ = stream.write_all(ANSWER.as_bytes());
        }
    });
    (endpoint, seen)
}

/// Sends a request with the body `12345678!!`, and returns the response.
fn send(proxy: &Proxy, line: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(proxy.endpoint().trim_start_matches("http://")).unwrap();
    let mut answer = String::new();
    let head = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nContent-Length: 10\r\n{headers}");
    let _ = stream.write_all(format!("{head}\r\n12345678!!").as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_string(&mut answer);
    answer
}

const SLOW_DOWN: &str = "HTTP/1.1 503 -\r\nContent-Length: 87\r\nConnection: close\r\n\r\n\
    <Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

#[rstest]
#[case::answered_by_the_proxy(Fault::slow_down(), "", SLOW_DOWN)]
#[case::cut_in_the_request(Fault::CutRequest, "12345", "")]
#[case::cut_in_the_answer(Fault::CutAnswer, "12345678!!", "")]
#[case::half_of_the_answer(Fault::HalfAnswer, "12345678!!", &ANSWER[..ANSWER.len() - 5])]
#[case::late(Fault::Stall(Duration::from_millis(300)), "12345678!!", ANSWER)]
#[test]
fn some_requests_that_match_are_disturbed(#[case] fault: Fault, #[case] body: &str, #[case] answer: &str) {
    let (endpoint, seen) = service();
    let proxy = Proxy::to(&endpoint);
    proxy.inject_after(1, fault.clone(), "^PUT .*part=", 2);
    assert_eq!(send(&proxy, "PUT /a", ""), ANSWER);
    assert_eq!(send(&proxy, "PUT /a?part=1", ""), ANSWER);
    for _ in 0..2 {
        let start = Instant::now();
        assert_eq!(send(&proxy, "PUT /a?part=1", ""), answer);
        assert_eq!(start.elapsed() >= Duration::from_millis(300), matches!(fault, Fault::Stall(_)));
    }
    assert_eq!(proxy.injected(), 2);
    // The service handles requests one after the other, so it has handled the others when it responds to this one.
    assert_eq!(send(&proxy, "PUT /a?part=1", ""), ANSWER);
    let bodies: Vec<_> = seen.lock().unwrap().iter().map(|r| r.split_once("\r\n\r\n").unwrap().1.to_owned()).collect();
    let disturbed = if body.is_empty() { vec![] } else { vec![body, body] };
    assert_eq!(bodies, [vec!["12345678!!"; 2], disturbed, vec!["12345678!!"]].concat());
}

#[test]
fn requests_are_passed_on_as_they_are_but_for_the_connection() {
    let (endpoint, seen) = service();
    let proxy = Proxy::to(&endpoint);
    send(&proxy, "POST /?a=b%20c", "X-Amz-Target: AWSGlue.GetTable\r\nAccept: */*\r\n");
    send(&proxy, "GET /x", "");
    assert_debug_snapshot!(seen.lock().unwrap()[0].split("\r\n").collect::<Vec<_>>(), @r#"
    [
        "POST /?a=b%20c HTTP/1.1",
        "Connection: close",
        "Host: x",
        "Content-Length: 10",
        "X-Amz-Target: AWSGlue.GetTable",
        "Accept: */*",
        "",
        "12345678!!",
    ]
    "#);
    assert_eq!(proxy.requests("^GET"), ["GET /x"]);
    assert_eq!(proxy.requests(""), ["POST /?a=b%20c AWSGlue.GetTable", "GET /x"]);
    assert_eq!(proxy.injected(), 0);
}

#[test]
fn a_service_goes_away_and_comes_back() {
    let (endpoint, seen) = service();
    let proxy = Proxy::to(&endpoint);
    proxy.inject(Fault::GoAway, "^PUT ", 1);
    assert_eq!(send(&proxy, "GET /1", ""), ANSWER);
    assert_eq!(send(&proxy, "PUT /2", ""), "");
    assert_eq!(send(&proxy, "GET /3", ""), "");
    proxy.come_back();
    assert_eq!(send(&proxy, "PUT /4", ""), ANSWER);
    proxy.go_away();
    assert_eq!(send(&proxy, "GET /5", ""), "");
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[test]
fn a_proxy_goes_with_its_value() {
    let (endpoint, _) = service();
    let proxy = Proxy::to(&endpoint);
    let address = proxy.endpoint().trim_start_matches("http://").to_owned();
    drop(proxy);
    std::thread::sleep(Duration::from_millis(100));
    assert!(TcpStream::connect(address).is_err());
}
