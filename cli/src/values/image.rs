//! Image references: `[host[:port]/]path[:tag][@digest]`, in the grammar of the engines.

use super::Invalid;

const HINT: &str = "write [HOST/]NAME[:TAG][@DIGEST], such as nginx:1.27 or registry.local:5000/team/app:v2";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// Checks an image reference and returns it unchanged.
///
/// # Errors
/// When the name, the tag or the digest is malformed.
pub fn parse(text: &str) -> Result<String, Invalid> {
    match fault(text) {
        None => Ok(text.to_owned()),
        Some(why) => Err(Invalid::new(format!("image \"{text}\" {why}"), HINT)),
    }
}

/// Whether a reference contains a digest.
pub fn has_digest(image: &str) -> bool {
    image.contains('@')
}

/// A reference without the digest behind its tag, as shown in tables. Without a tag, the digest stays.
pub fn without_digest(image: &str) -> &str {
    image.split_once('@').map_or(image, |(tagged, _)| if has_tag(tagged) { tagged } else { image })
}

/// A reference without a digest, with an explicit tag.
pub fn with_tag(image: &str) -> String {
    if has_tag(image) { image.to_owned() } else { format!("{image}:latest") }
}

/// A colon before the last slash belongs to the registry's port.
fn has_tag(image: &str) -> bool {
    image.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// The error in a reference, if any.
fn fault(text: &str) -> Option<&'static str> {
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    // A colon before the last slash belongs to the registry's port.
    let tag_at = rest.rfind(':').filter(|colon| rest.rfind('/').is_none_or(|slash| slash < *colon));
    let (name, tag) = tag_at.map_or((rest, None), |colon| (&rest[..colon], Some(&rest[colon + 1..])));
    if name.is_empty() {
        return Some("has no name");
    }
    if name.len() > NAME_MAX {
        return Some("has a name of more than 255 characters");
    }
    let path = match name.split_once('/') {
        Some((host, path)) if is_host(host) => path,
        Some(_) | None => name,
    };
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some("has capital letters in its name");
    }
    if !path.split('/').all(is_component) {
        return Some("has a malformed name");
    }
    if !tag.is_none_or(is_tag) {
        return Some("has a malformed tag");
    }
    if !digest.is_none_or(is_digest) {
        return Some("has a malformed digest");
    }
    None
}

/// The first part is a registry host if it contains a dot or a port, or is `localhost`.
fn is_host(part: &str) -> bool {
    let (host, port) = part.split_once(':').map_or((part, None), |(host, port)| (host, Some(port)));
    let looks_like_one =
        host.contains('.') || port.is_some() || host == "localhost" || host != host.to_ascii_lowercase();
    let label = |label: &str| {
        let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        ends(label.bytes().next())
            && ends(label.bytes().last())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    looks_like_one && host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Lower-case letters and digits, separated by one dot, one or two underscores, or any number of hyphens.
fn is_component(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|run| !run.is_empty());
    let mut separators = separators.into_iter();
    let ends = |byte: Option<u8>| byte.is_some_and(word);
    ends(part.bytes().next())
        && ends(part.bytes().last())
        && separators.all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let first = tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first && tag.len() <= TAG_MAX && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let named =
        !algorithm.is_empty() && algorithm.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+._-".contains(&byte));
    named && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_every_shape_are_taken() {
        let digest = format!("nginx@sha256:{}", "0".repeat(64));
        let table = [
            "nginx",
            "nginx:1.27",
            "library/nginx",
            "registry.local:5000/team/app:v2",
            "localhost/app",
            "REGISTRY.local/app",
            "a/b/c/d",
            "my__app/x-y--z.w:_t",
            &digest,
        ];
        for text in table {
            assert_eq!(parse(text), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_tag_is_shown_without_its_digest() {
        for (image, tagged, shown) in [
            ("nginx", "nginx:latest", "nginx"),
            ("nginx:1", "nginx:1", "nginx:1"),
            ("localhost:5000/a/nginx", "localhost:5000/a/nginx:latest", "localhost:5000/a/nginx"),
        ] {
            assert_eq!((with_tag(image).as_str(), without_digest(image)), (tagged, shown));
            assert_eq!(without_digest(&format!("{tagged}@sha256:00")), tagged);
        }
        assert_eq!(without_digest("localhost:5000/nginx@sha256:00"), "localhost:5000/nginx@sha256:00");
        assert!(has_digest("nginx@sha256:00") && !has_digest("nginx:1"));
    }

    #[test]
    fn other_text_is_refused_with_the_reason() {
        let table = [
            ("", "no name"),
            (":tag", "no name"),
            ("Nginx", "capital letters"),
            ("nginx:", "tag"),
            ("nginx:a b", "tag"),
            ("nginx:-a", "tag"),
            ("ng inx", "malformed name"),
            ("nginx..x", "malformed name"),
            ("a//b", "malformed name"),
            ("/nginx", "malformed name"),
            ("nginx/", "malformed name"),
            ("nginx@sha256:12", "digest"),
            ("nginx@latest", "digest"),
        ];
        for (text, why) in table {
            let error = parse(text).expect_err(text);
            assert!(error.sentence.contains(why), "{text}: {error}");
        }
        assert!(parse(&"a".repeat(256)).is_err());
    }
}
