//! The modules of `src` stand in layers, and a module imports only from the layers below its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, iter,
    path::{Path, PathBuf},
};

/// The layers from the bottom up. A module may import the modules of all layers before its own. Only modules of the
/// first layer may also import each other.
const LAYERS: [&[&str]; 8] = [
    &[
        "amount",
        "answer",
        "backoff",
        "classify",
        "clock",
        "context",
        "deadline",
        "durations",
        "error",
        "held",
        "histogram",
        "pace",
        "panics",
        "random",
        "redis",
        "stripes",
        "sync",
        "waiters",
        "words",
    ],
    &["shell"],
    &["circuit_breaker", "load_level", "load_shed", "rate_limit", "retry", "timeout"],
    &["per_key"],
    &["stack"],
    &["constant_work", "http", "sim"],
    &["telemetry"],
    &["guide"],
];

/// The imports that one mechanism may make from another. The floor of a retry budget is a token bucket.
const EXCEPTIONS: [(&str, &str); 2] = [("retry", "rate_limit::TokenBucket"), ("retry", "rate_limit::Quota")];

/// A path of the crate that a file names.
#[derive(Debug)]
struct Import {
    file: PathBuf,
    from: String,
    path: String,
}

impl Import {
    /// Returns the module that the path is imported from.
    fn to(&self) -> &str {
        self.path.split("::").next().unwrap_or_default()
    }

    /// Returns why the import is forbidden, or `None` if it is allowed.
    fn fault(&self) -> Option<&'static str> {
        if self.from == self.to() {
            return None;
        }
        let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
        match (layer(&self.from), layer(self.to())) {
            (None, _) => Some("is imported by a module that stands in no layer"),
            (_, None) => Some("is not the module that defines it"),
            (Some(from), Some(to)) if from < to => Some("is further up"),
            (Some(from), Some(to)) if from == to && from > 0 && !self.is_excepted() => Some("stands beside it"),
            _ => None,
        }
    }

    fn is_excepted(&self) -> bool {
        EXCEPTIONS.iter().any(|(from, path)| self.from == *from && self.path == *path)
    }
}

/// Returns each path of the crate that a file of `src` names. Skips `lib.rs`, which names everything.
fn imports() -> Vec<Import> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut imports = Vec::new();
    for file in files(&root) {
        let inside = file.strip_prefix(&root).unwrap().to_owned();
        let from = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if from == "lib" {
            continue;
        }
        let text = plain(&fs::read_to_string(&file).unwrap());
        for (start, _) in text.match_indices("crate::") {
            for path in paths(&text[start + "crate::".len()..]) {
                imports.push(Import { file: inside.clone(), from: from.clone(), path });
            }
        }
        if let Some(line) = hidden(&inside, &text) {
            panic!("{} names the root of the crate otherwise: {line}", inside.display());
        }
    }
    imports
}

