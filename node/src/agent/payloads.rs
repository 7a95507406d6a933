//! Configs and secrets that are templates: the node of the task expands them in memory when it creates the container. A config
//! whose template reads a secret is treated as a secret from then on.

use std::sync::Arc;

use events::spec::template::{Found, LookUp, PayloadError, Source, expand_payload};
use events::spec::{ConfigKey, FileReference};
use events::{Platform, SecretBytes};

use super::executor::{ExecutorError, Workload};
use super::secret_files::not_received;

/// Maximum bytes of an expanded template: the limits of a config and of a secret.
const CONFIG_BYTES_MAX: usize = 1_000 * 1024 - 1;
const SECRET_BYTES_MAX: usize = 500 * 1024 - 1;

/// The workload with its files expanded; its spec is already expanded.
///
/// # Errors
/// Temporary when a referenced payload has not been received yet, fatal when a template cannot be expanded.
pub(super) fn expanded(mut workload: Workload, platform: &Platform) -> Result<Workload, ExecutorError> {
    if workload.templates.is_empty() {
        return Ok(workload);
    }
    let container = workload.container();
    if let Some(absent) = container.secrets.iter().find(|of| !workload.secrets.contains_key(&of.key())) {
        return Err(ExecutorError::Temporary(not_received(absent)));
    }
    let raw = Arc::new(workload.clone());
    let (scope, found_in) = (raw.scope(platform), Arc::clone(&raw));
    let look_up: Arc<LookUp> = Arc::new(move |source, name| look_up(&found_in, source, name));
    for (key, data) in raw.configs.iter().filter(|(key, _)| raw.templates.configs.contains(*key)) {
        let payload =
            expand_payload(data, &scope, &look_up, CONFIG_BYTES_MAX).map_err(|error| of_config(&raw, *key, &error))?;
        if payload.reads_secret {
            workload.configs.remove(key);
            workload.secret_configs.insert(*key, SecretBytes(payload.data));
        } else {
            workload.configs.insert(*key, payload.data.into());
        }
    }
    for (key, data) in raw.secrets.iter().filter(|(key, _)| raw.templates.secrets.contains(*key)) {
        let payload = expand_payload(&data.0, &scope, &look_up, SECRET_BYTES_MAX).map_err(|_| of_secret(&raw, key))?;
        workload.secrets.insert(key.clone(), SecretBytes(payload.data));
    }
    workload.templates = Default::default();
    Ok(workload)
}

/// Resolves what a template function refers to in the task.
fn look_up(workload: &Workload, source: Source, name: &str) -> Option<Found> {
    let container = workload.container();
    let (data, is_secret) = match source {
        Source::Variable => match workload.env_secrets.get(name) {
            Some(value) => (value.0.as_bytes(), true),
            None => {
                let value = container.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))?;
                (value.as_bytes(), false)
            }
        },
        Source::Secret => {
            let reference = container.secrets.iter().find(|of| of.is_at(name))?;
            (workload.secrets.get(&reference.key())?.0.as_slice(), true)
        }
        Source::Config => {
            let reference = container.configs.iter().find(|of| !of.runtime && of.is_at(name))?;
            (workload.configs.get(&reference.key()?)?.as_ref(), false)
        }
    };
    Some(Found { data: data.to_vec(), is_secret })
}

/// The reason becomes part of the task's status, which history keeps: it must not contain a secret.
fn of_config(workload: &Workload, key: ConfigKey, error: &PayloadError) -> ExecutorError {
    let name = workload.container().configs.iter().find(|of| of.key() == Some(key)).map_or("", |of| of.name.as_str());
    let why = if error.reads_secret { "a secret that it reads is not what it expects" } else { error.reason.as_str() };
    ExecutorError::Fatal(format!("the template in config {name} cannot be expanded: {why}"))
}

fn of_secret(workload: &Workload, key: &str) -> ExecutorError {
    let name = workload.container().secrets.iter().find(|of| of.key() == key).map_or("", |of| of.name.as_str());
    ExecutorError::Fatal(format!("the template in secret {name} cannot be expanded for this task"))
}

#[cfg(test)]
mod tests {
    use events::{ConfigId, ConfigReference, ContainerSpec, FileTarget, Id, SecretId, SecretReference, SecretText};

    use super::*;
    use crate::agent::executor::tests::workload;

    fn config(id: u128, target: &str) -> ConfigReference {
        let file = Some(FileTarget { name: target.into(), ..FileTarget::default() });
        let config = Some(ConfigId::from_bits(id));
        ConfigReference { config, name: format!("c{id}"), file, revision: 1, ..ConfigReference::default() }
    }

