//! Configs and secrets as files: `NAME`, or `source=NAME,target=PATH,uid=UID,gid=GID,mode=MODE` in Docker's form, and
//! `revision=NUMBER` to pin a revision.

use events::{ConfigReference, FileTarget, SecretReference};

use super::Invalid;

const CONFIG_HINT: &str =
    "write NAME, or source=NAME,target=/etc/app.conf,uid=1000,gid=1000,mode=0440,revision=1; only source is needed";
const SECRET_HINT: &str =
    "write NAME, or source=NAME,target=password,uid=1000,gid=1000,mode=0400,revision=1; only source is needed";

/// Reads a reference to a config. The config's id is not known yet.
///
/// # Errors
/// When there is no source, a key is unknown, or the mode is not octal.
pub fn parse(text: &str) -> Result<ConfigReference, Invalid> {
    let Read { name, file, revision } = read("config", text).map_err(|why| Invalid::new(why, CONFIG_HINT))?;
    Ok(ConfigReference { name, file, revision, pinned: revision > 0, ..ConfigReference::default() })
}

/// Reads a reference to a secret. The secret's id is not known yet.
///
/// # Errors
/// When there is no source, a key is unknown, or the mode is not octal.
pub fn parse_secret(text: &str) -> Result<SecretReference, Invalid> {
    let Read { name, file, revision } = read("secret", text).map_err(|why| Invalid::new(why, SECRET_HINT))?;
    Ok(SecretReference { secret: None, name, file, revision, pinned: revision > 0 })
}

/// The parsed reference.
struct Read {
    name: String,
    file: Option<FileTarget>,
    /// 0 if the revision is not pinned.
    revision: u64,
}

fn read(noun: &str, text: &str) -> Result<Read, String> {
    let error = |why: String| format!("{noun} \"{text}\" {why}");
    if !text.contains('=') {
        let name = Some(text).filter(|name| !name.is_empty()).ok_or_else(|| error("has no name".to_owned()))?;
        return Ok(Read { name: name.to_owned(), file: None, revision: 0 });
    }
    let (mut name, mut file, mut revision) = (String::new(), FileTarget::default(), 0);
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| error(format!("has \"{part}\" without a value")))?;
        match key {
            "source" | "src" => name = value.to_owned(),
            "revision" => {
                let number = value.parse().ok().filter(|number| *number > 0);
                revision = number
                    .ok_or_else(|| error(format!("has \"{value}\" for a revision, which is not a number from 1")))?;
            }
            "target" => file.name = value.to_owned(),
            "uid" => file.uid = value.to_owned(),
            "gid" => file.gid = value.to_owned(),
            "mode" => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                file.mode = Some(mode.ok_or_else(|| error(format!("has \"{value}\" for a mode, which is not octal")))?);
            }
            _ => return Err(error(format!("has the unknown key \"{key}\""))),
        }
    }
    if name.is_empty() {
        return Err(error("has no source".to_owned()));
    }
    Ok(Read { name, file: Some(file).filter(|file| *file != FileTarget::default()), revision })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_has_a_source_and_perhaps_a_target_an_owner_and_a_mode() {
        for (text, shown) in [
            ("web.conf", "web.conf at /web.conf, mode 0444"),
            ("source=web.conf", "web.conf at /web.conf, mode 0444"),
            ("src=web.conf,target=/etc/a.conf", "web.conf at /etc/a.conf, mode 0444"),
            ("source=a,target=b/c,uid=1000,gid=10,mode=0400", "a at /b/c, mode 0400, owner 1000:10"),
        ] {
            let reference = parse(text).expect(text);
            assert_eq!((crate::format::config::reference(&reference), reference.config), (shown.to_owned(), None));
        }
        for wrong in ["", "target=/x", "source=a,mode=9", "source=a,mode=77777", "source=a,owner=b", "source=a,target"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_below_its_own_directory() {
        for (text, shown) in [
            ("key", "key at /run/secrets/key, mode 0444"),
            ("source=key,target=a/b,mode=0400", "key at /run/secrets/a/b, mode 0400"),
            ("source=key,target=/etc/key,uid=5", "key at /etc/key, mode 0444, owner 5:0"),
        ] {
            let reference = parse_secret(text).expect(text);
            assert_eq!((crate::format::config::reference(&reference), reference.secret), (shown.to_owned(), None));
        }
        assert!(parse_secret("target=/x").is_err());
        let pinned = parse("source=a,revision=3").expect("a revision");
        assert_eq!((pinned.revision, pinned.pinned, pinned.file), (3, true, None));
        assert!(!parse("source=a").expect("none").pinned && parse("source=a,revision=0").is_err());
    }
}
