//! Secrets in service commands. Their values are never repeated in a rejection.

use std::collections::{BTreeMap, BTreeSet};

use events::{ContainerSpec, SecretText};

use super::{Fault, Verdict};
use crate::RejectionKind;
use crate::text::quote;

/// Maximum length of registry credentials in bytes. Docker sends the base64 of a small JSON object; the longest known, with a
/// cloud's token in it, have some 8 KiB.
pub(crate) const CREDENTIALS_BYTES_MAX: usize = 64 * 1024;

/// Maximum number of secret variables of a service.
const ENV_SECRETS_MAX: usize = 100;

/// Maximum length of a secret variable's value in bytes. Linux allows 128 KiB for one variable, name included.
const ENV_VALUE_BYTES_MAX: usize = 64 * 1024;

/// Maximum total length of the values in one command in bytes: half of a frame's soft limit.
const ENV_BYTES_MAX: usize = 256 * 1024;

/// Maximum length of a secret variable's name in bytes.
const ENV_NAME_BYTES_MAX: usize = 255;

/// Checks registry credentials, whose format depends on the registry.
pub(crate) fn credentials(auth: &SecretText) -> Verdict {
    let bytes = auth.0.len();
    if bytes > CREDENTIALS_BYTES_MAX {
        let sentence = format!("the registry credentials have {bytes} bytes; the maximum is {CREDENTIALS_BYTES_MAX}");
        let hint = "send the base64 of one AuthConfig in JSON, as in Docker's X-Registry-Auth header";
        return Err(Fault::new(RejectionKind::Exhausted, sentence, hint));
    }
    Ok(())
}

/// Checks the values of secret variables.
pub(crate) fn env_secrets(values: &BTreeMap<String, SecretText>) -> Verdict {
    const HINT: &str = "put large secrets into a file or a volume that the service mounts";
    for (name, value) in values {
        let bytes = value.0.len();
        if bytes > ENV_VALUE_BYTES_MAX {
            let sentence = format!(
                "the value of the secret variable {} has {bytes} bytes; the maximum is {ENV_VALUE_BYTES_MAX}",
                quote(name)
            );
            return Err(Fault::new(RejectionKind::Exhausted, sentence, HINT));
        }
        if value.0.contains('\0') {
            let sentence = format!("the value of the secret variable {} contains a NUL byte", quote(name));
            return Err(Fault::invalid(sentence, "give the value as text, for example in base64"));
        }
    }
    let bytes: usize = values.values().map(|value| value.0.len()).sum();
    if bytes > ENV_BYTES_MAX {
        let sentence = format!("the secret variables have {bytes} bytes in all; the maximum is {ENV_BYTES_MAX}");
        return Err(Fault::new(RejectionKind::Exhausted, sentence, HINT));
    }
    Ok(())
}

/// Whether a secret variable may have this name. Shells and engines accept fewer names than the kernel does, and a name that
/// contains a pattern could match more than intended.
fn is_variable_name(name: &str) -> bool {
    name.len() <= ENV_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Checks the names of a container's secret variables.
pub(crate) fn env_names(container: &ContainerSpec) -> Verdict {
    let secrets = &container.env_secrets;
    if secrets.len() > ENV_SECRETS_MAX {
        let sentence =
            format!("{} secret variables are more than a service may have: {ENV_SECRETS_MAX}", secrets.len());
        return Err(Fault::new(RejectionKind::Exhausted, sentence, "put several values into one variable"));
    }
    let plain: BTreeSet<&str> = container.env.iter().filter_map(|entry| entry.split('=').next()).collect();
    for secret in secrets {
        let name = secret.name.as_str();
        if !is_variable_name(name) {
            let sentence = format!("{} is not a name for a secret variable", quote(name));
            let hint =
                "give a name such as DB_PASSWORD: letters, digits, \"_\", \".\" and \"-\", at most 255, no digit first";
            return Err(Fault::invalid(sentence, hint));
        }
        if plain.contains(name) {
            let sentence = format!("the variable {} is given twice: as a plain and as a secret variable", quote(name));
            return Err(Fault::invalid(sentence, "give it with --env or with --env-secret, not with both"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use events::EnvSecret;

    use super::*;

    fn values(values: &[(&str, usize)]) -> BTreeMap<String, SecretText> {
        values.iter().map(|(name, bytes)| ((*name).to_owned(), SecretText("s".repeat(*bytes)))).collect()
    }

    #[test]
    fn values_have_limits_and_are_not_repeated() {
        assert_eq!(env_secrets(&values(&[("A", ENV_VALUE_BYTES_MAX), ("B", 0)])), Ok(()));
        let many = [("A", ENV_VALUE_BYTES_MAX), ("B", ENV_VALUE_BYTES_MAX), ("C", ENV_VALUE_BYTES_MAX)];
        assert_eq!(env_secrets(&values(&many)), Ok(()));
        let too_long = env_secrets(&values(&[("A", ENV_VALUE_BYTES_MAX + 1)])).expect_err("too long");
        assert!(too_long.sentence.contains("65537 bytes") && !too_long.sentence.contains("sss"), "{too_long:?}");
        let more = [&many[..], &[("D", ENV_VALUE_BYTES_MAX), ("E", 1)]].concat();
        assert!(env_secrets(&values(&more)).expect_err("too much").sentence.contains("262145 bytes in all"));
        let nul = BTreeMap::from([("A".to_owned(), SecretText("hidden\0".to_owned()))]);
        let fault = env_secrets(&nul).expect_err("a NUL byte");
        assert!(fault.sentence.contains("NUL") && !fault.sentence.contains("hidden"), "{fault:?}");
    }

    #[test]
    fn names_are_names_and_are_given_once() {
        let judge = |env: &[&str], names: &[&str]| {
            let secret = |name: &&str| EnvSecret { name: (*name).to_owned(), key: String::new() };
            let env = env.iter().map(|&entry| entry.to_owned()).collect();
            env_names(&ContainerSpec { env, env_secrets: names.iter().map(secret).collect(), ..Default::default() })
        };
        assert_eq!(judge(&["A=1", "B"], &["C", "db.password", "_a-1"]), Ok(()));
        let long = "x".repeat(ENV_NAME_BYTES_MAX + 1);
        for name in ["", "a=b", "a\0", "a b", "A*", "*", "1A", "A\n", "$A", "é", long.as_str()] {
            assert!(judge(&[], &[name]).expect_err(name).sentence.contains("not a name"), "{name}");
        }
        for env in ["A=1", "A"] {
            assert!(judge(&[env], &["A"]).expect_err(env).sentence.contains("twice"), "{env}");
        }
        let names: Vec<String> = (0..=ENV_SECRETS_MAX).map(|n| format!("N{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(judge(&[], &names[1..]), Ok(()));
        assert!(judge(&[], &names).expect_err("too many").sentence.contains("101 secret variables"));
    }
}
