//! Laws of parser and printer: of random trees, and of random texts.

use chrono::{NaiveDate, NaiveTime};
use hardtack_dqdl::{
    Aggregate, Aggregation, Analysis, Analyzer, Check, ColumnList, ColumnPairs, Condition, DataSources, DateValue,
    Decimal, Duration, DurationUnit, Dynamic, FileMatch, Label, Metadata, Metric, Number, Operator, Pattern,
    ReferenceColumns, Rule, RuleSet, Size, SizeUnit, StringCondition, StringValue, Tag, Text, ValueCondition, Variable,
    VariableValue, parse,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

/// Texts, of which some have what the printer must escape.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z][a-zA-Z0-9_. -]{0,8}",
        "[\"\\\\'$#\\[\\], \n\t\r=a]{1,6}",
        "\\PC{1,5}",
        select(vec!["NULL", "now()", "and", "2024-01-01", "9:30 AM", "", "AllColumns", "éß→"]).prop_map(str::to_owned),
    ]
}

fn name() -> impl Strategy<Value = Text> {
    text().prop_map(Text::from)
}

/// Names in the parameters that have separators.
fn plain() -> impl Strategy<Value = String> {
    "[a-zA-Z_\"\\\\$][a-zA-Z0-9_\"\\\\$]{0,5}"
}

fn decimal() -> impl Strategy<Value = Decimal> {
    "-?[0-9]{1,40}(\\.[0-9]{1,40})?".prop_map(|text| text.parse().unwrap())
}

fn number() -> impl Strategy<Value = Number> {
    let function =
        select(vec![Aggregate::Avg, Aggregate::Median, Aggregate::Max, Aggregate::Min, Aggregate::Sum, Aggregate::Std]);
    let dynamic = prop_oneof![
        Just(Dynamic::Last),
        (function, 1..50u32).prop_map(|(function, runs)| Dynamic::Aggregate { function, runs }),
        (1..50u32, "0\\.[0-9]{1,3}|1\\.0|0")
            .prop_map(|(runs, fraction)| Dynamic::Percentile { runs, fraction: fraction.parse().unwrap() }),
        (1..50u32, 0..50u32).prop_map(|(runs, at)| Dynamic::Index { runs, at: at % runs }),
    ];
    let leaf = prop_oneof![3 => decimal().prop_map(Number::Literal), 1 => dynamic.prop_map(Number::Dynamic)];
    leaf.prop_recursive(4, 12, 3, |inner| {
        let operator = select(vec![Operator::Add, Operator::Subtract, Operator::Multiply, Operator::Divide]);
        prop_oneof![
            inner.clone().prop_map(|number| Number::Abs(Box::new(number))),
            (inner.clone(), vec((operator, inner), 1..4))
                .prop_map(|(first, rest)| Number::Arithmetic { first: Box::new(first), rest }),
        ]
    })
}

fn condition<T: Clone + std::fmt::Debug + 'static>(
    operand: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = Condition<T>> {
    let one = (operand.clone(), 0..6).prop_map(|(x, kind)| match kind {
        0 => Condition::Equal(x),
        1 => Condition::NotEqual(x),
        2 => Condition::GreaterThan(x),
        3 => Condition::AtLeast(x),
        4 => Condition::LessThan(x),
        _ => Condition::AtMost(x),
    });
    let two = (operand.clone(), operand.clone(), any::<bool>())
        .prop_map(|(x, y, not)| if not { Condition::NotBetween(x, y) } else { Condition::Between(x, y) });
    let list = (vec(operand, 1..4), any::<bool>())
        .prop_map(|(list, not)| if not { Condition::NotIn(list) } else { Condition::In(list) });
    prop_oneof![one, two, list]
}

fn numbers() -> impl Strategy<Value = Condition<Number>> {
    condition(number().boxed())
}

fn duration() -> impl Strategy<Value = Duration> {
    let unit = select(vec![DurationUnit::Days, DurationUnit::Hours, DurationUnit::Minutes]);
    (any::<u32>(), unit).prop_map(|(amount, unit)| Duration { amount, unit })
}

