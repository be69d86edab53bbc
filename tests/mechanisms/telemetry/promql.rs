//! A parser for the part of PromQL that names the series of a query.

/// The series of a query.
#[derive(Debug, Default)]
pub struct Parsed {
    pub selectors: Vec<Selector>,
    /// The labels in `by (..)`.
    pub grouped_by: Vec<String>,
}

/// A metric whose name begins with `steadfast_`, as a query asks for it.
#[derive(Debug, PartialEq)]
pub struct Selector {
    pub metric: String,
    /// The labels in braces.
    pub matchers: Vec<String>,
    /// The innermost function or aggregation around it.
    pub function: Option<String>,
    pub has_range: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text,
    Sign(char),
}

/// Words, quoted texts, and single signs, without blanks.
fn tokens(query: &str) -> Vec<Token> {
    let mut rest = query.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(first) = rest.next() {
        if first == '"' {
            while let Some(next) = rest.next() {
                match next {
                    '\\' => drop(rest.next()),
                    '"' => break,
                    _ => {}
                }
            }
            tokens.push(Token::Text);
        } else if is_of_word(first) {
            let mut word = String::from(first);
            while let Some(next) = rest.next_if(|next| is_of_word(*next)) {
                word.push(next);
            }
            tokens.push(Token::Word(word));
        } else if !first.is_whitespace() {
            tokens.push(Token::Sign(first));
        }
    }
    tokens
}

/// Includes `$`, so that `$__rate_interval` is a word.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '$')
}

/// Returns the names of labels in braces, and the number of tokens up to and including the closing brace. `tokens`
/// begins after the opening brace.
fn braces(tokens: &[Token]) -> (Vec<String>, usize) {
    let end = tokens.iter().position(|token| *token == Token::Sign('}')).expect("braces are closed");
    let words = tokens[..end].iter().filter_map(|token| match token {
        Token::Word(word) => Some(word.clone()),
        _ => None,
    });
    (words.collect(), end + 1)
}

pub fn parse(query: &str) -> Parsed {
    let tokens = tokens(query);
    let mut parsed = Parsed::default();
    // The function of each open parenthesis.
    let mut open: Vec<Option<String>> = Vec::new();
    let mut at = 0;
    // The aggregation whose labels were just read.
    let mut aggregation = None;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Word(by) if matches!(by.as_str(), "by" | "without" | "on" | "ignoring") => {
                let end =
                    at + tokens[at..].iter().position(|token| *token == Token::Sign(')')).expect("a list of labels");
                if by == "by" {
                    parsed.grouped_by.extend(tokens[at + 2..end].iter().filter_map(|token| match token {
                        Token::Word(label) => Some(label.clone()),
                        _ => None,
                    }));
                }
                aggregation = at.checked_sub(1).and_then(|before| match &tokens[before] {
                    Token::Word(word) => Some(word.clone()),
                    _ => None,
                });
                at = end;
            }
            Token::Word(metric) if metric.starts_with("steadfast_") => {
                let mut matchers = Vec::new();
                if tokens.get(at + 1) == Some(&Token::Sign('{')) {
                    let (labels, length) = braces(&tokens[at + 2..]);
                    matchers = labels;
                    at += 1 + length;
                }
                parsed.selectors.push(Selector {
                    metric: metric.clone(),
                    matchers,
                    function: open.last().cloned().flatten(),
                    has_range: tokens.get(at + 1) == Some(&Token::Sign('[')),
                });
            }
            Token::Sign('(') => {
                let before = at.checked_sub(1).map(|before| &tokens[before]);
                open.push(match (aggregation.take(), before) {
                    (Some(aggregation), _) => Some(aggregation),
                    (None, Some(Token::Word(function))) => Some(function.clone()),
                    _ => None,
                });
            }
            Token::Sign(')') => drop(open.pop()),
            _ => {}
        }
        at += 1;
    }
    assert!(open.is_empty(), "parentheses are open in {query}");
    parsed
}

#[test]
fn a_query_is_parsed_into_selectors_and_labels() {
    let parsed = parse(
        r#"sum by (a, b) (rate(steadfast_x_total{c="steadfast_no, d=1", e!~"f"}[$__rate_interval]))
            / steadfast_y > 0.5"#,
    );
    let selector = |metric: &str, matchers: &[&str], function: Option<&str>, has_range| Selector {
        metric: metric.to_owned(),
        matchers: matchers.iter().map(|label| (*label).to_owned()).collect(),
        function: function.map(str::to_owned),
        has_range,
    };
    assert_eq!(parsed.grouped_by, ["a", "b"]);
    assert_eq!(
        parsed.selectors,
        [selector("steadfast_x_total", &["c", "e"], Some("rate"), true), selector("steadfast_y", &[], None, false),]
    );
    assert_eq!(parse("max by (a) (steadfast_z)").selectors, [selector("steadfast_z", &[], Some("max"), false)]);
}
