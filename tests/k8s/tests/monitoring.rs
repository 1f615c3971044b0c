//! Alert rules and dashboard name metrics that there are, in queries that Prometheus understands.

use std::collections::{BTreeMap, BTreeSet};

use chronik_k8s_tests::tool::repository;
use serde_json::Value;

fn read(file: &str) -> String {
    let path = repository().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The names of series of every documented metric, with its labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = read("docs/reference/metrics.md");
    let mut series = BTreeMap::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = cells[..] else { continue };
        let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else { continue };
        let labels: BTreeSet<String> = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`').to_owned())
            .filter(|label| !label.is_empty())
            .collect();
        let suffixes: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "gauge" => &[""],
            other => panic!("{name} is a {other}?"),
        };
        for suffix in suffixes {
            let mut labels = labels.clone();
            labels.extend(["namespace", "pod", "chronik_cluster"].map(str::to_owned));
            labels.extend((*suffix == "_bucket").then(|| "le".to_owned()));
            series.insert(format!("{name}{suffix}"), labels);
        }
    }
    assert!(series.len() > 50, "the page of metrics was not understood: {series:?}");
    series
}

/// Every query of the rules and of the dashboard, with where it is.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    let rules: Value = serde_yaml::from_str(&read("deploy/monitoring/rules.yaml")).expect("the rules are YAML");
    for group in rules["groups"].as_array().expect("there are groups") {
        for rule in group["rules"].as_array().expect("a group has rules") {
            let name = rule["alert"].as_str().expect("a rule has a name");
            for needed in ["summary", "description"] {
                assert!(rule["annotations"][needed].is_string(), "{name} has no {needed}");
            }
            queries.push((name.to_owned(), rule["expr"].as_str().expect("a rule has a query").to_owned()));
        }
    }
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).expect("it is JSON");
    for panel in dashboard["panels"].as_array().expect("there are panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().expect("a panel has a title");
            let query = target["expr"].as_str().expect("a target has a query");
            queries.push((title.to_owned(), query.replace("$__rate_interval", "5m")));
        }
    }
    assert!(queries.len() > 30, "{queries:?}");
    queries
}

/// The series that a query reads, and the labels that it goes by.
fn walk(expr: &promql_parser::parser::Expr, series: &mut Vec<String>, labels: &mut BTreeSet<String>) {
    use promql_parser::parser::{Expr, LabelModifier};
    let mut selector = |selector: &promql_parser::parser::VectorSelector| {
        series.extend(selector.name.clone());
        labels.extend(selector.matchers.matchers.iter().map(|matcher| matcher.name.clone()));
    };
    match expr {
        Expr::VectorSelector(found) => selector(found),
        Expr::MatrixSelector(found) => selector(&found.vs),
        Expr::Aggregate(aggregate) => {
            if let Some(LabelModifier::Include(by)) = &aggregate.modifier {
                labels.extend(by.labels.iter().cloned());
            }
            walk(&aggregate.expr, series, labels);
        }
        Expr::Call(call) => call.args.args.iter().for_each(|argument| walk(argument, series, labels)),
        Expr::Binary(binary) => [&binary.lhs, &binary.rhs].into_iter().for_each(|side| walk(side, series, labels)),
        Expr::Paren(paren) => walk(&paren.expr, series, labels),
        Expr::NumberLiteral(_) => {}
        other => panic!("the test does not know such a query: {other:?}"),
    }
}

#[test]
fn every_query_is_understood_and_reads_what_there_is() {
    let documented = documented();
    for (place, query) in queries() {
        let parsed = promql_parser::parser::parse(&query).unwrap_or_else(|why| panic!("{place}: {why}: {query}"));
        let (mut series, mut labels) = (Vec::new(), BTreeSet::new());
        walk(&parsed, &mut series, &mut labels);
        assert!(!series.is_empty(), "{place} reads nothing");
        for name in series {
            let has = documented.get(&name).unwrap_or_else(|| panic!("{place}: there is no series {name}"));
            let missing: Vec<_> = labels.difference(has).collect();
            assert!(missing.is_empty(), "{place}: {name} has no labels {missing:?}");
        }
    }
}
