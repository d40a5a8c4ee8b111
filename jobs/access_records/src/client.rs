//! Who called: the client by its user agent.

use std::sync::LazyLock;

use memchr::memmem;
use regex::Regex;

use crate::signature::pattern;

/// A client of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Web,
    Java,
    Synapser,
    R,
    CommandLine,
    Python,
    ElbHealthChecker,
    Stack,
    Unknown,
}

/// The tokens of user agents, in the order in which they decide: a web client's calls may pass through the Java client,
/// and the command line's user agent has the token of the Python client, too.
const TOKENS: [(&str, Client); 9] = [
    (JAVA, Client::Java),
    (MISSPELT_JAVA, Client::Java),
    ("synapser", Client::Synapser),
    ("synapseRClient", Client::R),
    ("synapsecommandlineclient", Client::CommandLine),
    ("synapseclient", Client::Python),
    ("ELB-HealthChecker", Client::ElbHealthChecker),
    ("SynapseRepositoryStack", Client::Stack),
    // Only so that each client has a token.
    (WEB, Client::Web),
];
const WEB: &str = "Synapse-Web-Client";
const JAVA: &str = "Synapse-Java-Client";
/// As old versions of the Java client call themselves.
const MISSPELT_JAVA: &str = "Synpase-Java-Client";

/// The token of a browser, and the version after it at the beginning.
static BROWSER: LazyLock<Regex> = LazyLock::new(|| pattern("(?i-u:mozilla|safari|opera|lynx|ucweb|chrome|firefox)"));
static BROWSER_FIRST: LazyLock<Regex> = LazyLock::new(|| pattern(&format!("^{}/", BROWSER.as_str())));

impl Client {
    /// The client of a user agent.
    pub(crate) fn of(user_agent: &str) -> Self {
        if contains(user_agent, WEB) || is_browser(user_agent) {
            return Self::Web;
        }
        let client = TOKENS.iter().find(|(token, _)| contains(user_agent, token));
        client.map_or(Self::Unknown, |(_, client)| *client)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Web => "WEB",
            Self::Java => "JAVA",
            Self::Synapser => "SYNAPSER",
            Self::R => "R",
            Self::CommandLine => "COMMAND_LINE",
            Self::Python => "PYTHON",
            Self::ElbHealthChecker => "ELB_HEALTHCHECKER",
            Self::Stack => "STACK",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The version of this client that a user agent states.
    pub(crate) fn version(self, user_agent: &str) -> Option<&str> {
        match self {
            Self::Web if is_browser(user_agent) => browser_version(user_agent),
            Self::Java if user_agent.starts_with(MISSPELT_JAVA) => version_after(user_agent, MISSPELT_JAVA),
            client => {
                let (token, _) = TOKENS.iter().find(|(_, of)| *of == client)?;
                version_after(user_agent, token)
            }
        }
    }
}

fn contains(text: &str, part: &str) -> bool {
    memmem::find(text.as_bytes(), part.as_bytes()).is_some()
}

fn is_browser(user_agent: &str) -> bool {
    BROWSER.is_match(user_agent)
}

/// The version of the browser whose token the user agent begins with.
fn browser_version(user_agent: &str) -> Option<&str> {
    first_word(&user_agent[BROWSER_FIRST.find(user_agent)?.end()..])
}

/// The version after the first `token/`.
fn version_after<'a>(user_agent: &'a str, token: &str) -> Option<&'a str> {
    let mut after = memmem::find_iter(user_agent.as_bytes(), token).map(|at| &user_agent[at + token.len()..]);
    first_word(after.find_map(|rest| rest.strip_prefix('/'))?)
}

/// The characters up to the first white space, if there are any.
fn first_word(text: &str) -> Option<&str> {
    text.split(char::is_whitespace).next().filter(|word| !word.is_empty())
}
