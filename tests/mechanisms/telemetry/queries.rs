//! Checks the Grafana dashboard and the alerts: each query uses existing metrics and labels, each metric has a panel,
//! and each alert has a severity and instructions.

use super::promql::{self, Selector};
use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;
use std::collections::BTreeSet;
use steadfast::telemetry::{METRICS, MetricInfo, MetricKind};

const DASHBOARD: &str = include_str!("../../../examples/dashboard/grafana.json");
const ALERTS: &str = include_str!("../../../examples/dashboard/alerts.yaml");

/// Functions over a range of a counter.
const OF_COUNTERS: [&str; 3] = ["rate", "irate", "increase"];
/// Labels that a scrape adds to every series.
const OF_THE_SCRAPE: [&str; 2] = ["instance", "job"];

struct Query {
    of: String,
    text: String,
}

/// Every string in a field of this name, at any depth.
fn strings<'v>(value: &'v Value, field: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| strings(item, field, found)),
        Value::Object(fields) => {
            found.extend(fields.get(field).and_then(Value::as_str));
            fields.values().for_each(|inner| strings(inner, field, found));
        }
        _ => {}
    }
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).expect("the dashboard is JSON")
}

fn of_the_dashboard() -> Vec<Query> {
    let dashboard = dashboard();
    let mut texts = Vec::new();
    strings(&dashboard, "expr", &mut texts);
    let queries = texts.into_iter().map(|text| Query { of: "dashboard".into(), text: text.to_owned() });
    queries.collect()
}

/// The rules, each a mapping.
fn rules() -> Vec<Yaml<'static>> {
    let documents = Yaml::load_from_str(ALERTS).expect("the alerts are YAML");
    let groups = documents[0].as_mapping_get("groups").and_then(Yaml::as_vec).expect("groups");
    let rules = groups.iter().flat_map(|group| group.as_mapping_get("rules").and_then(Yaml::as_vec).expect("rules"));
    rules.cloned().collect()
}

fn text<'r>(rule: &'r Yaml<'_>, path: &[&str]) -> &'r str {
    let found = path.iter().try_fold(rule, |node, field| node.as_mapping_get(field)).and_then(Yaml::as_str);
    found.unwrap_or_else(|| panic!("a rule without a text {path:?}: {rule:?}"))
}

fn of_the_alerts() -> Vec<Query> {
    let query = |rule: &Yaml| Query { of: text(rule, &["alert"]).to_owned(), text: text(rule, &["expr"]).to_owned() };
    rules().iter().map(query).collect()
}

fn all() -> Vec<Query> {
    let all: Vec<_> = of_the_dashboard().into_iter().chain(of_the_alerts()).collect();
    assert!(all.len() > 40, "only {} queries were found", all.len());
    all
}

/// The metric of a name in a query, and whether it is cumulative: a counter, or a part of a histogram.
fn lookup(name: &str) -> Option<(&'static MetricInfo, bool)> {
    let by_name = |name: &str| METRICS.iter().find(|info| info.name == name);
    if let Some(info) = by_name(name) {
        // A histogram has no series of its own name.
        return (info.kind != MetricKind::Histogram).then_some((info, info.kind == MetricKind::Counter));
    }
    let parts = ["_bucket", "_sum", "_count"].iter();
    let info = parts.filter_map(|part| name.strip_suffix(part)).find_map(by_name)?;
    (info.kind == MetricKind::Histogram).then_some((info, true))
}

/// The fault of a query, if it has one.
fn fault(query: &str) -> Option<String> {
    let parsed = promql::parse(query);
    if parsed.selectors.is_empty() {
        return Some("it asks for no metric of this crate".to_owned());
    }
    let mut labels: BTreeSet<&str> = OF_THE_SCRAPE.into();
    for Selector { metric, matchers, function, has_range } in &parsed.selectors {
        let Some((info, counts)) = lookup(metric) else { return Some(format!("there is no {metric}")) };
        let in_rate = function.as_deref().is_some_and(|function| OF_COUNTERS.contains(&function));
        if counts != in_rate || counts != *has_range {
            return Some(format!("{metric} is a {:?}, and stands in {function:?}", info.kind));
        }
        let mut own: BTreeSet<&str> = info.labels.iter().copied().chain(OF_THE_SCRAPE).collect();
        own.extend(metric.ends_with("_bucket").then_some("le"));
        if let Some(other) = matchers.iter().find(|label| !own.contains(label.as_str())) {
            return Some(format!("{metric} has no label {other}"));
        }
        labels.extend(own);
    }
    let unknown = parsed.grouped_by.iter().find(|label| !labels.contains(label.as_str()));
    unknown.map(|label| format!("none of its metrics has a label {label}"))
}

