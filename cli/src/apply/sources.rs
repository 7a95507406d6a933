//! The locations of objects in files, for error messages about them.

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::yaml::{At, Node, Value};

/// The description of each object, by its name such as `service web`.
#[derive(Debug, Default)]
pub struct Sources(BTreeMap<String, Node>);

impl Sources {
    /// Records where an object is described.
    pub fn add(&mut self, noun: &str, name: &str, node: &Node) {
        self.0.insert(format!("{noun} {name}"), node.clone());
    }

    /// Adds a location to a failure about one of the objects: that of the first quoted text in its sentence which occurs exactly
    /// once in the description, or else that of the description.
    pub fn place(&self, failure: Failure) -> Failure {
        let object = failure.subject.as_ref().map(|subject| subject.replace('"', ""));
        let Some(node) = object.and_then(|object| self.0.get(&object)) else { return failure };
        let mut quoted = failure.sentence.split('"').skip(1).step_by(2);
        let at = quoted.find_map(|text| only(node, text)).unwrap_or(&node.at);
        Failure { sentence: format!("{at}: {}", failure.sentence), ..failure }
    }
}

/// The location of a text, if it occurs exactly once.
fn only<'a>(node: &'a Node, text: &str) -> Option<&'a At> {
    let mut found = Vec::new();
    find(node, text, &mut found);
    if let [only] = found[..] { Some(only) } else { None }
}

fn find<'a>(node: &'a Node, text: &str, found: &mut Vec<&'a At>) {
    match &node.value {
        Value::Scalar { text: own, .. } if own == text => found.push(&node.at),
        Value::Scalar { .. } => {}
        Value::List(items) => items.iter().for_each(|item| find(item, text, found)),
        Value::Map(entries) => {
            for (key, value) in entries {
                if key.text == text {
                    found.push(&key.at);
                }
                find(value, text, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;
    use crate::yaml;

    #[test]
    fn what_is_refused_is_found_in_its_file() {
        let text = "annotations: {name: web}\ntask:\n  container:\n    image: Bad\n    args: [twice, twice]\n";
        let node = yaml::one("f", text).expect("YAML").expect("a document");
        let mut sources = Sources::default();
        sources.add("service", "web", &node);
        // The subject of a failure, its sentence, and the expected location.
        let table = [
            ("service web", "\"Bad\" is no image", "f:4:12: "),
            ("service \"web\"", "the image \"Bad\" is none", "f:4:12: "),
            ("service web", "\"args\" is a key", "f:5:5: "),
            ("service web", "\"twice\" is there twice, \"Bad\" is not", "f:4:12: "),
            ("service web", "\"twice\" is there twice", "f:1:1: "),
            ("service web", "it quotes nothing", "f:1:1: "),
            ("service other", "\"Bad\" is no image", ""),
        ];
        for (subject, sentence, place) in table {
            let failure = Failure { subject: Some(subject.to_owned()), ..Failure::new(Kind::Usage, sentence) };
            assert_eq!(sources.place(failure).sentence, format!("{place}{sentence}"), "{subject}");
        }
        let unknown = Failure::new(Kind::Usage, "it is about nothing");
        assert_eq!(sources.place(unknown.clone()), unknown);
    }
}
