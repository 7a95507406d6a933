//! Affinities and anti-affinities of tasks. `service==NAME`, `service!=NAME`, `image==REFERENCE`, `image!=REFERENCE`, or any
//! placement constraint.

use super::Constraint;

/// Weights of preferred affinities.
pub const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=100;

/// The form of an affinity, for hints.
pub const AFFINITY_HINT: &str =
    "service==NAME, service!=NAME, image==REFERENCE, image!=REFERENCE or a placement constraint";

/// One parsed affinity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Affinity {
    /// Tasks of a service on the node: whether there must be some, or none.
    Service(String, Presence),
    /// Whether the image must be on the node, or must not be.
    Image(String, Presence),
    /// A required property of the node.
    Node(Constraint),
}

/// Whether something must be on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It must be there.
    Near,
    /// It must not be there.
    Apart,
}

impl Affinity {
    /// Parses an affinity.
    ///
    /// # Errors
    /// When the text is not one, with the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let of = |key: &str| {
            let start = text.trim_start().get(..key.len())?;
            start.eq_ignore_ascii_case(key).then(|| text.trim_start()[key.len()..].trim_start())
        };
        for key in ["service", "image"] {
            let Some(rest) = of(key) else { continue };
            let (presence, name) = match (rest.strip_prefix("=="), rest.strip_prefix("!=")) {
                (Some(name), _) => (Presence::Near, name.trim()),
                (None, Some(name)) => (Presence::Apart, name.trim()),
                (None, None) => return Err(format!("affinity \"{text}\" has neither == nor != after {key}")),
            };
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(format!("affinity \"{text}\" names no {key}"));
            }
            let name = name.to_owned();
            return Ok(if key == "service" { Self::Service(name, presence) } else { Self::Image(name, presence) });
        }
        Constraint::parse(text).map(Self::Node).map_err(|error| error.to_string())
    }
}

/// An image reference in comparable form: without a digest, and with its default tag.
pub fn plain_image(reference: &str) -> String {
    let named = reference.split_once('@').map_or(reference, |(named, _digest)| named);
    let last = named.rsplit('/').next().unwrap_or(named);
    if last.contains(':') { named.to_owned() } else { format!("{named}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_name_services_images_and_nodes() {
        let service = |name: &str, presence| Ok(Affinity::Service(name.to_owned(), presence));
        let image = |name: &str, presence| Ok(Affinity::Image(name.to_owned(), presence));
        let node = |text: &str| Ok(Affinity::Node(Constraint::parse(text).expect(text)));
        let table = [
            ("service==db", service("db", Presence::Near)),
            (" Service != web ", service("web", Presence::Apart)),
            ("image==nginx:1.27", image("nginx:1.27", Presence::Near)),
            ("image!=nginx", image("nginx", Presence::Apart)),
            ("node.labels.disk==ssd", node("node.labels.disk==ssd")),
            ("node.labels.cores>=8", node("node.labels.cores>=8")),
        ];
        for (text, expected) in table {
            assert_eq!(Affinity::parse(text), expected, "{text}");
        }
        for text in ["", "service", "service==", "service=~db", "service==a b", "image>1", "container==db", "é==x"] {
            assert!(Affinity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn images_are_compared_without_digests() {
        let table = [
            ("nginx", "nginx:latest"),
            ("nginx:1", "nginx:1"),
            ("host:5000/nginx", "host:5000/nginx:latest"),
            ("nginx:1@sha256:abc", "nginx:1"),
        ];
        for (reference, plain) in table {
            assert_eq!(plain_image(reference), plain);
        }
    }
}