fn date() -> impl Strategy<Value = DateValue> {
    prop_oneof![
        (0..10_000i32, 1..367u32)
            .prop_filter_map("no such day", |(year, day)| { NaiveDate::from_yo_opt(year, day).map(DateValue::Date) }),
        (0..24u32, 0..60u32)
            .prop_map(|(hour, minute)| { DateValue::Time(NaiveTime::from_hms_opt(hour, minute, 0).unwrap()) }),
        Just(DateValue::Now),
        duration().prop_map(DateValue::Before),
        duration().prop_map(DateValue::After),
    ]
}

fn string() -> impl Strategy<Value = StringValue> {
    prop_oneof![
        4 => name().prop_map(StringValue::Text),
        1 => select(vec![StringValue::Null, StringValue::Empty, StringValue::WhitespacesOnly]),
    ]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    "([a-z\"]|\\\\\\\\|\\\\\"|\\\\d|\\[a-z\"\\]\\+|\\(x\\|y\\)){0,5}".prop_map(|text| Pattern::new(&text))
}

fn strings() -> impl Strategy<Value = StringCondition> {
    prop_oneof![
        string().prop_map(StringCondition::Equal),
        string().prop_map(StringCondition::NotEqual),
        vec(string(), 1..4).prop_map(|list| StringCondition::In(list.into_iter().collect())),
        vec(string(), 1..4).prop_map(|list| StringCondition::NotIn(list.into_iter().collect())),
        pattern().prop_map(StringCondition::Matches),
        pattern().prop_map(StringCondition::NotMatches),
    ]
}

fn values() -> impl Strategy<Value = ValueCondition> {
    fn is_list<T>(condition: &Condition<T>) -> bool {
        matches!(condition, Condition::In(_) | Condition::NotIn(_))
    }
    // A text that looks like a date is one, unless another text of the list does not.
    let strings = strings().prop_filter("all are dates", |condition| {
        let is_date =
            |value: &StringValue| matches!(value, StringValue::Text(t) if t == "2024-01-01" || t == "9:30 AM");
        match condition {
            StringCondition::Equal(value) | StringCondition::NotEqual(value) => !is_date(value),
            StringCondition::In(list) | StringCondition::NotIn(list) => !list.iter().any(is_date),
            _ => true,
        }
    });
    prop_oneof![
        (numbers(), any::<bool>())
            .prop_map(|(condition, null)| { ValueCondition::Numbers { null: null && is_list(&condition), condition } }),
        (condition(date().boxed()), any::<bool>())
            .prop_map(|(condition, null)| ValueCondition::Dates { null: null && is_list(&condition), condition }),
        strings.prop_map(ValueCondition::Strings),
    ]
}

fn metric() -> impl Strategy<Value = Metric> {
    prop_oneof![
        select(vec![Metric::RowCount, Metric::ColumnCount]),
        (name(), 0..13).prop_map(|(column, kind)| match kind {
            0 => Metric::Completeness { column },
            1 => Metric::UniqueValueRatio { column },
            2 => Metric::DistinctValuesCount { column },
            3 => Metric::Mean { column },
            4 => Metric::Sum { column },
            5 => Metric::StandardDeviation { column },
            6 => Metric::Variance { column },
            7 => Metric::Entropy { column },
            8 => Metric::ZerosCount { column },
            9 => Metric::Range { column },
            10 => Metric::InterquartileRange { column },
            11 => Metric::Skewness { column },
            _ => Metric::Kurtosis { column },
        }),
        vec(name(), 1..4).prop_map(|columns| Metric::Uniqueness { columns }),
        vec(name(), 0..4).prop_map(|columns| Metric::DuplicateRowCount { columns }),
        (name(), name()).prop_map(|(first, second)| Metric::ColumnCorrelation { first, second }),
    ]
}

fn analysis() -> impl Strategy<Value = Analysis> {
    prop_oneof![
        3 => metric().prop_map(Analysis::Metric),
        1 => name().prop_map(|column| Analysis::ColumnLength { column }),
        1 => name().prop_map(|column| Analysis::ColumnValues { column }),
    ]
}

fn analyzer() -> impl Strategy<Value = Analyzer> {
    let all = of(name()).prop_map(|column| Analysis::AllStatistics { column });
    prop_oneof![4 => analysis(), 1 => all].prop_map(Analyzer::from)
}

fn pairs() -> impl Strategy<Value = ColumnPairs> {
    vec((plain(), plain()), 1..4).prop_map(ColumnPairs::new)
}

