//! Configs and secrets that are created, changed and removed.

use commands::{Command, CreateConfig, CreateSecret, RemoveConfig, RemoveSecret, UpdateConfig, UpdateSecret};
use events::{Annotations, ConfigId, ConfigSpec, SecretBytes, SecretId, SecretSpec};
use proptest::prelude::*;

use super::{Core, nth};

/// One command about them. They are named by their position among the existing ones.
#[derive(Debug, Clone)]
pub(super) enum FileStep {
    CreateConfig { label: u8, data: u8 },
    UpdateConfig { config: usize, label: Option<u8>, data: Option<u8> },
    RemoveConfig(usize),
    CreateSecret { label: u8, data: u8 },
    UpdateSecret { secret: usize, label: Option<u8>, data: Option<u8> },
    RemoveSecret(usize),
}

pub(super) fn step() -> impl Strategy<Value = FileStep> {
    let any = any::<usize>;
    let change = || (any(), prop::option::weighted(0.7, 0..3_u8), prop::option::weighted(0.3, 0..3_u8));
    prop_oneof![
        2 => (0..3_u8, 0..3_u8).prop_map(|(label, data)| FileStep::CreateConfig { label, data }),
        3 => change().prop_map(|(config, label, data)| FileStep::UpdateConfig { config, label, data }),
        1 => any().prop_map(FileStep::RemoveConfig),
        2 => (0..3_u8, 0..3_u8).prop_map(|(label, data)| FileStep::CreateSecret { label, data }),
        3 => change().prop_map(|(secret, label, data)| FileStep::UpdateSecret { secret, label, data }),
        1 => any().prop_map(FileStep::RemoveSecret),
    ]
}

/// One of a few names, so that removed names are used again.
fn annotations(name: &str, label: u8) -> Option<Annotations> {
    let labels = [("label".to_owned(), label.to_string())].into();
    Some(Annotations { name: name.to_owned(), labels })
}

fn data(of: u8) -> Vec<u8> {
    vec![b'a' + of; 1 + usize::from(of)]
}

impl Core {
    pub(super) fn take_file(&mut self, step: &FileStep) {
        let Some(command) = self.file_command(step) else { return };
        self.operator(&command);
    }

    fn file_command(&self, step: &FileStep) -> Option<Command> {
        let config = |at: usize| nth(self.cluster.configs.iter().map(|(id, _)| id).collect::<Vec<ConfigId>>(), at);
        let secret = |at: usize| nth(self.cluster.secrets.iter().map(|(id, _)| id).collect::<Vec<SecretId>>(), at);
        Some(match *step {
            FileStep::CreateConfig { label, data: of } => {
                let spec =
                    ConfigSpec { annotations: annotations(&format!("config-{of}"), label), ..Default::default() };
                Command::CreateConfig(CreateConfig { spec, data: data(of) })
            }
            FileStep::UpdateConfig { config: at, label, data: of } => {
                let config = config(at)?;
                let name = self.cluster.configs.get(config)?.spec.name().to_owned();
                let spec =
                    label.map(|label| ConfigSpec { annotations: annotations(&name, label), ..Default::default() });
                Command::UpdateConfig(UpdateConfig { config, spec, data: of.map(data), version: None })
            }
            FileStep::RemoveConfig(at) => Command::RemoveConfig(RemoveConfig { config: config(at)? }),
            FileStep::CreateSecret { label, data: of } => {
                let spec =
                    SecretSpec { annotations: annotations(&format!("secret-{of}"), label), ..Default::default() };
                Command::CreateSecret(CreateSecret { spec, data: SecretBytes(data(of)) })
            }
            FileStep::UpdateSecret { secret: at, label, data: of } => {
                let secret = secret(at)?;
                let name = self.cluster.secrets.get(secret)?.spec.name().to_owned();
                let spec =
                    label.map(|label| SecretSpec { annotations: annotations(&name, label), ..Default::default() });
                let data = of.map(|of| SecretBytes(data(of)));
                Command::UpdateSecret(UpdateSecret { secret, spec, data, version: None })
            }
            FileStep::RemoveSecret(at) => Command::RemoveSecret(RemoveSecret { secret: secret(at)? }),
        })
    }
}
