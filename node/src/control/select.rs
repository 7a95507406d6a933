//! Selects the objects of a list.

use std::collections::BTreeMap;

use wire::v1::{LabelFilter, Selection};

/// An object as a filter sees it.
pub(super) struct Candidate<'a> {
    pub(super) id: String,
    pub(super) name: &'a str,
    pub(super) labels: Option<&'a BTreeMap<String, String>>,
}

/// Whether a request selects an object; without a selection, all are selected.
pub(super) fn selects(selection: Option<&Selection>, candidate: &Candidate<'_>) -> bool {
    let Some(Selection { names, ids, labels }) = selection else { return true };
    let named = names.is_empty() || names.iter().any(|name| begins_with(candidate.name, name));
    let identified = ids.is_empty() || ids.iter().any(|id| candidate.id.starts_with(id));
    named && identified && labels.iter().all(|label| has_label(candidate.labels, label))
}

fn begins_with(name: &str, beginning: &str) -> bool {
    name.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

fn has_label(labels: Option<&BTreeMap<String, String>>, wanted: &LabelFilter) -> bool {
    let found = labels.and_then(|labels| labels.get(&wanted.key));
    found.is_some_and(|value| wanted.value.as_ref().is_none_or(|wanted| wanted == value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_one_id_and_all_labels_must_match() {
        let labels = [("tier".to_owned(), "front".to_owned())].into();
        let object = Candidate { id: "0abc".to_owned(), name: "Web", labels: Some(&labels) };
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let label =
            |key: &str, value: Option<&str>| LabelFilter { key: key.to_owned(), value: value.map(str::to_owned) };
        let table = [
            (Selection::default(), true),
            (Selection { names: texts(&["x", "we"]), ..Default::default() }, true),
            (Selection { names: texts(&["eb"]), ..Default::default() }, false),
            (Selection { names: texts(&["webs"]), ..Default::default() }, false),
            (Selection { ids: texts(&["0ab"]), ..Default::default() }, true),
            (Selection { names: texts(&["web"]), ids: texts(&["1"]), ..Default::default() }, false),
            (Selection { labels: vec![label("tier", None)], ..Default::default() }, true),
            (Selection { labels: vec![label("tier", Some("back"))], ..Default::default() }, false),
            (
                Selection { labels: vec![label("tier", Some("front")), label("team", None)], ..Default::default() },
                false,
            ),
        ];
        for (selection, expected) in table {
            assert_eq!(selects(Some(&selection), &object), expected, "{selection:?}");
        }
        assert!(selects(None, &object));
    }
}
