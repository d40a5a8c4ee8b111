//! The derived columns, by rule, and against a slow implementation that follows the words of the specification.

use hardtack::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use hardtack::arrow::datatypes::Int64Type;
use proptest::prelude::*;
use rstest::rstest;
use std::sync::Arc;

use crate::client::Client;
use crate::derive;
use crate::entity::entity_id;
use crate::signature::normalize_url;

fn normalized(url: &str) -> String {
    let mut to = String::new();
    normalize_url(url, &mut to);
    to
}

#[rstest]
// Lower case, decoded, without white space, from the first `/v1/` on.
#[case::nothing("", "INVALID URL")]
#[case::no_version("/repo/v2/entity/1", "INVALID URL")]
#[case::version_at_the_end("/repo/v1", "INVALID URL")]
#[case::nothing_after_the_version("/repo/v1/", "/")]
#[case::lower_case("/REPO/V1/Entity/Children", "/entity/children")]
#[case::first_version("/repo/v1/a/v1/b", "/a/v1/b")]
#[case::decoded("/repo%2Fv1%2fentity%2f12", "/entity/#")]
#[case::white_space("/repo/v1/entity/%20syn24%0A%0d/\u{a0}annotations2\t", "/entity/#/annotations2")]
#[case::space_in_the_version("/repo/v 1/version", "/version")]
#[case::wrong_code("/repo/v1/a%zz%4/b%", "/azz4/b")]
#[case::not_utf_8("/repo/v1/2fa%ff%c3%bc", "/2fa\u{fffd}ü")]
#[case::decoded_last("/repo/v1/%53YN12/%41b", "/Syn12/Ab")]
#[case::decoded_once("/repo/v1/a%2541", "/a41")]
// Calls that are told by a part of their path.
#[case::md5("/repo/v1/entity/md5/1a2b", "/entity/md5/#")]
#[case::md5_begins("/repo/v1/entity/md5x", "/entity/md5/#")]
#[case::evaluation_name("/repo/v1/evaluation/name/my%20name/x", "/evaluation/name/#")]
#[case::alias("/repo/v1/entity/alias/XYZNDY", "/entity/alias/#")]
#[case::two_factors("/auth/v1/2fa/Token;7?a=12&b", "/2fa/token;7?a=12&b")]
#[case::user_bundle("/repo/v1/user/bundle?mask=12", "/user/bundle")]
#[case::access("/ga4gh/drs/v1/objects/syn27.1/access/FileEntity_12", "/objects/#/access/#")]
#[case::access_without_a_slash("/repo/v1/access", "/access")]
#[case::schema("/repo/v1/schema/type/registered/org-Name-1.0.2", "/schema/type/registered/#")]
#[case::first_rule_wins("/repo/v1/entity/md5/access/1", "/entity/md5/#")]
#[case::beginnings_before_parts("/repo/v1/user/bundle/access/1", "/user/bundle")]
// Parameters after a semicolon.
#[case::parameters("/repo/v1/entity/syn4/wiki/23;%20Index%20(2%20drugs)", "/entity/#/wiki/#")]
#[case::parameters_in_the_middle("/repo/v1/wiki2/78;DA12/history", "/wiki2/#/history")]
#[case::parameters_alone("/repo/v1/wiki/;D12", "/wiki/")]
#[case::nothing_after_the_semicolon("/repo/v1/wiki2/78;/history;", "/wiki2/#/history")]
#[case::semicolons("/repo/v1/a;;b/c", "/a/c")]
// Characters.
#[case::other_characters("/repo/v1/a-b.c:d?e=[f]&g_h/~", "/abcdefg_h/")]
#[case::brackets("/repo/v1/accessRequirement/%5B96%5D/submissions", "/accessrequirement/#/submissions")]
#[case::letters_of_all_scripts("/repo/v1/größe/%E6%B8%AF/m²", "/größe/港/m²")]
// Ids.
#[case::syn("/repo/v1/entity/syn123456/random/123", "/entity/#/random/#")]
#[case::version_of_syn("/repo/v1/entity/syn51.1/get/28", "/entity/#/get/#")]
#[case::file_handle("/file/v1/objects/fh123", "/objects/#")]
#[case::syn_alone("/repo/v1/syn/fh/synx1/syn1x/asyn1", "/syn/fh/synx1/syn1x/asyn1")]
#[case::begins_with_a_digit("/repo/v1/1/12/1a/1_/a1", "/#/#/#/#/a1")]
#[case::digits_of_other_scripts("/repo/v1/\u{663}/\u{663}a/syn\u{663}", "/#/#/#")]
#[case::empty_segments("/repo/v1//a//1/", "//a//#/")]
fn a_url_is_made_comparable(#[case] url: &str, #[case] expected: &str) {
    assert_eq!(normalized(url), expected);
}

