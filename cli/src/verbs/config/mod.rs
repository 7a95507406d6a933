//! Verbs about configs.

mod create;
mod inspect;
mod ls;
mod rm;
mod update;

/// Maximum size of the input, in bytes: slightly more than the limit of a config, so that the manager can report the error.
const BYTES_MAX: usize = 1 << 20;

super::verbs! {
    Create(create::Args) => create,
    Ls(ls::Args) => ls,
    Inspect(inspect::Args) => inspect,
    Update(update::Args) => update,
    #[command(alias = "remove")]
    Rm(rm::Args) => rm,
}