/// Returns a line that names the root of the crate by a chain of `super`, or gives the root another name.
fn hidden<'text>(file: &Path, text: &'text str) -> Option<&'text str> {
    let mut depth = file.iter().count() - usize::from(file.ends_with("mod.rs"));
    text.lines().find(|line| {
        // The lines after `mod name {` count as inside that module, even after its end. From there, the chain to the
        // root has one `super` more.
        let line = line.trim();
        depth += usize::from(line.contains("mod ") && line.ends_with('{'));
        line.contains(&"super::".repeat(depth)) || line.contains("crate as ")
    })
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let inside = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.flat_map(inside).filter(|file| file.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// A text without comments, and without blanks beside `::`.
fn plain(text: &str) -> String {
    let lines: String = text.lines().flat_map(|line| [line.split("//").next().unwrap_or_default(), "\n"]).collect();
    let pieces: Vec<_> = lines.split("::").collect();
    let last = pieces.len() - 1;
    let trimmed = pieces.iter().enumerate().map(|(index, piece)| {
        let piece = if index > 0 { piece.trim_start() } else { piece };
        if index < last { piece.trim_end() } else { piece }
    });
    trimmed.collect::<Vec<_>>().join("::")
}

/// The paths at the beginning of a text: one, or all in a list.
fn paths(text: &str) -> Vec<String> {
    let is_of_path = |character: char| character.is_alphanumeric() || character == '_' || character == ':';
    let end = text.find(|character| !is_of_path(character)).unwrap_or(text.len());
    let (prefix, rest) = text.split_at(end);
    let Some(list) = rest.strip_prefix('{') else { return vec![prefix.to_owned()] };
    items(list).flat_map(|item| paths(item).into_iter().map(move |path| format!("{prefix}{path}"))).collect()
}

/// The items of a list, up to its closing brace.
fn items(mut rest: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    iter::from_fn(move || {
        rest = rest.trim_start_matches(|character: char| character.is_whitespace() || character == ',');
        if rest.starts_with('}') {
            return None;
        }
        let end = rest.find(|character| {
            depth += i32::from(character == '{') - i32::from(character == '}');
            depth < 0 || depth == 0 && character == ','
        })?;
        depth = 0;
        let (item, after) = rest.split_at(end);
        rest = after;
        Some(item)
    })
}

#[test]
fn no_module_imports_from_a_layer_above_its_own_nor_a_mechanism_another() {
    let imports = imports();
    let faults: Vec<_> = imports
        .iter()
        .filter_map(|import| {
            let (fault, file) = (import.fault()?, import.file.display());
            Some(format!("{file} imports {}: `{}` {fault}", import.path, import.to()))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(imports.len() > 500, "only {} imports were read", imports.len());
}

#[test]
fn the_modules_and_their_imports_are_a_graph_without_a_cycle() {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for import in imports() {
        let to = import.to().to_owned();
        let others = graph.entry(import.from.clone()).or_default();
        if to != import.from {
            others.insert(to);
        }
    }
    // Removes, again and again, the modules that import none of those left.
    loop {
        let left: BTreeSet<_> = graph.keys().cloned().collect();
        let before = graph.len();
        graph.retain(|_, imported| imported.iter().any(|module| left.contains(module)));
        if graph.len() == before {
            break;
        }
    }
    assert!(graph.is_empty(), "these import each other, or one that does: {graph:#?}");
}

#[test]
fn other_names_of_the_root_are_found() {
    let is_hidden = |file: &str, text: &str| hidden(Path::new(file), &plain(text)).is_some();
    assert!(is_hidden("clock.rs", "//! Instants.\n\nuse super::stack::Slot;"));
    assert!(is_hidden("deadline.rs", "use std::fmt;\nuse super :: stack::Slot;"));
    assert!(is_hidden("shell/frame.rs", "use super::super::stack::Slot;"));
    assert!(is_hidden("shell/frame.rs", "fn now() {\n    use super::super::stack::Slot;\n}"));
    assert!(is_hidden("shell/mod.rs", "use super::stack::Slot;"));
    assert!(is_hidden("retry/budget.rs", "use super::super::load_shed::Limiter;"));
    assert!(is_hidden("retry/budget/builder.rs", "use super::super::super::stack::Slot;"));
    assert!(is_hidden("shell/frame.rs", "use crate as root;"));
    assert!(!is_hidden("retry/budget/builder.rs", "use super::super::stage::RetryStage;"));
    assert!(!is_hidden("shell/gate.rs", "use super::Frame;"));
    assert!(!is_hidden("clock.rs", "mod tests {\n    use super::*;\n}"));
    assert_eq!(plain("$crate :: stack\n    ::Slot // a comment"), "$crate::stack::Slot \n");
}

#[test]
fn the_paths_of_nested_lists_are_found() {
    assert_eq!(paths("a::B;"), ["a::B"]);
    assert_eq!(paths("{a::{B, c::{D, E}}, f};"), ["a::B", "a::c::D", "a::c::E", "f"]);
    assert_eq!(paths("{\n    a::B,\n    c::D,\n};"), ["a::B", "c::D"]);
    assert_eq!(paths("{self as root};"), ["self"]);
    assert_eq!(paths("sync::lock(x)"), ["sync::lock"]);
}