#[rstest]
#[case::browser("Mozilla/5.0 (X11) Gecko Firefox/145.0", "WEB", Some("5.0"))]
#[case::any_case("OPERA/9.8 Presto", "WEB", Some("9.8"))]
#[case::every_browser("UCWEB/2.0", "WEB", Some("2.0"))]
#[case::lynx("Lynx/2.8.9rel.1 libwww-FM/2.14", "WEB", Some("2.8.9rel.1"))]
#[case::browser_not_at_the_beginning("my Safari/604.1", "WEB", None)]
#[case::browser_without_a_version("Chrome 12", "WEB", None)]
#[case::browser_and_space("Chrome/ 12", "WEB", None)]
#[case::browser_in_a_word("NotMozillaAtAll/1", "WEB", None)]
#[case::web_client("Synapse-Web-Client/118.0 Synapse-Java-Client/develop", "WEB", Some("118.0"))]
#[case::web_client_and_browser("Synapse-Web-Client/118.0 Chrome/5", "WEB", None)]
#[case::web_client_alone("Synapse-Web-Client", "WEB", None)]
#[case::java("Synapse-Java-Client/2018-03 x", "JAVA", Some("2018-03"))]
#[case::misspelt_java("Synpase-Java-Client/12.4", "JAVA", Some("12.4"))]
#[case::misspelt_java_later("x Synpase-Java-Client/12.4", "JAVA", None)]
#[case::both_javas("Synpase-Java-Client/12.4 Synapse-Java-Client/13", "JAVA", Some("12.4"))]
#[case::both_javas_later("x Synpase-Java-Client/12.4 Synapse-Java-Client/13", "JAVA", Some("13"))]
#[case::java_before_others("synapser/1 Synapse-Java-Client/2", "JAVA", Some("2"))]
#[case::synapser("synapser/0.6.61 synapseclient/1.9.4", "SYNAPSER", Some("0.6.61"))]
#[case::r("synapseRClient/1.10-1", "R", Some("1.10-1"))]
#[case::command_line("synapsecommandlineclient synapseclient/2.0", "COMMAND_LINE", None)]
#[case::command_line_with_version("synapseclient/1 synapsecommandlineclient/2", "COMMAND_LINE", Some("2"))]
#[case::python("python-requests/2.7 synapseclient/2.7.0\u{a0}x", "PYTHON", Some("2.7.0"))]
#[case::case_matters("SynapseClient/2", "UNKNOWN", None)]
#[case::health("ELB-HealthChecker/2.0", "ELB_HEALTHCHECKER", Some("2.0"))]
#[case::stack("SynapseRepositoryStack/350", "STACK", Some("350"))]
#[case::first_token("synapseclient synapseclient/1 synapseclient/2", "PYTHON", Some("1"))]
#[case::other("curl/8.11.0", "UNKNOWN", None)]
#[case::nothing("", "UNKNOWN", None)]
fn a_client_is_told_by_its_user_agent(#[case] agent: &str, #[case] name: &str, #[case] version: Option<&str>) {
    let client = Client::of(agent);
    assert_eq!((client.name(), client.version(agent)), (name, version));
}

