use std::collections::{HashMap, HashSet};

use insta::assert_snapshot;
use rstest::rstest;
use twox_hash::XxHash3_128;

use super::rows::DAYS;
use super::text::{Calendar, decimal};
use super::vocabulary::{CITIES, CONDITIONS, ENCOUNTERS, FIRST_NAMES, LAST_NAMES, PANELS, STREETS, Values};
use super::*;

fn table(scale: f64, seed: u64, table: Table, threads: usize) -> String {
    let mut bytes = Vec::new();
    write(&World::new(Recipe { scale, seed }).unwrap(), table as usize, &mut bytes, threads).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn fields<'a>(text: &'a str, column: &str) -> Vec<&'a str> {
    let mut lines = text.lines();
    let at = lines.next().unwrap().split(',').position(|name| name == column).unwrap();
    lines.map(|line| line.split(',').nth(at).unwrap()).collect()
}

/// If this changes, so must [`Data::version`]: measurements with other bytes are not comparable.
#[test]
fn the_bytes_for_a_seed_stay_the_same() {
    let hash = |text: &str| format!("{:032x}", XxHash3_128::oneshot(text.as_bytes()));
    let found = Table::ALL.map(|each| {
        let text = table(0.001, 42, each, 2);
        format!("{} {}\n{}", each.file(), hash(&text), text.lines().take(3).collect::<Vec<_>>().join("\n"))
    });
    let two_chunks = hash(&table(0.05, 42, Table::Encounters, 2));
    assert_snapshot!(two_chunks, @"96675139a485618f5b6685da6678c667");
    assert_snapshot!(found.join("\n\n"), @"
    patients.csv d5a57221b4f3479a687e1804ae9dc515
    id,birthdate,deathdate,ssn,drivers,passport,prefix,first,last,suffix,maiden,marital,race,ethnicity,gender,birthplace,address,city,state,county,zip,lat,lon,healthcare_expenses,healthcare_coverage
    6e768736-8769-a8db-0e62-89bfe4de32ba,2005-02-08,,999-37-000000,,,,Yvette46,Rosenthal687,,,,white,nonhispanic,F,Plimsoll  Rhode Harbour  US,716 Bowsprit Crossing,Anchor Bay,Rhode Harbour,Saltmarsh County,,41.05287109659578,-71.79554604891603,705528.07,7442.43
    894afed8-3376-f0e5-9cd3-04b254e46b7f,1982-11-17,,999-59-000001,S42711799,X42711773X,Mr.,Pankraz613,Dornbusch169,,,S,white,nonhispanic,M,Oarlock  Rhode Harbour  US,961 Islander Street,Jettymouth,Rhode Harbour,Windward County,,41.61718672414756,-71.28397997849215,259441.88,11154.42

    encounters.csv 75814d6afe7b472d23926ca6c529cd63
    id,start,stop,patient,organization,provider,payer,encounterclass,code,description,base_encounter_cost,total_claim_cost,payer_coverage,reasoncode,reasondescription
    78618a9e-75ee-e802-52e5-5f8eb4e51c6a,2010-09-13T08:54:33Z,2010-09-13T09:54:33Z,6e768736-8769-a8db-0e62-89bfe4de32ba,8e8d006e-4590-3761-bbf9-3b4a149f0a75,726674ea-8ebd-9c28-b417-2e665ea083ea,3915a327-2fb8-322f-48d5-0e805eb49a38,wellness,610000001,General check-up of an adult (procedure),129.16,134.95,16797.71,,
    e4f73a26-ad61-6b94-5a39-56fd2d0d2483,2007-09-02T14:19:28Z,2007-09-02T14:34:28Z,6e768736-8769-a8db-0e62-89bfe4de32ba,61d5c456-3b49-0ab5-08de-a9c7bda84621,16c15421-ed03-0563-533b-1bb06ddf9b45,65fcaa2f-0053-2e84-ac81-f481abbe4ab9,ambulatory,610000003,Encounter to follow up,77.49,25.89,13.92,70010004,Too much fat

    conditions.csv 87753f4a1fb2789afafd446e145f8eb9
    start,stop,patient,encounter,code,description
    2010-10-28,2012-03-08,8c2cf311-82dc-50fb-e8ca-85bccab0bd21,c8065b62-ec9f-138c-67a7-c4c13e5e0bce,800000001,Works the whole week (finding)
    2010-09-13,2012-05-14,6e768736-8769-a8db-0e62-89bfe4de32ba,78618a9e-75ee-e802-52e5-5f8eb4e51c6a,800000035,Asthma of a child

    observations.csv de5a18901acc89e4debc833d9410b6d8
    date,patient,encounter,category,code,description,value,units,type
    2010-09-13T08:54:33Z,6e768736-8769-a8db-0e62-89bfe4de32ba,78618a9e-75ee-e802-52e5-5f8eb4e51c6a,vital-signs,4011-9,Temperature inside,36.7,Cel,numeric
    2020-02-04T23:37:36Z,14e8b495-d9d7-7dd2-0f61-f4ad3287d511,54f6b6ff-f49d-5982-85a3-7db69fd4dde2,laboratory,3201-6,All of the cholesterol,163.9,mg/dL,numeric
    ");
}

#[rstest]
fn threads_and_seeds(#[values(Table::Encounters, Table::Observations)] each: Table) {
    // More than one chunk.
    let expected = table(0.03, 1, each, 1);
    assert!(expected == table(0.03, 1, each, 3), "the number of threads made a difference");
    let other = table(0.03, 2, each, 3);
    let same: HashSet<&str> = expected.lines().collect();
    assert_eq!(other.lines().filter(|line| same.contains(line)).count(), 1, "more than the header is the same");
}

#[rstest]
#[case(Table::Patients, 2_640)]
#[case(Table::Encounters, 25_200)]
#[case(Table::Conditions, 9_660)]
#[case(Table::Observations, 107_600)]
fn one_row_in_a_hundred_is_a_copy(#[case] each: Table, #[case] rows: usize) {
    let text = table(0.02, 7, each, 2);
    let all: Vec<&str> = text.lines().skip(1).collect();
    let different: HashSet<&str> = all.iter().copied().collect();
    let copies = rows - (rows as f64 / 1.01) as usize;
    assert_eq!((all.len(), all.len() - different.len()), (rows, copies));
    let columns = text.lines().map(|line| line.split(',').count()).collect::<HashSet<_>>();
    assert_eq!(columns.len(), 1, "{columns:?}");
}

#[test]
fn tables_fit_together() {
    let [patients, encounters, conditions, observations] = Table::ALL.map(|each| table(0.01, 42, each, 2));
    let known: HashSet<&str> = fields(&patients, "id").into_iter().collect();
    let starts: HashMap<(&str, &str), &str> = fields(&encounters, "id")
        .into_iter()
        .zip(fields(&encounters, "patient"))
        .zip(fields(&encounters, "start"))
        .collect();
    assert!(starts.keys().all(|(_, patient)| known.contains(patient)));
    let births: HashMap<&str, &str> = fields(&patients, "id").into_iter().zip(fields(&patients, "birthdate")).collect();
    assert!(starts.iter().all(|((_, patient), start)| births[patient] <= &start[..10]));
    for (text, date) in [(&observations, "date"), (&conditions, "start")] {
        let keys = fields(text, "encounter").into_iter().zip(fields(text, "patient"));
        for (key, date) in keys.zip(fields(text, date)) {
            assert!(starts[&key].starts_with(date), "{key:?} {date}");
        }
    }
}

/// The rows of an encounter are adjacent, apart from copies.
#[test]
fn rows_follow_encounters() {
    let observations = table(0.01, 42, Table::Observations, 2);
    let encounters = fields(&observations, "encounter");
    let changes = encounters.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let different = encounters.iter().collect::<HashSet<_>>().len();
    assert!(changes < different + 2 * encounters.len() / 100, "{changes} changes, {different} encounters");
}

#[test]
fn days_and_filters() {
    let encounters = table(0.2, 42, Table::Encounters, 2);
    let starts = fields(&encounters, "start");
    let days: HashSet<&str> = starts.iter().map(|start| &start[..10]).collect();
    // All of them at scale 1.
    assert!((DAYS - 20..=DAYS).contains(&(days.len() as i64)), "{}", days.len());
    assert_eq!((days.iter().min(), days.iter().max()), (Some(&"1995-06-09"), Some(&"2023-12-31")));

    let symptoms: Vec<_> = fields(&encounters, "description")
        .iter()
        .zip(fields(&encounters, "reasoncode"))
        .zip(starts)
        .filter(|((description, _), _)| description.contains("Encounter for symptom"))
        .map(|((_, reason), start)| (reason.is_empty(), &start[..10]))
        .collect();
    let without = symptoms.iter().filter(|(no_reason, _)| *no_reason).count();
    let per_mille = |part: usize, whole: usize| part * 1000 / whole;
    assert!((90..110).contains(&per_mille(without, symptoms.len())), "{without} of {}", symptoms.len());
    assert!((53..63).contains(&per_mille(symptoms.len(), fields(&encounters, "id").len())));
    assert!(symptoms.iter().all(|(_, day)| *day >= "2016-12-30"));

    let conditions = table(0.2, 42, Table::Conditions, 2);
    let descriptions = fields(&conditions, "description");
    let found = descriptions.iter().filter(|description| description.contains("sinusitis")).count();
    assert!((18..24).contains(&per_mille(found, descriptions.len())), "{found}");
}

/// Fields are not quoted, so they must not need it.
#[test]
fn the_vocabulary_needs_no_quotes() {
    let mut words: Vec<&str> = Vec::new();
    for visit in ENCOUNTERS {
        words.extend([visit.class, visit.code, visit.description]);
        words.extend(visit.reason.iter().flat_map(|(code, reason)| [*code, *reason]));
    }
    words.extend(CONDITIONS.iter().flat_map(|(_, code, description)| [*code, *description]));
    for observation in PANELS.iter().flat_map(|(_, parts)| parts.iter()).copied().flatten() {
        words.extend([observation.category, observation.code, observation.description, observation.units]);
        if let Values::Answers(answers) = observation.values {
            words.extend(answers);
        }
    }
    words.extend(FIRST_NAMES.iter().chain(LAST_NAMES).chain(STREETS));
    words.extend(CITIES.iter().flat_map(|(city, county, zip)| [*city, *county, *zip]));
    let bad: Vec<_> = words.iter().filter(|word| word.contains([',', '"', '\n', '\r'])).collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn a_folder_says_what_it_was_made_with() {
    let folder = tempfile::TempDir::new().unwrap();
    let recipe = Recipe { scale: 0.0001, seed: 42 };
    let is = |recipe| find(Data::Tables, recipe, folder.path());
    assert_eq!(is(recipe).unwrap(), Found::Nothing);
    generate(Data::Tables, recipe, folder.path(), 2).unwrap();
    assert_eq!(is(recipe).unwrap(), Found::Ours);
    let whole: HashSet<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let expected = Table::ALL.map(Table::file).into_iter().chain([LABEL]).map(Into::into).collect();
    assert_eq!(whole, expected);

    let error = is(Recipe { scale: 0.0002, ..recipe }).unwrap_err();
    assert_snapshot!(error.to_string().replace(&folder.path().display().to_string(), "FOLDER"), @r#"the folder holds data of another recipe; name another folder with `--data`, or remove this one (folder: FOLDER, found: {"generator":1,"scale":0.0001,"seed":42}, wanted: scale 0.0002, seed 42, generator 1)"#);

    // Foreign tables are used as they are.
    std::fs::remove_file(folder.path().join(LABEL)).unwrap();
    assert_eq!(is(Recipe { scale: 0.0002, ..recipe }).unwrap(), Found::Foreign);
    std::fs::remove_file(folder.path().join("patients.csv")).unwrap();
    assert_eq!(is(recipe).unwrap(), Found::Nothing);
    let error = generate(Data::Tables, recipe, folder.path(), 1).unwrap_err();
    assert!(error.to_string().contains("not generated"), "{error}");
}

#[rstest]
#[case(0.0)]
#[case(-1.0)]
#[case(1e-9)]
#[case(f64::NAN)]
#[case(f64::INFINITY)]
fn a_scale_leaves_rows(#[case] scale: f64) {
    let error = World::new(Recipe { scale, seed: 1 }).err().unwrap();
    assert_eq!(error.kind(), hardtack_core::ErrorKind::Usage);
}

#[rstest]
#[case(0, "1970-01-01T00:00:00Z")]
#[case(951_782_399, "2000-02-28T23:59:59Z")]
#[case(951_782_400, "2000-02-29T00:00:00Z")]
#[case(1_704_067_199, "2023-12-31T23:59:59Z")]
#[case(-946_771_200, "1940-01-01T00:00:00Z")]
fn the_calendar(#[case] second: i64, #[case] expected: &str) {
    let mut out = Vec::new();
    Calendar::new().instant(&mut out, second);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[rstest]
#[case(0, 2, "0.00")]
#[case(7, 1, "0.7")]
#[case(12_345, 2, "123.45")]
fn a_decimal(#[case] n: u64, #[case] decimals: usize, #[case] expected: &str) {
    let mut out = b"before ".to_vec();
    decimal(&mut out, n, decimals);
    assert_eq!(String::from_utf8(out).unwrap(), format!("before {expected}"));
}

fn file(maker: &dyn Maker, file: usize, threads: usize) -> String {
    let mut bytes = Vec::new();
    write(maker, file, &mut bytes, threads).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn all_files(data: Data, scale: f64, seed: u64, threads: usize) -> String {
    let maker = data.maker(Recipe { scale, seed }).unwrap();
    (0..maker.files()).map(|at| file(&*maker, at, threads)).collect()
}

/// If this changes, so must [`Data::version`].
#[rstest]
#[case::events(Data::Events, "a2701a5d70d6c13bf3e3d3b802816d19")]
#[case::policies(Data::Policies, "3a64ec46b954c61b75a3206e87e7626b")]
#[case::access(Data::Access, "98a78591a89585210b106ee997bf4425")]
#[case::calls(Data::Calls, "7dc50e1070d57212dd8aaf9ec1ea734e")]
fn the_bytes_of_lines_stay_the_same(#[case] data: Data, #[case] expected: &str) {
    let text = all_files(data, 0.001, 42, 2);
    assert_eq!(format!("{:032x}", XxHash3_128::oneshot(text.as_bytes())), expected);
    assert!(text == all_files(data, 0.001, 42, 3), "the number of threads made a difference");
    assert!(text != all_files(data, 0.001, 43, 2), "the seed made no difference");
}

#[test]
fn events_are_inserts_then_changes() {
    let maker = Data::Events.maker(Recipe { scale: 0.01, seed: 7 }).unwrap();
    let text = |files: std::ops::Range<usize>| files.map(|at| file(&*maker, at, 2)).collect::<String>();
    let (inserts, changes, few) = (text(0..8), text(8..12), text(12..maker.files()));
    assert_eq!((inserts.lines().count(), changes.lines().count()), (20_000, 4_000));
    let events: Vec<serde_json::Value> = changes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let share = |op: &str| events.iter().filter(|event| event["op"] == op).count();
    assert!((2_650..2_950).contains(&share("u")) && (330..480).contains(&share("d")), "{}", share("u"));
    assert!((720..880).contains(&share("c")), "{}", share("c"));

    let different: HashSet<&str> = changes.lines().collect();
    assert!((900..1_100).contains(&few.lines().count()) && few.lines().all(|line| different.contains(line)));
    assert!((10..80).contains(&(changes.lines().count() - different.len())), "{} replays", different.len());
    let times: Vec<_> = events.iter().map(|event| event["ts_ms"].as_i64().unwrap()).collect();
    assert!(times.windows(2).filter(|pair| pair[0] > pair[1]).count() > 1_000, "the changes are in order");

    // What decides is unique: no two different events of a customer have the same time and operation.
    let mut seen: HashMap<(String, i64, String), &str> = HashMap::new();
    for (event, line) in events.iter().zip(changes.lines()) {
        let id = if event["after"].is_null() { &event["before"]["id"] } else { &event["after"]["id"] };
        let key = (id.to_string(), event["ts_ms"].as_i64().unwrap(), event["op"].to_string());
        assert_eq!(*seen.entry(key).or_insert(line), line);
    }
}

#[test]
fn policies_change_within_a_year_and_late_ones_since_october() {
    let maker = Data::Policies.maker(Recipe { scale: 0.01, seed: 7 }).unwrap();
    let text: String = (0..maker.files()).map(|at| file(&*maker, at, 2)).collect();
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 11_000);
    let (year, late) = events.split_at(10_000);
    let days = |events: &[serde_json::Value]| {
        let days = || events.iter().map(|event| event["effective_date"].as_str().unwrap().to_owned());
        (days().min().unwrap(), days().max().unwrap())
    };
    assert_eq!(days(year), ("2025-01-01".to_owned(), "2025-12-31".to_owned()));
    assert_eq!(days(late), ("2025-10-01".to_owned(), "2025-12-31".to_owned()));
    let deleted = events.iter().filter(|event| event["status"] == "deleted").count();
    assert!((600..800).contains(&deleted), "{deleted}");
    // What decides is unique.
    let recorded: HashSet<&str> = events.iter().map(|event| event["recorded_at"].as_str().unwrap()).collect();
    assert_eq!(recorded.len(), events.len());
}

#[test]
fn access_records_have_22_fields_of_which_some_are_missing() {
    let text = all_files(Data::Access, 0.001, 42, 2);
    assert_eq!(text.lines().count(), 1_000);
    let records: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names = |record: &serde_json::Value| record["payload"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let all: HashSet<String> = records.iter().flat_map(names).collect();
    assert_eq!(all.len(), 22);
    assert!(records.iter().any(|record| names(record).len() < 22));
    assert!(records.iter().any(|record| record["payload"]["client"].is_null()));
    assert!((540..590).contains(&(text.len() / 1_000)), "{} bytes", text.len());
}

#[test]
fn one_call_in_a_hundred_is_delivered_again() {
    let text = all_files(Data::Calls, 0.01, 42, 2);
    let records: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 10_000);
    let names = |record: &serde_json::Value| record["payload"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(records.iter().flat_map(names).collect::<HashSet<String>>().len(), 22);
    let keys = records.iter().map(|record| (&record["payload"]["sessionId"], &record["payload"]["timestamp"]));
    let keys: HashSet<String> = keys.map(|key| format!("{key:?}")).collect();
    let different: HashSet<&str> = text.lines().collect();
    assert_eq!((keys.len(), different.len()), (9_900, 9_900));
    assert!((540..590).contains(&(text.len() / 10_000)), "{} bytes", text.len());
}

#[test]
fn compressed_files_hold_the_same() {
    let folder = tempfile::TempDir::new().unwrap();
    generate(Data::Access, Recipe { scale: 0.0001, seed: 42 }, folder.path(), 2).unwrap();
    let open = |name: &str| File::open(folder.path().join(name)).unwrap();
    let plain = std::io::read_to_string(open("access/part-19.jsonl")).unwrap();
    let gzip = flate2::read::GzDecoder::new(open("access_gzip/part-19.jsonl.gz"));
    assert_eq!((std::io::read_to_string(gzip).unwrap(), plain.lines().count()), (plain.clone(), 5));
    assert_eq!(find(Data::Access, Recipe { scale: 0.0001, seed: 42 }, folder.path()).unwrap(), Found::Ours);
}
