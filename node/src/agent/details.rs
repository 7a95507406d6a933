//! The container attributes that a log driver adds to its lines: Docker's options `labels` and `env`. Pure.

use std::collections::BTreeMap;

/// The attributes as comma-separated `key=value` pairs, sorted by key. `options` are the log driver's options.
pub fn details<'a>(
    options: impl Iterator<Item = (&'a str, &'a str)>,
    labels: &BTreeMap<String, String>,
    env: &[String],
) -> String {
    let env: BTreeMap<&str, &str> = env.iter().filter_map(|pair| pair.split_once('=')).collect();
    let mut found = BTreeMap::new();
    for (option, names) in options {
        for name in names.split(',') {
            let value = match option {
                "labels" => labels.get(name).map(String::as_str),
                "env" => env.get(name).copied(),
                _ => None,
            };
            found.extend(value.map(|value| (name, value)));
        }
    }
    let pairs = found.iter().map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_was_told_to_note_is_there() {
        let labels = BTreeMap::from([("tier".to_owned(), "web".to_owned()), ("other".to_owned(), "x".to_owned())]);
        let env = ["MODE=fast".to_owned(), "EMPTY=".to_owned(), "SECRET=s".to_owned()];
        let of = |options: &[(&'static str, &'static str)]| details(options.iter().copied(), &labels, &env);
        assert_eq!(of(&[]), "");
        assert_eq!(of(&[("max-size", "tier"), ("labels", "tier,absent")]), "tier=web");
        assert_eq!(of(&[("labels", "tier"), ("env", "MODE,EMPTY,ABSENT")]), "EMPTY=,MODE=fast,tier=web");
    }
}
