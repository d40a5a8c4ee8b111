//! Rules and analyzers.

use super::condition::CONDITION;
use super::lexer::{Kind, Token};
use super::types::{Form, Parameters, RuleType};
use super::{Parser, Result, misspelt_keyword};
use crate::error::ParseError;
use crate::text::Text;
use crate::tree::{Analysis, Analyzer, Check, FileMatch, Rule, Tag};

/// A parameter and where it is.
struct Parameter {
    token: Token,
    text: Text,
    /// Whether it is a word without quotes.
    is_word: bool,
}

impl Parser<'_> {
    /// A rule or several with `or` between them, which binds less than `and`.
    pub(super) fn rule(&mut self) -> Result<Rule> {
        self.composite(&["or", "OR"], Check::Or, |parser| parser.composite(&["and", "AND"], Check::And, Self::part))
    }

    fn composite(
        &mut self,
        words: &[&str],
        check: fn(Vec<Rule>) -> Check,
        part: impl Fn(&mut Self) -> Result<Rule>,
    ) -> Result<Rule> {
        let first = part(self)?;
        if !self.word().is_some_and(|word| words.contains(&word)) {
            return Ok(first);
        }
        let position = first.position;
        let mut rules = vec![first];
        while self.takes_word(words) {
            rules.push(part(self)?);
        }
        Ok(Rule { position, ..Rule::new(check(rules)) })
    }

    /// A rule without operators, or anything in parentheses, with its labels.
    fn part(&mut self) -> Result<Rule> {
        let open = self.token();
        if open.kind != Kind::Symbol('(') {
            return self.simple_rule();
        }
        let position = self.position();
        let mut rule = self.nested(open, |parser| {
            parser.advance();
            let rule = parser.rule()?;
            parser.close(open, ')', "`and`, `or` or `)`")?;
            Ok(rule)
        })?;
        if !rule.check.parts().is_empty() {
            rule.position = position;
        }
        let token = self.token();
        if self.is_at_labels() {
            let labels = self.labels_of_rule()?;
            if !rule.labels.is_empty() {
                return Err(self.error(token, "this rule has labels already".into()));
            }
            rule.labels = labels;
        }
        match self.word() {
            Some(word @ ("where" | "with")) => {
                let message = format!("`{word}` belongs to a rule and stands within the parentheses");
                Err(self.error(self.token(), message))
            }
            _ => Ok(rule),
        }
    }

    fn is_at_labels(&self) -> bool {
        self.word() == Some("labels") && self.ahead(1).kind == Kind::Symbol('=')
    }

    fn labels_of_rule(&mut self) -> Result<Vec<crate::tree::Label>> {
        self.advance();
        self.symbol('=')?;
        self.labels()
    }

    /// The name of a type of rule.
    fn rule_type(&mut self, what: &str) -> Result<(Token, &'static RuleType)> {
        let token = self.token();
        let Some(name) = self.word() else { return Err(self.expected(what)) };
        match RuleType::named(name) {
            Some(kind) => {
                self.advance();
                Ok((token, kind))
            }
            None => Err(self.unknown_type(token, name)),
        }
    }

    fn unknown_type(&self, token: Token, name: &str) -> ParseError {
        let error = self.error(token, format!("there is no rule type `{}`", self.shown(token)));
        match RuleType::nearest(name) {
            Some(nearest) if nearest.eq_ignore_ascii_case(name) => {
                error.with_hint(format!("names of rule types are case-sensitive: write `{nearest}`"))
            }
            Some(nearest) => error.with_hint(format!("did you mean `{nearest}`?")),
            None => error,
        }
    }

    fn simple_rule(&mut self) -> Result<Rule> {
        let position = self.position();
        let (token, kind) = self.rule_type(r#"a rule such as `IsComplete "id"`"#)?;
        let parameters = self.parameters(kind)?;
        let check = self.check(token, kind, parameters)?;
        let mut rule = Rule { position, ..Rule::new(check) };
        self.options(kind, &mut rule)?;
        Ok(rule)
    }

    /// Texts and words up to a condition or an option, with `of` and `and` before them.
    fn parameters(&mut self, kind: &RuleType) -> Result<Vec<Parameter>> {
        let (least, most) = kind.parameters;
        let mut parameters = Vec::new();
        loop {
            let mut is_connected = false;
            match self.word() {
                Some("of" | "OF") => {
                    self.advance();
                    is_connected = true;
                }
                // It joins rules, too: a rule that takes no more parameters, or a word that is a type of rule, ends them.
                Some("and" | "AND") => {
                    let is_parameter = match self.ahead(1).kind {
                        Kind::String | Kind::Symbol('$') => true,
                        Kind::Word => self.word_ahead(1).is_some_and(|word| RuleType::named(word).is_none()),
                        _ => false,
                    };
                    if parameters.is_empty() || parameters.len() >= most || !is_parameter {
                        break;
                    }
                    self.advance();
                    is_connected = true;
                }
                _ => {}
            }
            let token = self.token();
            let is_missing = parameters.len() < least;
            let (text, is_word) = match token.kind {
                Kind::String => (self.quoted("a parameter")?.into(), false),
                Kind::Symbol('$') => (self.text_of_variable()?, false),
                // A comma is missing before the next rule.
                Kind::Word if parameters.len() == most && RuleType::named(self.slice(token)).is_some() => break,
                Kind::Word if self.is_parameter(is_missing) => {
                    self.advance();
                    (Text::from(self.slice(token)), true)
                }
                _ if is_connected => return Err(self.expected("a parameter in quotes")),
                _ => break,
            };
            if parameters.len() == most {
                let message = format!("`{}` takes {}", kind.name, count_of_parameters(kind));
                return Err(self.error(token, message).with_hint(format!("write `{}`", kind.usage)));
            }
            parameters.push(Parameter { token, text, is_word });
        }
        if parameters.len() < least {
            let error = self.expected("a parameter in quotes");
            let is_plain = error.hint().is_none() && error.expected().is_some();
            return Err(if is_plain { error.with_hint(format!("write `{}`", kind.usage)) } else { error });
        }
        Ok(parameters)
    }

    /// Whether a word is a parameter, and neither a keyword nor a number.
    fn is_parameter(&self, is_missing: bool) -> bool {
        let word = self.word().unwrap_or_default();
        let is_keyword = matches!(word, "between" | "in" | "not" | "matches" | "where" | "with" | "or" | "OR");
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        // Others, such as `Empty`, cannot stand here in any case.
        let ends_parameters = |keyword: &str| !matches!(keyword, "null" | "empty" | "whitespaces_only" | "labels");
        let is_misspelt = !is_missing && misspelt_keyword(word).is_some_and(ends_parameters);
        !(is_keyword || is_number || is_misspelt || self.is_at_labels())
    }

    /// The condition that a rule of this type has, and what is made of both.
    fn check(&mut self, name: Token, kind: &RuleType, parameters: Vec<Parameter>) -> Result<Check> {
        let hinted = |error: ParseError| match error.hint() {
            None if error.expected() == Some(CONDITION) => error.with_hint(format!("write `{}`", kind.usage)),
            _ => error,
        };
        let tokens: Vec<Token> = parameters.iter().map(|parameter| parameter.token).collect();
        if let Form::DetectAnomalies = kind.form {
            let of = self.measured(parameters)?;
            self.no_condition(kind)?;
            return Ok(Check::DetectAnomalies { of });
        }
        let mut texts = Parameters(parameters.into_iter().map(|p| p.text).collect::<Vec<_>>().into_iter());
        Ok(match kind.form {
            Form::Plain(build) => {
                self.no_condition(kind)?;
                build(texts)
            }
            Form::Pattern(build) => {
                self.no_condition(kind)?;
                build(self.pattern_at(tokens.first().copied().unwrap_or(name))?)
            }
            Form::Metric(build) => {
                let condition = self.number_condition().map_err(hinted)?;
                Check::Metric { metric: build(texts), condition }
            }
            Form::Number(build) => {
                let condition = self.number_condition().map_err(hinted)?;
                build(texts, condition).map_err(|(parameter, reason)| {
                    let token = tokens.get(parameter).copied().unwrap_or(name);
                    self.error(token, format!("{reason}, found {}", self.shown(token)))
                })?
            }
            Form::OptionalNumber(build) => {
                let condition =
                    if self.is_at_condition() { Some(self.number_condition().map_err(hinted)?) } else { None };
                build(texts, condition)
            }
            Form::Values(build) => build(texts, self.value_condition().map_err(hinted)?),
            Form::Strings(build) => build(texts, self.string_condition().map_err(hinted)?),
            Form::Dates(build) => build(texts, self.date_condition().map_err(hinted)?),
            Form::Durations(build) => build(texts, self.duration_condition().map_err(hinted)?),
            Form::Sizes(build) => build(texts, self.size_condition().map_err(hinted)?),
            Form::FileMatch => Check::FileMatch(match (texts.optional(), texts.optional()) {
                (Some(path), Some(other)) => {
                    self.no_condition(kind)?;
                    FileMatch::Paths { path, other }
                }
                (path, _) => FileMatch::Checksums { path, condition: self.string_condition().map_err(hinted)? },
            }),
            Form::DetectAnomalies | Form::AllStatistics => {
                let message = format!("`{}` is an analyzer and not a rule", kind.name);
                return Err(self.error(name, message).with_hint("write it into `Analyzers = [ … ]`"));
            }
        })
    }

    fn no_condition(&self, kind: &RuleType) -> Result<()> {
        if !self.is_at_condition() {
            return Ok(());
        }
        let message = match kind.form {
            Form::FileMatch => "`FileMatch` takes no condition if it compares two paths".to_owned(),
            _ => format!("`{}` takes no condition", kind.name),
        };
        Err(self.error(self.token(), message).with_hint(format!("write `{}`", kind.usage)))
    }

    /// What `DetectAnomalies` or an analyzer measures.
    fn measured(&self, parameters: Vec<Parameter>) -> Result<Analysis> {
        let mut parameters = parameters.into_iter();
        let Some(name) = parameters.next() else { return Err(self.expected("the name of a metric")) };
        let Some(kind) = RuleType::named(&name.text) else { return Err(self.unknown_type(name.token, &name.text)) };
        match self.analysis(name.token, kind, parameters.collect())? {
            Analysis::AllStatistics { .. } => Err(self.error(name.token, "`AllStatistics` is several numbers".into())),
            analysis => Ok(analysis),
        }
    }

    fn analysis(&self, name: Token, kind: &RuleType, parameters: Vec<Parameter>) -> Result<Analysis> {
        let (least, most) = kind.parameters;
        let counted = |count: usize| {
            if (least..=most).contains(&count) {
                return Ok(());
            }
            let token = parameters.get(most).map_or(name, |parameter| parameter.token);
            Err(self.error(token, format!("`{}` takes {}", kind.name, count_of_parameters(kind))))
        };
        counted(parameters.len())?;
        let is_everything = matches!(parameters.as_slice(), [one] if one.is_word && one.text == "AllColumns");
        let mut texts = Parameters(parameters.into_iter().map(|p| p.text).collect::<Vec<_>>().into_iter());
        Ok(match kind.form {
            Form::Metric(build) => Analysis::Metric(build(texts)),
            Form::AllStatistics if is_everything => Analysis::AllStatistics { column: None },
            Form::AllStatistics => Analysis::AllStatistics { column: Some(texts.next()) },
            Form::Values(_) => Analysis::ColumnValues { column: texts.next() },
            Form::Number(_) if kind.name == "ColumnLength" => Analysis::ColumnLength { column: texts.next() },
            _ => {
                let message = format!("`{}` is a rule and measures no number by itself", kind.name);
                return Err(self.error(name, message));
            }
        })
    }

    pub(super) fn analyzer(&mut self) -> Result<Analyzer> {
        let position = self.position();
        let (token, kind) = self.rule_type(r#"an analyzer such as `Completeness "id"`"#)?;
        let parameters = self.parameters(kind)?;
        let analysis = self.analysis(token, kind, parameters)?;
        if self.is_at_condition() {
            let error = self.error(self.token(), "analyzers take no condition".into());
            return Err(error.with_hint("write rules into `Rules = [ … ]`"));
        }
        Ok(Analyzer { analysis, position })
    }

    // --- options ---

    /// `where`, `labels` and `with`, in any order.
    fn options(&mut self, kind: &RuleType, rule: &mut Rule) -> Result<()> {
        loop {
            let token = self.token();
            let twice = |parser: &Self, what: &str| Err(parser.error(token, format!("`{what}` is there twice")));
            if self.is_at_labels() {
                if !rule.labels.is_empty() {
                    return twice(self, "labels");
                }
                rule.labels = self.labels_of_rule()?;
            } else if self.takes_word(&["where"]) {
                if rule.filter.is_some() {
                    return twice(self, "where");
                }
                if !kind.filter {
                    return Err(self.error(token, format!("`{}` takes no `where`", kind.name)));
                }
                let place = self.token();
                let filter = self.quoted("an SQL condition in quotes")?;
                if filter.is_empty() {
                    return Err(self.error(place, "the SQL condition is empty".into()));
                }
                rule.filter = Some(filter);
            } else if self.takes_word(&["with"]) {
                self.tag(kind, rule)?;
            } else {
                return Ok(());
            }
        }
    }

    fn tag(&mut self, kind: &RuleType, rule: &mut Rule) -> Result<()> {
        let token = self.token();
        let Some(name) = self.word() else { return Err(self.expected("`threshold` or the name of a tag")) };
        self.advance();
        if name.eq_ignore_ascii_case("threshold") {
            if !kind.threshold {
                return Err(self.error(token, format!("`{}` takes no threshold", kind.name)));
            }
            if rule.threshold.is_some() {
                return Err(self.error(token, "a rule has one threshold".into()));
            }
            rule.threshold = Some(self.number_condition()?);
            return Ok(());
        }
        if rule.tags.iter().any(|tag| tag.name == name) {
            return Err(self.error(token, format!("the tag `{}` is there twice", self.shown(token))));
        }
        // Rules with many tags would be compared quadratically; there are a dozen tags altogether.
        if rule.tags.len() == MAX_TAGS {
            return Err(self.error(token, format!("a rule has at most {MAX_TAGS} tags")));
        }
        if !self.is_symbol('=') {
            return Err(self.expected("`=`: tags take no other comparison"));
        }
        self.advance();
        let value = match self.token().kind {
            Kind::Symbol('-') | Kind::Word => self.literal()?.to_string(),
            _ => self.quoted("a text in quotes or a number")?,
        };
        rule.tags.push(Tag { name: name.to_owned(), value });
        Ok(())
    }
}

const MAX_TAGS: usize = 32;

fn count_of_parameters(kind: &RuleType) -> String {
    match kind.parameters {
        (0, 0) => "no parameters".to_owned(),
        (1, 1) => "one parameter".to_owned(),
        (least, most) if least == most => format!("{least} parameters"),
        (least, usize::MAX) => format!("at least {least} parameters"),
        (least, most) => format!("{least} to {most} parameters"),
    }
}