/// As many columns on both sides.
fn references() -> impl Strategy<Value = (ColumnList, ReferenceColumns)> {
    (plain(), vec((plain(), plain()), 1..4)).prop_map(|(alias, pairs)| {
        let (ours, others): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        (ColumnList::new(ours), ReferenceColumns::new(&alias, others))
    })
}

fn aggregation() -> impl Strategy<Value = Aggregation> {
    (of(plain()), plain(), any::<bool>()).prop_map(|(alias, column, is_sum)| {
        if is_sum { Aggregation::sum(alias.as_deref(), &column) } else { Aggregation::avg(alias.as_deref(), &column) }
    })
}

/// A check, whether it takes a filter, and whether it takes a threshold.
fn check() -> impl Strategy<Value = (Check, bool, bool)> {
    let columns = || vec(name(), 1..4);
    let plain_checks = prop_oneof![
        name().prop_map(|column| Check::IsComplete { column }),
        columns().prop_map(|columns| Check::IsUnique { columns }),
        columns().prop_map(|columns| Check::IsPrimaryKey { columns }),
    ];
    let named = prop_oneof![
        name().prop_map(|column| Check::ColumnExists { column }),
        pattern().prop_map(|pattern| Check::ColumnNamesMatchPattern { pattern }),
        (name(), numbers()).prop_map(|(reference, condition)| Check::RowCountMatch { reference, condition }),
        (name(), numbers()).prop_map(|(reference, condition)| Check::SchemaMatch { reference, condition }),
        (references(), numbers()).prop_map(|((columns, reference), condition)| {
            Check::ReferentialIntegrity { columns, reference, condition }
        }),
        (name(), pairs(), of(pairs()), numbers()).prop_map(|(reference, keys, columns, condition)| {
            Check::DatasetMatch { reference, keys, columns, condition }
        }),
        (aggregation(), aggregation(), numbers()).prop_map(|(first, second, condition)| Check::AggregateMatch {
            first,
            second,
            condition
        }),
        analysis().prop_map(|of| Check::DetectAnomalies { of }),
        (name(), name()).prop_map(|(path, other)| Check::FileMatch(FileMatch::Paths { path, other })),
        (of(name()), strings())
            .prop_map(|(path, condition)| Check::FileMatch(FileMatch::Checksums { path, condition })),
        (of(name()), numbers()).prop_map(|(path, condition)| Check::FileUniqueness { path, condition }),
    ];
    let size = (any::<u32>(), select(vec![SizeUnit::B, SizeUnit::KB, SizeUnit::MB, SizeUnit::GB, SizeUnit::TB]))
        .prop_map(|(amount, unit)| Size { amount, unit });
    let with_threshold = prop_oneof![
        (name(), of(numbers())).prop_map(|(statement, condition)| Check::CustomSql { statement, condition }),
        (of(name()), condition(date().boxed())).prop_map(|(path, condition)| Check::FileFreshness { path, condition }),
        (of(name()), condition(size.boxed())).prop_map(|(path, condition)| Check::FileSize { path, condition }),
    ];
    let with_both = prop_oneof![
        (name(), strings()).prop_map(|(column, condition)| Check::ColumnDataType { column, condition }),
        (name(), numbers()).prop_map(|(column, condition)| Check::ColumnLength { column, condition }),
        (name(), values()).prop_map(|(column, condition)| Check::ColumnValues { column, condition }),
    ];
    prop_oneof![
        (metric(), numbers()).prop_map(|(metric, condition)| {
            let has_filter = metric != Metric::ColumnCount;
            (Check::Metric { metric, condition }, has_filter, false)
        }),
        plain_checks.prop_map(|check| (check, true, false)),
        (name(), condition(duration().boxed())).prop_map(|(column, condition)| (
            Check::DataFreshness { column, condition },
            true,
            false
        )),
        named.prop_map(|check| (check, false, false)),
        with_threshold.prop_map(|check| (check, false, true)),
        with_both.prop_map(|check| (check, true, true)),
    ]
}