#[rstest]
#[case("/repo/v1/entity/syn123/bundle", Some(123))]
#[case("/repo/v1/entity/123", Some(123))]
#[case("/REPO/V1/ENTITY/SYN0012x", Some(12))]
#[case("/entity/md5/1/entity/7", Some(7))]
#[case("/entity/entity/8", Some(8))]
#[case("/entity/syn/entity/synx/entity/Syn9", Some(9))]
#[case("/entity/synsyn9", None)]
#[case("/entity/%20syn9", None)]
#[case("%2fentity%2f9", None)]
#[case("/entity/ü/entity/4ü", Some(4))]
#[case("entity/9", None)]
#[case("/entity/", None)]
#[case("/entities/9", None)]
#[case("/entity/9223372036854775807", Some(i64::MAX))]
#[case("/entity/9223372036854775808", None)]
#[case("/entity/9223372036854775808/entity/1", None)]
#[case("/entity/00000000000000000000000000000000001", Some(1))]
#[case("", None)]
fn an_entity_is_told_by_the_url_as_it_came(#[case] url: &str, #[case] expected: Option<i64>) {
    assert_eq!(entity_id(url), expected);
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Functions over columns see the rows that they are given, with nulls.
#[test]
fn a_column_is_derived_from_each_row() {
    let method = texts(&[Some("x"), Some("GET"), None, Some("PUT"), Some("")]).slice(1, 4);
    let url = texts(&[None, Some("/v1/a"), Some("/v1/b"), None, Some("/v1/c")]).slice(1, 4);
    let found = derive::signatures(&[method, url]);
    assert_eq!(found.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("GET /a"), None, None, Some(" /c")]);

    let agents = texts(&[Some("x"), Some("synapser/1"), None, Some("synapser/1"), Some("Chrome/2")]).slice(1, 4);
    let clients = derive::clients(&[Arc::clone(&agents)]);
    let names = [Some("SYNAPSER"), Some("UNKNOWN"), Some("SYNAPSER"), Some("WEB")];
    assert_eq!(clients.as_string::<i32>().iter().collect::<Vec<_>>(), names);
    let versions = derive::client_versions(&[agents]);
    assert_eq!(versions.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("1"), None, Some("1"), Some("2")]);

    let entities = derive::entities(&[texts(&[Some("/entity/1"), None, Some("/")])]);
    assert_eq!(entities.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None, None]);
}

#[rstest]
#[case(0, "1970-01-01")]
#[case(-1, "1969-12-31")]
#[case(86_399_999, "1970-01-01")]
#[case(86_400_000, "1970-01-02")]
#[case(1_709_251_199_999, "2024-02-29")]
#[case(99_999_999_999_999, "5138-11-16")]
fn a_date_is_that_of_utc(#[case] millis: i64, #[case] expected: &str) {
    let times: ArrayRef = Arc::new(hardtack::arrow::array::Int64Array::from(vec![Some(millis), None, Some(millis)]));
    let dates = derive::dates(&[times]);
    assert_eq!(dates.as_string::<i32>().iter().collect::<Vec<_>>(), [Some(expected), None, Some(expected)]);
}

/// The specification, word by word, with regular expressions.
mod naive {
    use regex::{Regex, escape};

    fn re(pattern: &str) -> Regex {
        Regex::new(pattern).unwrap()
    }

