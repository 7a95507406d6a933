//! Log drivers of containers; services and the cluster have the same flags.

use clap::Args;
use events::Driver;

use crate::failure::{Failure, Kind};
use crate::values::pair;

/// The flags of a log driver.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogFlags {
    /// Log driver of the engine; without --log-opt it has no options
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,

    /// Option of the log driver; replaces all
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    log_opt: Vec<(String, String)>,
}

impl LogFlags {
    /// Changes a log driver; without flags it is unchanged.
    ///
    /// # Errors
    /// When there are options but no driver.
    pub fn apply(&self, driver: &mut Option<Driver>) -> Result<(), Failure> {
        if let Some(name) = &self.log_driver {
            *driver = Some(Driver { name: name.clone(), ..Default::default() });
        }
        if self.log_opt.is_empty() {
            return Ok(());
        }
        let Some(driver) = driver else {
            return Err(Failure::new(Kind::Usage, "--log-opt is given, but there is no log driver to take it")
                .hint("name one with --log-driver"));
        };
        driver.options = self.log_opt.iter().cloned().collect();
        Ok(())
    }
}
