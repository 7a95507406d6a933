//! The order in which services are created: after those that they depend on.

use std::collections::BTreeSet;

use events::ServiceSpec;

use crate::failure::{Failure, Kind};

/// Moves services behind their dependencies; otherwise the order is kept.
///
/// # Errors
/// When dependencies form a cycle.
pub fn by_dependencies(mut services: Vec<ServiceSpec>) -> Result<Vec<ServiceSpec>, Failure> {
    let key = |name: &str| name.to_ascii_lowercase();
    let mut open: BTreeSet<String> = services.iter().map(|spec| key(spec.name())).collect();
    let mut ordered = Vec::with_capacity(services.len());
    while !services.is_empty() {
        let is_free = |spec: &ServiceSpec| !spec.depends_on.iter().any(|name| open.contains(&key(name)));
        let Some(next) = services.iter().position(is_free) else { return Err(circle(&services)) };
        let spec = services.remove(next);
        open.remove(&key(spec.name()));
        ordered.push(spec);
    }
    Ok(ordered)
}

fn circle(services: &[ServiceSpec]) -> Failure {
    let names: Vec<&str> = services.iter().map(ServiceSpec::name).collect();
    let sentence = format!("services wait for each other: {}; nothing was changed", names.join(", "));
    Failure::new(Kind::Usage, sentence).hint("remove one of them from depends_on")
}

#[cfg(test)]
mod tests {
    use events::Annotations;

    use super::*;

    #[test]
    fn services_come_after_those_that_they_depend_on() {
        // Each word is a service, with its dependencies after the colon.
        let table = [
            ("a b c", Some("a b c")),
            ("a:b b c", Some("b a c")),
            ("a:c,b b:c c", Some("c b a")),
            ("a:elsewhere b:A", Some("a b")),
            ("a:b b:a c", None),
            ("a:a", None),
        ];
        for (text, expected) in table {
            let services = text.split(' ').map(|word| {
                let (name, others) = word.split_once(':').unwrap_or((word, ""));
                let annotations = Some(Annotations { name: name.to_owned(), ..Annotations::default() });
                let depends_on = others.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
                ServiceSpec { annotations, depends_on, ..ServiceSpec::default() }
            });
            let ordered = by_dependencies(services.collect()).ok();
            let names = ordered.map(|all| all.iter().map(ServiceSpec::name).collect::<Vec<_>>().join(" "));
            assert_eq!(names.as_deref(), expected, "{text}");
        }
    }
}