    /// The characters of a text, with the bytes of codes in place of them.
    fn decoded(text: &str) -> String {
        let code = re("^%([0-9a-fA-F]{2})");
        let (mut bytes, mut rest) = (Vec::new(), text);
        while let Some(next) = rest.chars().next() {
            match code.captures(rest) {
                Some(found) => {
                    bytes.push(u8::from_str_radix(&found[1], 16).unwrap());
                    rest = &rest[3..];
                }
                None => {
                    bytes.extend(next.to_string().bytes());
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(super) fn normalized(url: &str) -> String {
        let url = re(r"\s+").replace_all(&decoded(&url.to_lowercase()), "").into_owned();
        let Some(found) = re("(?s)^.*?/v1(/.*)$").captures(&url) else { return "INVALID URL".to_owned() };
        let path = found[1].to_owned();
        for (pattern, to) in [
            ("^/entity/md5", Some("/entity/md5/#")),
            ("^/evaluation/name", Some("/evaluation/name/#")),
            ("^/entity/alias", Some("/entity/alias/#")),
            ("^/2fa", None),
            ("^/user/bundle", Some("/user/bundle")),
            ("/access/", Some("/objects/#/access/#")),
            ("/schema/type/registered/", Some("/schema/type/registered/#")),
        ] {
            if re(pattern).is_match(&path) {
                return to.unwrap_or(&path).to_owned();
            }
        }
        let path = re("(?s);[^/]+").replace_all(&path, "").into_owned();
        let path = re(r"[^\p{L}\p{N}_/]").replace_all(&path, "").into_owned();
        let segments = path.split('/').map(|segment| re(r"^(syn|fh)\d+$").replace(segment, "#").into_owned());
        let segments = segments.map(|segment| re(r"^\d.+$").replace(&segment, "#").into_owned());
        let path = segments.collect::<Vec<_>>().join("/");
        re(r"/\d+").replace_all(&path, "/#").into_owned()
    }

    const BROWSER: &str = "(?i:mozilla|safari|opera|lynx|ucweb|chrome|firefox)";

    pub(super) fn client(agent: &str) -> (&'static str, Option<String>) {
        let contains = |pattern: &str| re(pattern).is_match(agent);
        let after = |pattern: &str| {
            let run = re(&format!(r"{pattern}/(\S*)")).captures(agent)?[1].to_owned();
            (!run.is_empty()).then_some(run)
        };
        if contains("Synapse-Web-Client") || contains(BROWSER) {
            return (
                "WEB",
                after(&if contains(BROWSER) { format!("^{BROWSER}") } else { "Synapse-Web-Client".to_owned() }),
            );
        }
        if contains("Synapse-Java-Client|Synpase-Java-Client") {
            let misspelt = contains("^Synpase-Java-Client");
            return ("JAVA", after(if misspelt { "Synpase-Java-Client" } else { "Synapse-Java-Client" }));
        }
        for (token, name) in [
            ("synapser", "SYNAPSER"),
            ("synapseRClient", "R"),
            ("synapsecommandlineclient", "COMMAND_LINE"),
            ("synapseclient", "PYTHON"),
            ("ELB-HealthChecker", "ELB_HEALTHCHECKER"),
            ("SynapseRepositoryStack", "STACK"),
        ] {
            if contains(&escape(token)) {
                return (name, after(&escape(token)));
            }
        }
        ("UNKNOWN", None)
    }

    pub(super) fn entity(url: &str) -> Option<i64> {
        re("(?i)/entity/(?:syn)?([0-9]+)").captures(url)?[1].parse().ok()
    }
}

/// Parts of URLs, so that random ones are interesting.
fn url() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        prop::sample::select(vec![
            "/v1/",
            "/V1",
            "/repo",
            "/entity/",
            "/Entity/",
            "md5",
            "syn",
            "SYN",
            "fh",
            "alias",
            "/evaluation/name",
            "/2fa",
            "/user/bundle",
            "/access/",
            "/access",
            "/schema/type/registered/",
            ";",
            "/",
            "//",
            "%",
            "%2f",
            "%20",
            "%53",
            "%ff",
            "%c3%bc",
            "%C3",
            "%zz",
            " ",
            "\u{a0}",
            "\n",
            "ü",
            "Ü",
            "港",
            "²",
            "\u{663}",
            "\u{301}",
            "_",
            "-",
            ".",
        ])
        .prop_map(str::to_owned),
        "[0-9]{1,20}",
        "[a-zA-Z]{1,4}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..16).prop_map(|parts| parts.concat())
}

fn user_agent() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        prop::sample::select(vec![
            "Synapse-Web-Client",
            "Synapse-Java-Client",
            "Synpase-Java-Client",
            "synapser",
            "synapseRClient",
            "synapsecommandlineclient",
            "synapseclient",
            "ELB-HealthChecker",
            "SynapseRepositoryStack",
            "Mozilla",
            "safari",
            "OPERA",
            "Lynx",
            "ucWEB",
            "Chrome",
            "Firefox",
            "/",
            "/",
            "/1.0",
            " ",
            " ",
            "\u{a0}",
            "x",
            "ü",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn urls_are_normalized_as_specified(url in url(), prefix in prop::bool::ANY) {
        let url = if prefix { format!("/repo/v1/{url}") } else { url };
        prop_assert_eq!(normalized(&url), naive::normalized(&url));
        prop_assert_eq!(entity_id(&url), naive::entity(&url));
    }

    #[test]
    fn clients_are_told_as_specified(agent in user_agent()) {
        let client = Client::of(&agent);
        prop_assert_eq!((client.name(), client.version(&agent).map(str::to_owned)), naive::client(&agent));
    }
}
