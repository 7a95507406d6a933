//! References to container images, in the grammar of the distribution project: `[domain/]path[:tag][@digest]`.

/// The form of a reference, for hints.
pub const IMAGE_HINT: &str =
    "name an image like nginx:1.27, registry.example.org:5000/team/app or app@sha256:<64 digits>";

/// Maximum length of a repository path.
const PATH_MAX: usize = 255;
/// Maximum length of a tag.
const TAG_MAX: usize = 128;
/// Digits of a complete image id, which is not a reference.
const ID_DIGITS: usize = 64;

/// Whether a text is a reference to an image.
pub fn is_image_reference(text: &str) -> bool {
    if text.len() == ID_DIGITS && text.bytes().all(is_lower_hex) {
        return false;
    }
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (text, None),
    };
    let (name, tag) = split_tag(named);
    let (domain, path) = split_domain(name);
    domain.is_none_or(is_domain)
        && path.len() <= PATH_MAX
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

/// The colon of a tag comes after the last slash; one before it belongs to a port.
fn split_tag(named: &str) -> (&str, Option<&str>) {
    let last = named.rfind('/').map_or(0, |slash| slash + 1);
    match named[last..].find(':') {
        Some(colon) => (&named[..last + colon], Some(&named[last + colon + 1..])),
        None => (named, None),
    }
}

/// The first part is a domain only if it cannot be a path: it has a dot, a port or an upper case letter, or is `localhost`.
fn split_domain(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        Some(_) | None => (None, name),
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rfind(']') {
        Some(end) => (&domain[..=end], domain[end + 1..].strip_prefix(':').or((end + 1 < domain.len()).then_some(""))),
        None => domain.split_once(':').map_or((domain, None), |(host, port)| (host, Some(port))),
    };
    port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())) && is_host(host)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.split('.').all(|label| {
        let bytes = label.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    })
}

/// Lower case letters and digits, in groups separated by one dot, one or two underscores, or any number of dashes.
fn is_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [component.bytes().next(), component.bytes().next_back()];
    ends.iter().all(|end| end.is_some_and(is_word))
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

fn is_digest(digest: &str) -> bool {
    let digits = match digest.split_once(':') {
        Some(("sha256", digits)) if digits.len() == 64 => digits,
        Some(("sha384", digits)) if digits.len() == 96 => digits,
        Some(("sha512", digits)) if digits.len() == 128 => digits,
        Some(_) | None => return false,
    };
    digits.bytes().all(is_lower_hex)
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_known() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        let full = format!("registry.example.org:5000/team/app_x/a--b:v1.2-rc_3@{digest}");
        let (pinned, wide) = (format!("nginx@{digest}"), format!("a@sha512:{}", "0".repeat(128)));
        let longest = "a".repeat(PATH_MAX);
        let tagged = format!("a:{}", "t".repeat(TAG_MAX));
        for text in [
            "nginx",
            "nginx:1.27",
            "library/nginx",
            "a.b/c",
            "localhost/x",
            "localhost:5000/x:y",
            "REG/x",
            "10.0.0.1/x",
            "[2001:db8::1]:5000/x",
            "[::1]/x",
            "a__b",
            "a.b_c-d",
            "x:_tag",
            "swarmlog-test:local",
            "sha256:abc",
            &full,
            &pinned,
            &wide,
            &longest,
            &tagged,
        ] {
            assert!(is_image_reference(text), "{text}");
        }
    }

    #[test]
    fn other_text_is_not() {
        let (id, long) = ("a".repeat(ID_DIGITS), "a".repeat(PATH_MAX + 1));
        let short = format!("nginx@sha256:{}", "a".repeat(63));
        let upper = format!("nginx@sha256:{}", "A".repeat(64));
        let tag = format!("a:{}", "t".repeat(TAG_MAX + 1));
        for text in [
            "",
            " ",
            "Nginx",
            "nginx ",
            "nginx:",
            "nginx:a b",
            "nginx:-a",
            "nginx@",
            "nginx@md5:00",
            "a//b",
            "/a",
            "a/",
            "a.",
            "-a",
            "a..b",
            "a___b",
            "a._b",
            "reg.io:/x",
            "reg.io:p/x",
            "-reg.io/x",
            "reg..io/x",
            "[::1/x",
            "[x]/y",
            "[::1]5/x",
            "reg.io/Upper",
            "a:b:c",
            "a@b@c",
            "http://a/b",
            "é",
            &id,
            &long,
            &short,
            &upper,
            &tag,
        ] {
            assert!(!is_image_reference(text), "{text}");
        }
    }
}