#[test]
fn every_query_uses_existing_metrics_and_labels() {
    for Query { of, text } in all() {
        assert_eq!(fault(&text), None, "in a query of {of}: {text}");
    }
}

#[test]
fn a_query_with_an_unknown_metric_or_label_is_found() {
    for (query, expected) in [
        ("sum(rate(steadfast_calls_total[5m]))", "there is no steadfast_calls_total"),
        ("rate(steadfast_call_duration_seconds[5m])", "there is no steadfast_call_duration_seconds"),
        ("steadfast_in_flight_count", "there is no steadfast_in_flight_count"),
        ("rate(steadfast_in_flight[5m])", "steadfast_in_flight is a Gauge, and stands in Some(\"rate\")"),
        ("sum(steadfast_rejections_total)", "steadfast_rejections_total is a Counter, and stands in Some(\"sum\")"),
        ("sum by (tenant) (steadfast_queue_waiting)", "none of its metrics has a label tenant"),
        ("steadfast_queue_waiting{stack=\"a, b}\", tier=\"c\"}", "steadfast_queue_waiting has no label tier"),
        ("up == 0", "it asks for no metric of this crate"),
    ] {
        assert_eq!(fault(query).as_deref(), Some(expected), "{query}");
    }
    let right = "histogram_quantile(0.9, sum by (le) (rate(steadfast_queue_wait_seconds_bucket{stack=~\"a|b\"}[5m])))";
    assert_eq!(fault(right), None);
}

#[test]
fn every_metric_has_a_panel() {
    let asked: BTreeSet<_> = of_the_dashboard()
        .iter()
        .flat_map(|query| promql::parse(&query.text).selectors)
        .filter_map(|selector| lookup(&selector.metric))
        .map(|(info, _)| info.name)
        .collect();
    let missing: Vec<_> = METRICS.iter().map(|info| info.name).filter(|name| !asked.contains(name)).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

#[test]
fn every_alert_has_a_severity_and_instructions() {
    for rule in rules() {
        let alert = text(&rule, &["alert"]);
        assert!(["page", "ticket"].contains(&text(&rule, &["labels", "severity"])), "{alert}");
        let wait = text(&rule, &["for"]);
        assert!(wait.ends_with(['s', 'm', 'h']) && !wait.starts_with('0'), "{alert} waits for {wait}");
        assert!(text(&rule, &["annotations", "description"]).len() > 40, "{alert}");
        // A label that the aggregation of the query removes would be empty in the annotation.
        let kept = promql::parse(text(&rule, &["expr"])).grouped_by;
        let said = [text(&rule, &["annotations", "summary"]), text(&rule, &["annotations", "description"])].concat();
        for label in said.split("$labels.").skip(1) {
            let label: String = label.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(kept.contains(&label), "{alert} speaks of {label}");
        }
    }
}

#[test]
fn a_legend_names_labels_that_its_query_keeps() {
    fn walk(value: &Value, seen: &mut usize) {
        if let (Some(query), Some(legend)) = (value["expr"].as_str(), value["legendFormat"].as_str()) {
            *seen += 1;
            let kept = promql::parse(query).grouped_by;
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                assert!(kept.iter().any(|kept| kept == label), "{legend} of {query}");
            }
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, seen)),
            Value::Object(fields) => fields.values().for_each(|inner| walk(inner, seen)),
            _ => {}
        }
    }
    let mut seen = 0;
    walk(&dashboard(), &mut seen);
    assert!(seen > 30, "only {seen} legends were found");
}

#[test]
fn the_dashboard_has_variables_for_data_source_and_stacks() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let kinds: Vec<_> = variables.iter().map(|variable| (&variable["name"], &variable["type"])).collect();
    assert_eq!(
        format!("{kinds:?}"),
        r#"[(String("datasource"), String("datasource")), (String("stack"), String("query"))]"#
    );
    let mut sources = Vec::new();
    strings(&dashboard, "uid", &mut sources);
    sources.retain(|uid| *uid != "steadfast");
    assert!(sources.len() > 40 && sources.iter().all(|uid| *uid == "${datasource}"), "{sources:?}");
    let definition = variables[1]["definition"].as_str().expect("a definition");
    let asked = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(", stack)"));
    let (info, _) = lookup(asked.expect("the stacks are label values")).expect("the metric exists");
    assert!(info.labels.contains(&"stack"));
}
