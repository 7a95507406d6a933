//! Limits of setrlimit(2): `nofile=1024:2048`, `memlock=-1`.

use events::Ulimit;

use super::Invalid;

const HINT: &str = "write NAME=SOFT[:HARD] with whole numbers, -1 for unlimited, such as nofile=1024:2048";

/// Reads `name=soft[:hard]`; the hard limit defaults to the soft one.
///
/// # Errors
/// When the name is empty, a limit is not a whole number, or the soft limit exceeds the hard one.
pub fn parse(text: &str) -> Result<Ulimit, Invalid> {
    let error = |why: &str| Invalid::new(format!("ulimit \"{text}\" {why}"), HINT);
    let (name, limits) = text.split_once('=').ok_or_else(|| error("has no limit: a = and a number are missing"))?;
    if name.is_empty() {
        return Err(error("has no name"));
    }
    if limits.is_empty() {
        return Err(error("has no limit: a number after the = is missing"));
    }
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let limit = |text: &str| text.parse::<i64>().ok().filter(|limit| *limit >= -1);
    let (Some(soft), Some(hard)) = (limit(soft), limit(hard)) else {
        return Err(error("has a limit that is not a whole number"));
    };
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(error("has a soft limit above the hard one"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// Writes a limit in the same form.
pub fn show(limit: &Ulimit) -> String {
    format!("{}={}:{}", limit.name, limit.soft, limit.hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_compared() {
        for (text, shown) in
            [("nofile=1024", "nofile=1024:1024"), ("core=0:-1", "core=0:-1"), ("memlock=-1", "memlock=-1:-1")]
        {
            assert_eq!(parse(text).map(|limit| show(&limit)), Ok(shown.to_owned()));
        }
        for text in
            ["", "nofile", "=1", "nofile=", "nofile=a", "nofile=2:1", "nofile=-1:1", "nofile=-2", "nofile=1:2:3"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