fn labels() -> impl Strategy<Value = Vec<Label>> {
    vec((text(), text()), 0..4).prop_map(|pairs| {
        let mut labels: Vec<Label> = Vec::new();
        for (key, value) in pairs {
            if !key.is_empty() && !value.is_empty() && labels.iter().all(|label| label.key != key) {
                labels.push(Label { key, value });
            }
        }
        labels
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let tags = vec(("[a-z]{1,6}[A-Z]", text()), 0..3).prop_map(|mut tags| {
        tags.sort();
        tags.dedup_by(|a, b| a.0 == b.0);
        tags.into_iter().map(|(name, value)| Tag { name, value }).collect::<Vec<_>>()
    });
    let simple =
        (check(), of(text()), of(numbers()), tags, labels()).prop_map(|(check, filter, threshold, tags, labels)| {
            let (check, takes_filter, takes_threshold) = check;
            let filter = filter.filter(|filter| takes_filter && !filter.is_empty());
            let threshold = threshold.filter(|_| takes_threshold);
            Rule { filter, threshold, tags, labels, ..Rule::new(check) }
        });
    simple.prop_recursive(3, 10, 4, |inner| {
        (vec(inner, 2..4), any::<bool>(), labels()).prop_map(|(rules, is_and, labels)| {
            let check = if is_and { Check::And(rules) } else { Check::Or(rules) };
            Rule { labels, ..Rule::new(check) }
        })
    })
}

fn set() -> impl Strategy<Value = RuleSet> {
    let value = prop_oneof![string().prop_map(VariableValue::One), vec(string(), 1..4).prop_map(VariableValue::List),];
    let variables = vec(("[a-z][a-z0-9_.]{0,5}", value), 0..4).prop_map(|mut variables| {
        variables.sort_by(|a, b| a.0.cmp(&b.0));
        variables.dedup_by(|a, b| a.0 == b.0);
        variables.into_iter().map(|(name, value)| Variable { name, value }).collect()
    });
    let sources = (of(text()), vec(text(), 0..3)).prop_map(|(primary, additional)| DataSources { primary, additional });
    let metadata = of(text()).prop_map(|version| Metadata { version });
    (metadata, sources, labels(), variables, vec(rule(), 1..4), vec(analyzer(), 0..3)).prop_map(
        |(metadata, data_sources, default_labels, variables, rules, analyzers)| RuleSet {
            metadata,
            data_sources,
            default_labels,
            variables,
            rules,
            analyzers,
        },
    )
}

proptest! {
    #[test]
    fn a_tree_parses_as_it_prints(set in set()) {
        let printed = set.to_string();
        let parsed = parse(&printed).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&parsed, &set, "{}", printed);
        prop_assert_eq!(parsed.to_string(), printed);
        prop_assert!(set.check().is_ok());
    }

    #[test]
    fn a_rule_parses_as_it_prints(rule in rule()) {
        let printed = rule.to_string();
        prop_assert_eq!(printed.parse::<Rule>().map_err(|e| TestCaseError::fail(e.to_string()))?, rule, "{}", printed);
    }

    #[test]
    fn what_is_printed_is_printed_the_same_again(set in set(), spaces in vec(select(vec![" ", "\n", "\t", "# x\n"]), 1..8)) {
        // The same document with other white space between its tokens; what is between quotes stays.
        let printed = set.to_string();
        let mut spaces = spaces.into_iter().cycle();
        let mut text = String::new();
        let (mut is_quoted, mut is_escaped) = (false, false);
        for c in printed.chars() {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' if is_quoted => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                ' ' | '\n' if !is_quoted => text.push_str(spaces.next().unwrap_or_default()),
                _ => {}
            }
            text.push(c);
        }
        let parsed = parse(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(parsed.to_string(), printed);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}", rule in "[A-Z][a-zA-Z]{2,9} [\\PC\"\\[\\]()]{0,30}") {
        for text in [text.clone(), format!("Rules = [ {text} ]"), format!("Rules = [ {rule} ]"), format!("x = {text}")] {
            match parse(&text) {
                Ok(set) => prop_assert_eq!(parse(&set.to_string()).unwrap(), set),
                Err(error) => prop_assert!(error.line() > 0 && error.column() > 0 && !error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn a_truncated_document_is_refused_or_prints(set in set(), at in any::<prop::sample::Index>()) {
        let printed = set.to_string();
        let boundaries: Vec<usize> = printed.char_indices().map(|(at, _)| at).collect();
        match parse(&printed[..boundaries[at.index(boundaries.len())]]) {
            Ok(set) => prop_assert_eq!(parse(&set.to_string()).unwrap(), set),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
