//! Configs and secrets: their names and sizes. The limits are SwarmKit's (`manager/controlapi/{config,secret}.go`).

use events::spec::template::{TEMPLATE_DRIVER, check_payload};
use events::{ConfigSpec, SecretId, SecretSpec};

use super::name::{is_word, labels};
use super::{Fault, Verdict};
use crate::RejectionKind;
use crate::text::quote;

/// Maximum size of a config in bytes: below 1000 KiB.
pub(crate) const CONFIG_BYTES_MAX: usize = 1_000 * 1024 - 1;
/// Maximum total size of configs in bytes: each manager holds them in memory, and every checkpoint has them.
pub(crate) const CONFIGS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Maximum size of a secret in bytes: below 500 KiB.
pub(crate) const SECRET_BYTES_MAX: usize = 500 * 1024 - 1;
/// Maximum total size of secrets in KiB: each manager holds them in memory.
pub(crate) const SECRETS_KIB_MAX: u64 = 64 * 1024;
/// Maximum length of the name of a config or a secret.
const NAME_MAX: usize = 64;

/// Checks a config.
pub(crate) fn config(spec: &ConfigSpec, data: &[u8]) -> Verdict {
    name("config", spec.name())?;
    labels(&spec.annotations().labels)?;
    size("config", data.len(), CONFIG_BYTES_MAX, "split it, or put it into the image or a volume")?;
    template("config", &spec.template_driver, data)
}

/// Checks the spec of a secret.
pub(crate) fn secret_spec(spec: &SecretSpec) -> Verdict {
    name("secret", spec.name())?;
    labels(&spec.annotations().labels)?;
    driver(&spec.template_driver)
}

/// Checks the data of a secret.
pub(crate) fn secret_data(spec: &SecretSpec, data: &[u8]) -> Verdict {
    size("secret", data.len(), SECRET_BYTES_MAX, "split it, or encrypt the data and make the key the secret")?;
    template("secret", &spec.template_driver, data)
}

fn driver(name: &str) -> Verdict {
    if name.is_empty() || name == TEMPLATE_DRIVER {
        return Ok(());
    }
    let hint = format!("use {TEMPLATE_DRIVER}, which is Go's text/template, or leave the template driver out");
    Err(Fault::invalid(format!("there is no template driver {}", quote(name)), hint))
}

/// Checks a template that nodes will expand.
fn template(noun: &str, name: &str, data: &[u8]) -> Verdict {
    driver(name)?;
    if name.is_empty() {
        return Ok(());
    }
    // The reason may repeat a part of a secret, so only the caller gets it: the main message is logged.
    check_payload(data).map_err(|reason| {
        let fields =
            "use fields like {{.Service.Name}} and {{.Task.Slot}}, and env, secret and config with a name in quotes";
        Fault::invalid(format!("the template in the {noun} is malformed"), format!("{reason}; {fields}"))
    })
}

fn size(noun: &str, bytes: usize, bytes_max: usize, hint: &str) -> Verdict {
    if bytes == 0 {
        return Err(Fault::invalid(format!("the {noun} is empty"), "give a file that is not empty"));
    }
    if bytes > bytes_max {
        let sentence = format!("the {noun} has {bytes} bytes; the maximum is {bytes_max}");
        return Err(Fault::new(RejectionKind::Exhausted, sentence, hint));
    }
    Ok(())
}

/// Checks the name of a config, a secret or a sink.
pub(super) fn name(noun: &str, name: &str) -> Verdict {
    let hint = "use up to 64 letters, digits, - _ and ., with a letter or digit at both ends";
    if name.is_empty() {
        return Err(Fault::invalid(format!("the {noun} has no name"), hint));
    }
    if name.len() > NAME_MAX || !is_word(name, "-_.") {
        return Err(Fault::invalid(format!("{} is not a name for a {noun}", quote(name)), hint));
    }
    // Ids of all nouns have the same form.
    if name.to_ascii_lowercase().parse::<SecretId>().is_ok() {
        let hint = format!("choose another name: this one could be the id of a {noun}");
        return Err(Fault::invalid(format!("the name {} has the form of an id", quote(name)), hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use events::Annotations;

    use super::*;

    fn spec(name: &str) -> ConfigSpec {
        ConfigSpec {
            annotations: Some(Annotations { name: name.into(), ..Annotations::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn a_config_has_a_name_and_a_size() {
        let longest = "a".repeat(NAME_MAX);
        for (name, sound) in [
            ("web.conf", true),
            ("a", true),
            ("A_b-c.1", true),
            (longest.as_str(), true),
            ("", false),
            (".a", false),
            ("a.", false),
            ("a/b", false),
            ("a b", false),
            (&"a".repeat(NAME_MAX + 1), false),
            ("0123456789abcdefghijklmno", false),
        ] {
            assert_eq!(config(&spec(name), b"x").is_ok(), sound, "{name}");
        }
        for (bytes, sound) in [(0, false), (1, true), (1_023_999, true), (1_024_000, false)] {
            assert_eq!(config(&spec("a"), &vec![0; bytes]).is_ok(), sound, "{bytes}");
        }
        for (bytes, sound) in [(0, false), (1, true), (511_999, true), (512_000, false)] {
            assert_eq!(secret_data(&SecretSpec::default(), &vec![0; bytes]).is_ok(), sound, "{bytes}");
        }
    }

    #[test]
    fn a_template_has_a_known_driver_and_is_well_formed() {
        let spec = |driver: &str| ConfigSpec { template_driver: driver.into(), ..spec("a") };
        assert_eq!(config(&spec("golang"), b"{{.Task.Slot}} {{secret \"key\"}}"), Ok(()));
        assert_eq!(config(&spec(""), b"{{.Task.Slt}}"), Ok(()), "it is no template");
        for (driver, data, sentence, hint) in [
            ("jinja", "x", "there is no template driver \"jinja\"", "use golang"),
            ("golang", "a\n{{.Task.Slt}}", "the template in the config is malformed", "line 2, column 3: there is no"),
            ("golang", "{{frob}}", "the template in the config is malformed", "no function \"frob\""),
        ] {
            let fault = config(&spec(driver), data.as_bytes()).expect_err(data);
            assert_eq!(fault.sentence, sentence);
            assert!(fault.hint.contains(hint), "{}", fault.hint);
        }
        let spec = SecretSpec { template_driver: "golang".into(), ..SecretSpec::default() };
        let fault = secret_data(&spec, b"hunter2 {{frob}}").expect_err("no such function");
        assert_eq!(fault.sentence, "the template in the secret is malformed");
    }
}