    fn secret(id: u128, target: &str) -> SecretReference {
        let file = Some(FileTarget { name: target.into(), ..FileTarget::default() });
        let secret = Some(SecretId::from_bits(id));
        SecretReference { secret, name: format!("s{id}"), file, revision: 1, ..SecretReference::default() }
    }

    /// A task with these configs and secrets; those that contain braces are templates.
    fn task(configs: &[(u128, &'static str)], secrets: &[(u128, &'static str)]) -> Workload {
        let mut task = workload(ContainerSpec {
            env: vec!["MODE=fast".into(), "UNSET".into()],
            configs: configs.iter().map(|(id, _)| config(*id, &format!("/c{id}"))).collect(),
            secrets: secrets.iter().map(|(id, _)| secret(*id, &format!("s{id}"))).collect(),
            ..ContainerSpec::default()
        });
        task.env_secrets = [("TOKEN".to_owned(), SecretText("t0ken".to_owned()))].into();
        let is_template = |data: &str| data.contains("{{");
        for (id, data) in configs {
            let key = config(*id, "").key().expect("an id");
            task.configs.insert(key, (*data).into());
            task.templates.configs.extend(is_template(data).then_some(key));
        }
        for (id, data) in secrets {
            let key = secret(*id, "").key();
            task.secrets.insert(key.clone(), SecretBytes(data.as_bytes().to_vec()));
            task.templates.secrets.extend(is_template(data).then_some(key));
        }
        task
    }

    fn expanded_here(task: Workload) -> Result<Workload, ExecutorError> {
        expanded(task, &Platform { architecture: "x86_64".to_owned(), os: "linux".to_owned() })
    }

    #[test]
    fn a_file_is_expanded_and_one_that_read_a_secret_is_in_memory() {
        let table = [
            ("{{.Task.Slot}}@{{.Node.Hostname}}", "1@host-a", false),
            (r#"{{env "MODE"}}{{env "UNSET"}}{{env "NONE"}}"#, "fast", false),
            (r#"{{env "TOKEN"}}"#, "t0ken", true),
            (r#"{{secret "s1"}}"#, "hunter2", true),
            (r#"{{secret "/run/secrets/s2"}}"#, r#"{{secret "s1"}}!"#, true),
            (r#"{{config "/c2"}}"#, "plain", false),
            (r#"{{config "/c3"}}"#, "{{.Task.ID}}", false),
        ];
        for (template, data, in_memory) in table {
            let task = task(
                &[(1, template), (2, "plain"), (3, "{{.Task.ID}}")],
                &[(1, "hunter2"), (2, r#"{{secret "s1"}}!"#)],
            );
            let task = expanded_here(task).expect(template);
            let key = config(1, "").key().expect("an id");
            let found = match task.secret_configs.get(&key) {
                Some(secret) => (secret.0.as_slice(), true),
                None => (task.configs[&key].as_ref(), false),
            };
            assert_eq!(found, (data.as_bytes(), in_memory), "{template}");
            assert_eq!(task.secrets[&secret(2, "").key()].0, b"hunter2!", "secrets are expanded too");
            let names: Vec<&str> = task.memory_files().iter().map(|file| file.reference.name()).collect();
            assert_eq!(names, if in_memory { vec!["s1", "s2", "c1"] } else { vec!["s1", "s2"] });
            assert!(task.templates.is_empty(), "nothing is expanded twice");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_refused_without_a_word_of_a_secret() {
        let table = [
            (r#"{{secret "none"}}"#, "", "the template in config c1 cannot be expanded: the container has no secret"),
            (
                r#"{{secret "s1" | index .Service.Labels | slice "" 7}}"#,
                "",
                "config c1 cannot be expanded: a secret that it reads",
            ),
            ("{{.Service.Labels.none}}", "", "map has no entry for key: none"),
            (
                "{{env \"MODE\"}}",
                "{{secret \"none\"}}hunter3",
                "the template in secret s2 cannot be expanded for this task",
            ),
        ];
        for (in_config, in_secret, words) in table {
            let task = task(&[(1, in_config)], &[(1, "hunter2"), (2, in_secret)]);
            let ExecutorError::Fatal(why) = expanded_here(task).expect_err(in_config) else { panic!("{in_config}") };
            assert!(why.contains(words) && !why.contains("hunter"), "{why}");
        }
    }

    #[test]
    fn a_secret_that_has_not_come_is_awaited() {
        let mut task = task(&[(1, "{{.Task.Slot}}")], &[(1, "hunter2")]);
        task.secrets.clear();
        let ExecutorError::Temporary(why) = expanded_here(task).expect_err("it is not here") else { panic!() };
        assert_eq!(why, "secret s1 has not been received from a manager yet");
    }
}
