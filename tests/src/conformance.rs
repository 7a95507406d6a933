//! Checks that every test named in `CONFORMANCE.md` exists.

use std::collections::BTreeSet;
use std::path::Path;

/// The table's entries in backticks: scenarios and test functions.
fn named(table: &str) -> BTreeSet<&str> {
    let quoted = table.split('`').skip(1).step_by(2);
    quoted.filter(|word| word.ends_with(".txt") && word.len() > 4 || word.contains('_')).collect()
}

/// The names of all functions under a directory.
fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_dir() && name != "target" && !name.starts_with('.') {
            functions(&entry, found);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&entry).expect("a source file");
            let words = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
            found.extend(words.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_that_the_table_names_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(here.join("CONFORMANCE.md")).expect("the table");
    let mut known = BTreeSet::new();
    functions(here.parent().expect("the workspace"), &mut known);
    let is_there = |name: &&str| match name.ends_with(".txt") {
        true => here.join("scenarios").join(name).is_file(),
        false => known.contains(*name),
    };
    let names = named(&table);
    let missing: Vec<&str> = names.iter().filter(|name| !is_there(name)).copied().collect();
    assert!(names.len() > 80 && missing.is_empty(), "{} names, missing: {missing:?}", names.len());
}
