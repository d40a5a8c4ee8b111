//! Checks signatures as AWS does it, Signature Version 4, without AWS's crates: those are what signs in the tests.

use std::fmt::Write;

use hmac::{Hmac, Mac};
use hyper::http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sha2::{Digest, Sha256};

/// Who may sign, and for what.
#[derive(Debug, Clone)]
pub(super) struct Signatory {
    pub(super) id: String,
    pub(super) secret: String,
    /// That requests must carry; none if empty.
    pub(super) session_token: String,
    pub(super) region: String,
    pub(super) service: String,
}

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Signatory {
    /// Why a request is refused, or nothing.
    pub(super) fn refuses(&self, head: &Parts, body: &[u8]) -> Option<String> {
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        if header("x-amz-security-token").unwrap_or_default() != self.session_token {
            return Some("The security token included in the request is expired".to_owned());
        }
        let date = header("x-amz-date").unwrap_or_default();
        let Some(day) = date.get(..8) else { return Some("Missing Authentication Token".to_owned()) };
        let given = header("authorization").unwrap_or_default();
        let part = |name: &str| given.split([' ', ',']).find_map(|part| part.strip_prefix(name)).unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        if part("Credential=") != format!("{}/{scope}", self.id) {
            return Some(format!("Credential should be scoped to {scope}"));
        }
        let names: Vec<&str> = part("SignedHeaders=").split(';').collect();
        if !names.contains(&"host")
            || head.headers.keys().any(|n| n.as_str().starts_with("x-amz-") && !names.contains(&n.as_str()))
        {
            return Some("The host and all headers of AWS have to be signed".to_owned());
        }

        // The path as it came, encoded once more.
        let path: Vec<String> = head.uri.path().split('/').map(|part| encoded(part.as_bytes())).collect();
        let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
        let mut query: Vec<String> =
            query.map(|(key, value)| format!("{}={}", encoded(key.as_bytes()), encoded(value.as_bytes()))).collect();
        query.sort_unstable();
        let mut canonical = format!("{}\n{}\n{}\n", head.method, path.join("/"), query.join("&"));
        for name in &names {
            let values = header(name).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
            writeln!(canonical, "{name}:{values}").expect("a string grows");
        }
        write!(canonical, "\n{}\n{}", names.join(";"), hex(Sha256::digest(body))).expect("a string grows");
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(Sha256::digest(canonical)));
        let key = format!("AWS4{}", self.secret).into_bytes();
        let key = scope.split('/').fold(key, |key, part| hmac(&key, part.as_bytes()));
        (part("Signature=") != hex(hmac(&key, text.as_bytes())))
            .then(|| "The request signature we calculated does not match the signature you provided".to_owned())
    }
}

fn encoded(text: &[u8]) -> String {
    percent_encode(text, UNRESERVED).to_string()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.chain_update(text).finalize().into_bytes().to_vec()
}
