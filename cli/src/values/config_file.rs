//! Configs as files: `NAME`, or `source=NAME,target=PATH,uid=UID,gid=GID,mode=MODE` as Docker writes it.

use events::{ConfigReference, FileTarget};

use super::Invalid;

const HINT: &str = "write NAME, or source=NAME,target=/etc/app.conf,uid=1000,gid=1000,mode=0440; only source is needed";

/// Reads which config becomes which file. The config's id is not known yet.
///
/// # Errors
/// When there is no source, a key is unknown, or the mode is not octal.
pub fn parse(text: &str) -> Result<ConfigReference, Invalid> {
    let error = |why: String| Invalid::new(format!("config \"{text}\" {why}"), HINT);
    if !text.contains('=') {
        let name = Some(text).filter(|name| !name.is_empty()).ok_or_else(|| error("has no name".to_owned()))?;
        return Ok(ConfigReference { config: None, name: name.to_owned(), file: None });
    }
    let (mut name, mut file) = (String::new(), FileTarget::default());
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| error(format!("has \"{part}\" without a value")))?;
        match key {
            "source" | "src" => name = value.to_owned(),
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
    Ok(ConfigReference { config: None, name, file: Some(file) })
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
}
